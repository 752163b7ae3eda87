"""Exceptions as stored, and the spans that each one passed.

One idea: only origins are counted, and each is identified by its trace and span. Other records that name an
origin, from a span it passed, from the root it ended uncaught, or from an exception group that contains it,
are joined with it as soon as both are stored, in either order, and once, however often they are reported.
"""

import json
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from ztrace.records import KIND_NAMES
from ztrace_collector.checking.columns import Columns
from ztrace_collector.checking.failures import MAX_ORIGINS, Failure, read_failure
from ztrace_collector.refusals import Refusals
from ztrace_collector.tables.groups import Groups, Origin
from ztrace_collector.tables.rows import Insert
from ztrace_collector.tables.samples import Sample

_FIND = (
    "SELECT exception_group, at_ns FROM exceptions WHERE origin_span_id = :span_id AND span_id = :span_id"
    " AND trace_id = :trace_id AND origin_trace_id = :trace_id ORDER BY id LIMIT 1"
)

#: Trace id and span id of an origin.
_Key = tuple[bytes, bytes]


class _Occurrence(NamedTuple):
    """Exception in a span.

    Attributes:
        key: the origin.
        others: span ids of further origins in the same trace, as of members of a group.
    """

    failure: Failure
    trace_id: bytes
    span_id: bytes
    key: _Key
    others: tuple[bytes, ...]
    is_root: bool
    service: str
    name: str
    kind: str
    at_ns: int

    @property
    def is_origin(self) -> bool:
        return self.key == (self.trace_id, self.span_id)

    @property
    def leaves_unhandled(self) -> bool:
        """True if no caller waits for the span, so that its exception goes no further."""
        return self.is_root or self.kind == "consumer"


class _Row(NamedTuple):
    """Row of ``exceptions``, from which the statement derives."""

    trace_id: bytes
    span_id: bytes
    origin_trace_id: bytes
    origin_span_id: bytes
    exception_group: int | None
    how: str
    type: str
    message: str
    frames: str
    causes: str
    at_ns: int
    notes: str
    members: str
    is_root: int
    service: str
    other_origins: str | None


_INSERT = Insert("exceptions", ", ".join(_Row._fields))


class _Found(NamedTuple):
    """Stored origin: its group, None if unknown, and its time."""

    group: int | None
    at_ns: int


class Exceptions:
    """Tables ``exceptions`` and ``uncaught_exceptions``, and the tables of `Groups`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._groups = Groups(db)
        self._occurrences: list[_Occurrence] = []
        self._found: dict[_Key, _Found | None] = {}

    def forget(self) -> None:
        """Drop everything from memory after a rollback."""
        self._occurrences.clear()
        self._found.clear()
        self._groups.forget()

    def add(self, service: str, columns: Columns, refusals: Refusals) -> None:
        """Add a batch's exceptions; `write` has to follow in the same transaction."""
        if columns.exception.count(None) == len(columns.exception):
            return
        for position in [at for at, fields in enumerate(columns.exception) if fields is not None]:
            trace_id, span_id = columns.trace_id[position], columns.span_id[position]
            failure = read_failure(columns.exception[position], trace_id, span_id, refusals)
            if failure is None:
                continue
            key, *others = dict.fromkeys(failure.origins())
            self._occurrences.append(
                _Occurrence(
                    failure,
                    trace_id,
                    span_id,
                    key,
                    tuple([other[1] for other in others if other[0] == trace_id][:MAX_ORIGINS]),
                    columns.parent_id[position] is None,
                    service,
                    columns.name[position],
                    KIND_NAMES[columns.kind[position]],
                    columns.end_ns[position],
                )
            )

    def write(self) -> None:
        """Write the exceptions, and their effects on groups and on exceptions stored before."""
        if not self._occurrences:
            return
        occurrences, self._occurrences = self._occurrences, []
        new = self._count_origins(occurrences)
        self._insert(occurrences)
        self._find_uncaught(occurrences, new)
        self._groups.write()
        self._found.clear()

    def _count_origins(self, occurrences: Sequence[_Occurrence]) -> list[_Key]:
        """Count new origins, and assign their groups to exceptions that were stored before them."""
        new: list[_Key] = []
        for occurrence in occurrences:
            key = occurrence.key
            if not occurrence.is_origin or self._find(key) is not None:
                continue
            sample = Sample(occurrence.at_ns, *key)
            origin = Origin(occurrence.failure, occurrence.service, occurrence.name, occurrence.kind, sample)
            group = self._groups.add(origin)
            self._found[key] = _Found(group, occurrence.at_ns)
            new.append(key)
            waiting = self._db.execute(
                "UPDATE exceptions SET exception_group = ? WHERE origin_span_id = ? AND origin_trace_id = ?"
                " AND exception_group IS NULL RETURNING service",
                (group, key[1], key[0]),
            ).fetchall()
            for (service,) in waiting:
                self._groups.pass_service(group, service)
        return new

    def _find(self, key: _Key) -> _Found | None:
        if key not in self._found:
            row = self._db.execute(_FIND, {"trace_id": key[0], "span_id": key[1]}).fetchone()
            self._found[key] = None if row is None else _Found(*row)
        return self._found[key]

    def _insert(self, occurrences: Sequence[_Occurrence]) -> None:
        rows = []
        for occurrence in occurrences:
            failure, found = occurrence.failure, self._find(occurrence.key)
            group = None if found is None else found.group
            if group is not None:
                self._groups.pass_service(group, occurrence.service)
            others = [other.hex() for other in occurrence.others]
            rows.append(
                _Row(
                    trace_id=occurrence.trace_id,
                    span_id=occurrence.span_id,
                    origin_trace_id=occurrence.key[0],
                    origin_span_id=occurrence.key[1],
                    exception_group=group,
                    how=failure.how,
                    type=failure.type,
                    message=failure.message,
                    frames=failure.frames_text,
                    causes=failure.causes_text,
                    at_ns=occurrence.at_ns,
                    notes=failure.notes_text,
                    members=failure.members_text,
                    is_root=int(occurrence.is_root),
                    service=occurrence.service,
                    other_origins=json.dumps(others) if others else None,
                )
            )
        _INSERT.write(self._db, rows, len(rows))

    def _find_uncaught(self, occurrences: Sequence[_Occurrence], new: Sequence[_Key]) -> None:
        """Find the origins that are now known to be uncaught.

        A member of an exception group is uncaught once the group's own origin is.
        """
        for key in new:
            if self._is_uncaught(key):
                self._count_uncaught(key)
        reached: list[_Key] = []
        for occurrence in occurrences:
            trace_id = occurrence.trace_id
            if occurrence.leaves_unhandled and occurrence.key[0] == trace_id:
                reached.append(occurrence.key)
            if occurrence.others and (occurrence.leaves_unhandled or self._is_uncaught(occurrence.key)):
                reached.extend((trace_id, other) for other in occurrence.others)
        while reached:
            key = reached.pop()
            if not self._db.execute("INSERT OR IGNORE INTO uncaught_exceptions VALUES (?, ?)", key).rowcount:
                continue
            self._count_uncaught(key)
            for (others,) in self._db.execute(
                "SELECT other_origins FROM exceptions WHERE origin_span_id = ? AND trace_id = ?"
                " AND other_origins IS NOT NULL",
                (key[1], key[0]),
            ):
                reached.extend((key[0], bytes.fromhex(other)) for other in json.loads(others))

    def _is_uncaught(self, key: _Key) -> bool:
        return bool(
            self._db.execute(
                "SELECT 1 FROM uncaught_exceptions WHERE trace_id = ? AND origin_span_id = ?", key
            ).fetchone()
        )

    def _count_uncaught(self, key: _Key) -> None:
        found = self._find(key)
        if found is not None and found.group is not None:
            self._groups.count_uncaught(found.group, found.at_ns)
