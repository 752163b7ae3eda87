"""Sampled time: by method, code and minute, and of single spans.

One idea: sums are kept of everything, and the code of single spans only where a publisher sends it, because a
row for each span and stack would take ten times the room. As of call paths, minutes are kept for some hours
and hours as long as the rest.
"""

import sqlite3

from ztrace_collector.layout import HOUR_NS, MINUTE_NS, PATH_MINUTES_NS
from ztrace_collector.refusals import TOO_MANY_STACKS, Refusals
from ztrace_collector.tables.code import NO_STACK

#: Rows of a service in a minute, and in an hour, several times those of a busy one; beyond, time is kept
#: without its code.
MAX_MINUTE_ROWS, MAX_HOUR_ROWS = 20_000, 60_000
#: Old rows by minute that a transaction deletes, more than it inserts on average.
MAX_DELETED = 2_000

_ADD = (
    "INSERT INTO {table} ({bucket}, method, stack, state, ns) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET ns = ns + excluded.ns"
)
_ADD_MINUTE = _ADD.format(table="stack_minutes", bucket="minute")
_ADD_HOUR = _ADD.format(table="stack_hours", bucket="hour")
_DELETE = (
    "DELETE FROM stack_minutes WHERE (minute, method, stack, state) IN"
    " (SELECT minute, method, stack, state FROM stack_minutes WHERE minute < ? LIMIT ?)"
)
_HOUR_MINUTES = HOUR_NS // MINUTE_NS


#: (minute or hour, method, stack, state)
_Key = tuple[int, int, int, int]


class _Sums:
    """Rows of one table that belong to the transaction in progress, bounded for each service."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.sums: dict[_Key, int] = {}
        #: Keys of each service in its latest bucket.
        self._latest: dict[str, tuple[int, set[_Key]]] = {}

    def forget(self) -> None:
        self.sums.clear()
        self._latest.clear()

    def add(self, service: str, key: _Key, ns: int, refusals: Refusals) -> None:
        latest, keys = self._latest.get(service, (-1, set()))
        if latest != key[0]:
            keys = set()
            self._latest[service] = key[0], keys
        if key not in keys:
            if len(keys) >= self._limit:
                refusals.note(TOO_MANY_STACKS, f"of {service} at a time")
                bucket, method, _, state = key
                key = bucket, method, NO_STACK, state
            keys.add(key)
        self.sums[key] = self.sums.get(key, 0) + ns


class StackSums:
    """Tables ``stack_minutes`` and ``stack_hours``, with the time of the transaction in progress."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._minutes, self._hours = _Sums(MAX_MINUTE_ROWS), _Sums(MAX_HOUR_ROWS)

    def forget(self) -> None:
        """Drop everything from memory after a rollback."""
        self._minutes.forget()
        self._hours.forget()

    def add(
        self, service: str, minute: int, method: int, stack: int, state: int, ns: int, refusals: Refusals
    ) -> None:
        """Add time of a method of a service; `write` has to follow in the same transaction."""
        self._minutes.add(service, (minute, method, stack, state), ns, refusals)
        self._hours.add(service, (minute // _HOUR_MINUTES, method, stack, state), ns, refusals)

    def write(self, now_ns: int) -> None:
        """Write the added time, and delete some of the minutes that are too old.

        Args:
            now_ns: present time, Unix.
        """
        if not self._minutes.sums:
            return
        for statement, each in ((_ADD_MINUTE, self._minutes), (_ADD_HOUR, self._hours)):
            self._db.executemany(statement, [(*key, ns) for key, ns in sorted(each.sums.items())])
            each.sums.clear()
        # An hour more, for those who read now.
        self._db.execute(_DELETE, ((now_ns - PATH_MINUTES_NS - HOUR_NS) // MINUTE_NS, MAX_DELETED))


class SpanStacks:
    """Table ``span_stacks``, with the rows of the transaction in progress."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._rows: list[tuple[bytes, bytes, int, bytes]] = []

    def forget(self) -> None:
        """Drop everything from memory after a rollback."""
        self._rows.clear()

    def add(self, trace_id: bytes, span_id: bytes, at_ns: int, runs: bytes) -> None:
        """Add a stretch of a span; `write` has to follow in the same transaction."""
        self._rows.append((trace_id, span_id, at_ns, runs))

    def write(self) -> None:
        """Write the added rows."""
        self._db.executemany(
            "INSERT INTO span_stacks (trace_id, span_id, at_ns, runs) VALUES (?, ?, ?, ?)",
            self._rows,
        )
        self._rows.clear()
