"""Sampled time: by method, code and minute, and of single spans.

One idea: sums are kept of everything, and the code of single spans only where a publisher sends it, because a
row for each span and stack would take ten times the room. As of call paths, minutes are kept for some hours
and hours as long as the rest. A minute or hour of a method is one row, since a row for each of its stacks
would take three times the room; its sums by state are read without those by stack.
"""

import sqlite3

import msgpack

from ztrace_collector.layout import HOUR_NS, MINUTE_NS, PATH_MINUTES_NS
from ztrace_collector.refusals import TOO_MANY_STACKS, Refusals
from ztrace_collector.tables.code import NO_STACK

#: Stacks of a service's methods in a minute, and in an hour, several times those of a busy one; beyond, time
#: is kept without its code.
MAX_MINUTE_SUMS, MAX_HOUR_SUMS = 20_000, 60_000
#: Sums counted for these bounds, of all services; beyond, counting starts over.
MAX_COUNTED = 200_000
#: Old rows by minute that a transaction deletes, more than it inserts on average.
MAX_DELETED = 500

_READ = "SELECT sums FROM {table} WHERE {bucket} = ? AND method = ?"
_WRITE = (
    "INSERT INTO {table} ({bucket}, method, run_ns, wait_ns, busy_ns, sums) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT ({bucket}, method) DO UPDATE SET run_ns = run_ns + excluded.run_ns,"
    " wait_ns = wait_ns + excluded.wait_ns, busy_ns = busy_ns + excluded.busy_ns, sums = excluded.sums"
)
_DELETE = "DELETE FROM stack_minutes WHERE id IN (SELECT id FROM stack_minutes WHERE minute < ? LIMIT ?)"
_HOUR_MINUTES = HOUR_NS // MINUTE_NS

#: Minute or hour, and method; stack and state.
_Row = tuple[int, int]
_Code = tuple[int, int]


class _Table:
    """Rows of one table, with the time of the transaction in progress, bounded for each service."""

    def __init__(self, db: sqlite3.Connection, table: str, bucket: str, limit: int) -> None:
        self._db = db
        self._read, self._write = (each.format(table=table, bucket=bucket) for each in (_READ, _WRITE))
        self._limit = limit
        #: Microseconds by stack and state, of each row that is changed.
        self._added: dict[_Row, dict[_Code, int]] = {}
        #: Hashes of the rows and code of each service in its latest minute or hour, which take little memory.
        self._latest: dict[str, tuple[int, set[int]]] = {}
        self._counted = 0

    def forget(self) -> None:
        self._added.clear()
        self._latest.clear()

    def add(self, service: str, row: _Row, code: _Code, us: int, refusals: Refusals) -> None:
        latest, keys = self._latest.get(service, (-1, set()))
        if latest != row[0]:
            keys = set()
            self._latest[service] = row[0], keys
        if hash((row, code)) not in keys:
            if len(keys) >= self._limit:
                refusals.note(TOO_MANY_STACKS, f"of {service} at a time")
                code = NO_STACK, code[1]
            keys.add(hash((row, code)))
            self._counted += 1
            if self._counted > MAX_COUNTED:
                self._latest.clear()
                self._counted = 0
        sums = self._added.setdefault(row, {})
        sums[code] = sums.get(code, 0) + us

    def write(self) -> None:
        for row, added in self._added.items():
            states = [0, 0, 0]
            sums: dict[_Code, int] = {}
            found = self._db.execute(self._read, row).fetchone()
            if found is not None:
                flat = msgpack.unpackb(found[0])
                sums = dict(zip(zip(flat[::3], flat[1::3], strict=True), flat[2::3], strict=True))
            for code, us in added.items():
                states[code[1]] += 1_000 * us
                sums[code] = sums.get(code, 0) + us
            flat = [each for (stack, state), us in sums.items() for each in (stack, state, us)]
            self._db.execute(self._write, (*row, *states, msgpack.packb(flat)))
        self._added.clear()


class StackSums:
    """Tables ``stack_minutes`` and ``stack_hours``, with the time of the transaction in progress."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._minutes = _Table(db, "stack_minutes", "minute", MAX_MINUTE_SUMS)
        self._hours = _Table(db, "stack_hours", "hour", MAX_HOUR_SUMS)
        self._is_changed = False

    def forget(self) -> None:
        """Drop everything from memory after a rollback."""
        self._minutes.forget()
        self._hours.forget()

    def add(
        self, service: str, minute: int, method: int, stack: int, state: int, us: int, refusals: Refusals
    ) -> None:
        """Add time of a method of a service; `write` has to follow in the same transaction."""
        self._minutes.add(service, (minute, method), (stack, state), us, refusals)
        self._hours.add(service, (minute // _HOUR_MINUTES, method), (stack, state), us, refusals)
        self._is_changed = True

    def write(self, now_ns: int) -> None:
        """Write the added time, and delete some of the minutes that are too old.

        Args:
            now_ns: present time, Unix.
        """
        if self._is_changed:
            self._is_changed = False
            self._minutes.write()
            self._hours.write()
            # An hour more, for those who read now.
            self._db.execute(_DELETE, ((now_ns - PATH_MINUTES_NS - HOUR_NS) // MINUTE_NS, MAX_DELETED))


class SpanStacks:
    """Table ``span_stacks``, with the rows of the transaction in progress."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._rows: list[tuple[bytes, bytes, int, int, bytes]] = []

    def forget(self) -> None:
        """Drop everything from memory after a rollback."""
        self._rows.clear()

    def add(self, instance: int, trace_id: bytes, span_id: bytes, at_ns: int, runs: bytes) -> None:
        """Add a stretch of a span; `write` has to follow in the same transaction."""
        self._rows.append((trace_id, span_id, instance, at_ns, runs))

    def write(self) -> None:
        """Write the added rows."""
        self._db.executemany(
            "INSERT INTO span_stacks (trace_id, span_id, instance, at_ns, runs) VALUES (?, ?, ?, ?, ?)",
            self._rows,
        )
        self._rows.clear()
