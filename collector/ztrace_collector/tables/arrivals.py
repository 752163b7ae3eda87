"""First trace of each hour: the table ``arrivals``, by which traces expire.

One idea: ids of traces are given in order of arrival, so one row an hour tells the age of all traces. Their
own times are those of the services' clocks, which may be wrong.
"""

import sqlite3

from ztrace_collector.layout import HOUR_NS


class Arrivals:
    """Table ``arrivals``."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.forget()

    def forget(self) -> None:
        """Read the latest hour again after a rollback."""
        (self._hour,) = self._db.execute("SELECT coalesce(max(hour), -1) FROM arrivals").fetchone()

    def write(self, trace: int, arrival_ns: int) -> None:
        """Record that a trace with this id arrived, the first of its transaction."""
        hour = arrival_ns // HOUR_NS
        if hour < self._hour:
            # The clock was ahead when these arrived: count them as arriving now.
            (trace,) = self._db.execute(
                "SELECT min(first_trace) FROM arrivals WHERE hour > ?", (hour,)
            ).fetchone()
            self._db.execute("DELETE FROM arrivals WHERE hour > ?", (hour,))
        if hour != self._hour:
            self._db.execute("INSERT OR IGNORE INTO arrivals VALUES (?, ?)", (hour, trace))
            self._hour = hour
