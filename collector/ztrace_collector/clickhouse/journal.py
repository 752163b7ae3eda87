"""Sending to ClickHouse as the collector sees it: its destination and its place in the journal.

One idea: the place belongs to the ClickHouse database, which has an id of its own, not to its address. A
database that was made again gets everything from the first span, and one that has moved goes on.
"""

import sqlite3
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from ztrace_collector.clickhouse.address import ClickHouseAddress
from ztrace_collector.clickhouse.changes import follow_changes, ignore_changes, note_all
from ztrace_collector.clickhouse.messages import CONFIRMATION, Orders, Step, read_line
from ztrace_collector.storing.waiting import PROTOCOL
from ztrace_collector.tables.spans import last_span_id

_RETIRE = "UPDATE destinations SET in_use = 0 WHERE in_use <> 0 AND protocol = ? AND url <> ?"


class ClickHouseSending:
    """The `ztrace_collector.forwarding.forwarder.Sending` of everything to one ClickHouse database."""

    module = "ztrace_collector.clickhouse.process"
    option = "--clickhouse"

    def __init__(self, database: Path, address: ClickHouseAddress, thin: float | None = None) -> None:
        """Store the settings.

        Args:
            database: the collector's file.
            address: where to send.
            thin: share of ordinary traces to keep there; None to keep all.
        """
        self._database = database
        self._address = address
        self._thin = thin

    def register(self, db: sqlite3.Connection) -> bytes:
        """Write that the destination is in use, follow the rows' changes, and return the orders."""
        url = self._address.url
        db.execute(_RETIRE, (PROTOCOL, url))
        (key,) = db.execute(
            "INSERT INTO destinations (url, protocol, in_use, place, sent, refused, skipped, since_ns)"
            " VALUES (?, ?, 1, 0, 0, 0, 0, ?) ON CONFLICT (url) DO UPDATE SET in_use = 1 RETURNING id",
            (url, PROTOCOL, time.time_ns()),
        ).fetchone()
        follow_changes(db)
        return Orders(self._database, int(key), self._address, self._thin).to_line()

    def read_line(self, line: bytes) -> Step | str:
        """Parse a line of the process: a step, or a line for the user."""
        return read_line(line)

    def write_reports(self, db: sqlite3.Connection, reports: Sequence[Step]) -> None:
        """Apply steps in their order."""
        for step in reports:
            if step.error is not None:
                db.execute(
                    "UPDATE destinations SET error = ?, error_ns = ?,"
                    " failing_ns = coalesce(failing_ns, ?) WHERE id = ?",
                    (step.error, step.at_ns, step.at_ns, step.destination),
                )
            else:
                _advance(db, step)

    def confirm(self, reports: Sequence[Step]) -> bytes:
        """Return a line for each step that is written."""
        return CONFIRMATION * len(reports)

    def read_behind(self, db: sqlite3.Connection) -> list[tuple[str, int]]:
        """Return the destination if it has unsent spans, and their number."""
        last_id = last_span_id(db)
        return db.execute(
            "SELECT url, :last - place FROM destinations"
            " WHERE in_use AND place < :last AND protocol = :protocol",
            {"last": last_id, "protocol": PROTOCOL},
        ).fetchall()


def retire(db: sqlite3.Connection) -> None:
    """Mark ClickHouse as unused, and stop following the rows' changes."""
    db.execute(_RETIRE, (PROTOCOL, ""))
    ignore_changes(db)


def _advance(db: sqlite3.Connection, step: Step) -> None:
    if step.begins:
        _begin(db, step)
    else:
        db.execute(
            "UPDATE shipping SET place = :place, block_end = :block_end, block_ms = :block_ms,"
            " complete = coalesce(:complete, complete),"
            " complete_ns = iif(:complete IS NULL, complete_ns, :at_ns) WHERE engine = :engine",
            step._asdict(),
        )
    db.execute(
        "UPDATE destinations SET place = (SELECT place FROM shipping WHERE engine = :engine),"
        " sent = sent + :sent, skipped = skipped + :skipped, success_ns = :at_ns, failing_ns = NULL"
        " WHERE id = :destination",
        step._asdict(),
    )
    if step.changes is not None:
        db.execute("DELETE FROM changes WHERE id <= ?", (step.changes,))


def _begin(db: sqlite3.Connection, step: Step) -> None:
    """Make an engine the one that the destination leads to."""
    known = db.execute("SELECT destination FROM shipping WHERE engine = ?", (step.engine,)).fetchone()
    if known == (step.destination,):
        return
    db.execute("UPDATE shipping SET destination = NULL WHERE destination = ?", (step.destination,))
    db.execute(
        "INSERT INTO shipping (engine, journal, destination, place, block_ms, complete, complete_ns)"
        " VALUES (?, ?, ?, 0, 0, 0, 0) ON CONFLICT (engine) DO UPDATE SET destination = excluded.destination",
        (step.engine, uuid.uuid4().hex, step.destination),
    )
    # What has changed was noted for another engine, if at all.
    note_all(db)
