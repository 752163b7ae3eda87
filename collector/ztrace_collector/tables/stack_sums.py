"""Sampled time: by method, code and minute, and of single spans.

One idea: sums are kept of everything, and the code of single spans only where a publisher sends it, because a
row for each span and stack would take ten times the room. As of call paths, minutes are kept for some hours
and hours as long as the rest. A minute of a method is one row, since a row for each of its stacks would take
three times the room.
"""

import sqlite3
from collections.abc import Mapping

import msgpack

from ztrace_collector.layout import HOUR_NS, MINUTE_NS, PATH_MINUTES_NS
from ztrace_collector.refusals import TOO_MANY_STACKS, Refusals
from ztrace_collector.tables.code import NO_STACK

#: Stacks of a service's methods in a minute, and in an hour, several times those of a busy one; beyond, time
#: is kept without its code.
MAX_MINUTE_SUMS, MAX_HOUR_SUMS = 20_000, 60_000
#: Old rows by minute that a transaction deletes, more than it inserts on average.
MAX_DELETED = 2_000

_ADD_HOUR = (
    "INSERT INTO stack_hours (hour, method, stack, state, ns) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET ns = ns + excluded.ns"
)
_READ_MINUTE = "SELECT sums FROM stack_minutes WHERE minute = ? AND method = ?"
_WRITE_MINUTE = (
    "INSERT INTO stack_minutes (minute, method, sums) VALUES (?, ?, ?)"
    " ON CONFLICT (minute, method) DO UPDATE SET sums = excluded.sums"
)
_DELETE = "DELETE FROM stack_minutes WHERE id IN (SELECT id FROM stack_minutes WHERE minute < ? LIMIT ?)"
_HOUR_MINUTES = HOUR_NS // MINUTE_NS

#: (minute or hour, method, stack, state)
_Key = tuple[int, int, int, int]


class _Sums:
    """Sums that belong to the transaction in progress, in microseconds, bounded for each service."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.sums: dict[_Key, int] = {}
        #: Keys of each service in its latest minute or hour.
        self._latest: dict[str, tuple[int, set[_Key]]] = {}

    def forget(self) -> None:
        self.sums.clear()
        self._latest.clear()

    def add(self, service: str, key: _Key, us: int, refusals: Refusals) -> None:
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
        self.sums[key] = self.sums.get(key, 0) + us


class StackSums:
    """Tables ``stack_minutes`` and ``stack_hours``, with the time of the transaction in progress."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._minutes, self._hours = _Sums(MAX_MINUTE_SUMS), _Sums(MAX_HOUR_SUMS)

    def forget(self) -> None:
        """Drop everything from memory after a rollback."""
        self._minutes.forget()
        self._hours.forget()

    def add(
        self, service: str, minute: int, method: int, stack: int, state: int, us: int, refusals: Refusals
    ) -> None:
        """Add time of a method of a service; `write` has to follow in the same transaction."""
        self._minutes.add(service, (minute, method, stack, state), us, refusals)
        self._hours.add(service, (minute // _HOUR_MINUTES, method, stack, state), us, refusals)

    def write(self, now_ns: int) -> None:
        """Write the added time, and delete some of the minutes that are too old.

        Args:
            now_ns: present time, Unix.
        """
        if not self._minutes.sums:
            return
        rows: dict[tuple[int, int], dict[tuple[int, int], int]] = {}
        for (minute, method, stack, state), us in self._minutes.sums.items():
            rows.setdefault((minute, method), {})[stack, state] = us
        for key, added in rows.items():
            self._write_minute(key, added)
        hours = sorted(self._hours.sums.items())
        self._db.executemany(_ADD_HOUR, [(*key, 1_000 * us) for key, us in hours])
        self._minutes.sums.clear()
        self._hours.sums.clear()
        # An hour more, for those who read now.
        self._db.execute(_DELETE, ((now_ns - PATH_MINUTES_NS - HOUR_NS) // MINUTE_NS, MAX_DELETED))

    def _write_minute(self, key: tuple[int, int], added: Mapping[tuple[int, int], int]) -> None:
        """Add times by stack and state to the row of a minute and method."""
        sums = dict(added)
        found = self._db.execute(_READ_MINUTE, key).fetchone()
        if found is not None:
            flat = msgpack.unpackb(found[0])
            for stack, state, us in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
                sums[stack, state] = sums.get((stack, state), 0) + us
        # In order, so that equal times make equal rows.
        flat = [each for (stack, state), us in sorted(sums.items()) for each in (stack, state, us)]
        self._db.execute(_WRITE_MINUTE, (*key, msgpack.packb(flat)))


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
