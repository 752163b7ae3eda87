"""Exceptions as stored, and the spans that each one passed.

One idea: only origins are counted, and each is identified by its trace and span. Other records that name an
origin, from a span it passed, from the root it ended uncaught, or from an exception group that contains it,
are joined with it as soon as both are stored, in either order, and once, however often they are reported.
Of senders that name no origins, `ztrace_collector.tables.origins` finds them. A span that failed without an
exception is stored like one with an exception of no type.
"""

import json
import sqlite3
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ztrace.records import ERROR, KIND_NAMES, PASSED, RAISED
from ztrace_collector.checking.columns import Columns
from ztrace_collector.checking.failures import MAX_ORIGINS, Failure, read_failure
from ztrace_collector.checking.statuses import read_reason
from ztrace_collector.refusals import Refusals
from ztrace_collector.tables.derived import Move, Regrouped, find_derived
from ztrace_collector.tables.groups import Groups, Origin
from ztrace_collector.tables.occurrences import Occurrence
from ztrace_collector.tables.origins import CORRECTED, DERIVED, TOLD, Key
from ztrace_collector.tables.rows import Insert
from ztrace_collector.tables.samples import Sample
from ztrace_collector.tables.shared import Adoption

_FIND = (
    "SELECT exception_group, at_ns FROM exceptions WHERE origin_span_id = :span_id AND span_id = :span_id"
    " AND trace_id = :trace_id AND origin_trace_id = :trace_id ORDER BY id LIMIT 1"
)

#: Part of the details of a span whose exception was an event: its sender records one wherever it passes.
_FROM_EVENT = '"became_exception":true'


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
    parent_id: bytes | None
    kind: str
    instance: int
    derived: int


_MOVE = (
    "UPDATE exceptions SET origin_trace_id = ?, origin_span_id = ?, exception_group = ?,"
    f" how = CASE how WHEN '{RAISED}' THEN '{PASSED}' ELSE how END,"
    f" derived = CASE WHEN how = '{RAISED}' AND derived = {TOLD} THEN {CORRECTED} ELSE derived END"
    " WHERE id = ? OR (origin_span_id = ? AND origin_trace_id = ?) RETURNING service"
)
_STILL_UNCAUGHT = """
SELECT 1 FROM exceptions
    WHERE origin_trace_id = :trace_id AND origin_span_id = :span_id AND trace_id = :trace_id
        AND (parent_id IS NULL OR kind = 'consumer')
UNION ALL SELECT 1 FROM exceptions WHERE trace_id = :trace_id AND other_origins LIKE :others LIMIT 1
"""
_INSERT = Insert("exceptions", ", ".join(_Row._fields))


class _Found(NamedTuple):
    """Stored origin: its group, None if unknown, and its time."""

    group: int | None
    at_ns: int


class Exceptions:
    """Tables ``exceptions`` and ``uncaught_exceptions``, and the tables of `Groups`."""

    def __init__(self, db: sqlite3.Connection, unseal: Callable[[Sequence[bytes]], None]) -> None:
        self._db = db
        self._groups = Groups(db, unseal)
        self._occurrences: list[Occurrence] = []
        self._found: dict[Key, _Found | None] = {}
        #: Traces in which spans got other parents, and origins that may not be uncaught any more.
        self._changed: dict[bytes, None] = {}
        self._doubtful: set[Key] = set()

    def forget(self) -> None:
        """Drop everything from memory after a rollback."""
        self._occurrences.clear()
        self._changed.clear()
        self._doubtful.clear()
        self._found.clear()
        self._groups.forget()

    def add(self, instances: Sequence[int], service: str, columns: Columns, refusals: Refusals) -> None:
        """Add a batch's exceptions and failures; `write` has to follow in the same transaction.

        Args:
            instances: the process of each span.
            service: the service of all.
            columns: the spans.
            refusals: counts corrections.
        """
        if columns.exception.count(None) == len(columns.exception) and ERROR not in columns.status:
            return
        for position, (fields, status) in enumerate(zip(columns.exception, columns.status, strict=True)):
            if fields is None and status != ERROR:
                continue
            trace_id, span_id = columns.trace_id[position], columns.span_id[position]
            details = columns.details[position]
            failure = None if fields is None else read_failure(fields, trace_id, span_id, refusals)
            if failure is None:
                if status != ERROR:
                    continue
                reason = read_reason(details, columns.attributes[position])
                failure = Failure("", reason, RAISED, trace_id, span_id, (), (), (), ())
            key, *others = dict.fromkeys(failure.origins())
            from_event = failure.how == RAISED and details is not None and _FROM_EVENT in details
            self._occurrences.append(
                Occurrence(
                    failure,
                    trace_id,
                    span_id,
                    columns.parent_id[position],
                    instances[position],
                    key,
                    tuple([other[1] for other in others if other[0] == trace_id][:MAX_ORIGINS]),
                    DERIVED if from_event or not failure.type else TOLD,
                    service,
                    columns.name[position],
                    KIND_NAMES[columns.kind[position]],
                    columns.end_ns[position],
                )
            )

    def adopt(self, adoptions: Sequence[Adoption]) -> None:
        """Give spans other parents, in exceptions added before; `write` has to follow in the transaction."""
        for adoption in adoptions:
            self._changed[adoption.trace_id] = None
            self._occurrences = [
                each._replace(parent_id=adoption.new) if _is_adopted(each, adoption) else each
                for each in self._occurrences
            ]
            values: list[object] = [adoption.trace_id, adoption.span_id]
            condition = "span_id = ?"
            if adoption.span_id is None:
                condition = "parent_id = ? AND instance = ? AND span_id <> ?"
                values = [adoption.trace_id, adoption.old, adoption.instance, adoption.new]
            condition = f"WHERE trace_id = ? AND {condition}"
            self._doubtful.update(
                self._db.execute(
                    f"SELECT origin_trace_id, origin_span_id FROM exceptions {condition} AND is_root = 1",
                    values,
                )
            )
            self._db.execute(
                f"UPDATE exceptions SET parent_id = ?, is_root = 0 {condition}", (adoption.new, *values)
            )

    def write(self, refusals: Refusals) -> None:
        """Write the exceptions, and their effects on groups and on exceptions stored before."""
        if not self._occurrences and not self._changed:
            return
        occurrences, self._occurrences = self._occurrences, []
        moves, regrouped = self._derive(occurrences)
        new = self._count_origins(occurrences, refusals)
        self._insert(occurrences)
        self._find_uncaught(occurrences, new, [*self._move(moves), *self._regroup(regrouped)])
        for key in self._doubtful:
            self._uncount_uncaught(key)
        self._groups.write()
        self._found.clear()
        self._changed.clear()
        self._doubtful.clear()

    def _derive(self, occurrences: list[Occurrence]) -> tuple[list[Move], list[Regrouped]]:
        """Replace the origins of exceptions whose senders name none; return the same for stored ones."""
        places, moves, regrouped = find_derived(self._db, occurrences, self._changed)
        for place, (key, others) in places.items():
            occurrence = occurrences[place]
            if occurrence.failure.how == RAISED and occurrence.key != key:
                failure = occurrence.failure._replace(how=PASSED)
                sender = occurrence.derived or CORRECTED
                occurrence = occurrence._replace(failure=failure, derived=sender)
            occurrences[place] = occurrence._replace(key=key, others=others)
        return moves, regrouped

    def _regroup(self, regrouped: Sequence[Regrouped]) -> list[Key]:
        """Write the origins of members of stored groups.

        Returns:
            The origins that are now known to be uncaught.
        """
        reached: list[Key] = []
        for each in regrouped:
            self._db.execute(
                "UPDATE exceptions SET other_origins = ? WHERE id = ?", (_as_json(each.others), each.id)
            )
            self._doubtful.update((each.trace_id, other) for other in each.before)
            if each.leaves_unhandled or self._is_uncaught(each.key):
                reached += [(each.trace_id, other) for other in each.others]
        return reached

    def _move(self, moves: Sequence[Move]) -> list[Key]:
        """Write the origins of stored exceptions, and uncount those that are no origins any more.

        Returns:
            The origins that are now known to be uncaught.
        """
        gone: set[Key] = set()
        for move in moves:
            if move.before != move.own or move.own in gone:
                continue
            gone.add(move.own)
            self._found.pop(move.own, None)
            if move.group is not None:
                self._groups.remove(move.group, Sample(move.at_ns, *move.own))
                condition = "WHERE trace_id = ? AND origin_span_id = ?"
                if self._db.execute(f"DELETE FROM uncaught_exceptions {condition}", move.own).rowcount:
                    self._groups.count_uncaught(move.group, move.at_ns, -1)
        reached, left = [], set()
        for move in moves:
            found = self._find(move.key)
            group = None if found is None else found.group
            for (service,) in self._db.execute(
                _MOVE, (*move.key, group, move.id, *move.own[::-1])
            ).fetchall():
                if group is not None:
                    self._groups.pass_service(group, service)
            if move.leaves_unhandled and move.key[0] == move.own[0]:
                reached.append(move.key)
                left.add(move.before)
        for key in left - gone:
            self._uncount_uncaught(key)
        return reached

    def _uncount_uncaught(self, key: Key) -> None:
        """Uncount an origin as uncaught, unless an exception that left the trace unhandled still names it."""
        values = {"trace_id": key[0], "span_id": key[1], "others": f"%{key[1].hex()}%"}
        if self._db.execute(_STILL_UNCAUGHT, values).fetchone():
            return
        found = self._find(key)
        condition = "WHERE trace_id = ? AND origin_span_id = ?"
        gone = self._db.execute(f"DELETE FROM uncaught_exceptions {condition}", key).rowcount
        if gone and found is not None and found.group is not None:
            self._groups.count_uncaught(found.group, found.at_ns, -1)

    def _count_origins(self, occurrences: Sequence[Occurrence], refusals: Refusals) -> list[Key]:
        """Count new origins, and assign their groups to exceptions that were stored before them."""
        new: list[Key] = []
        for occurrence in occurrences:
            key = occurrence.key
            if not occurrence.is_origin or self._find(key) is not None:
                continue
            sample = Sample(occurrence.at_ns, *key)
            origin = Origin(occurrence.failure, occurrence.service, occurrence.name, occurrence.kind, sample)
            group = self._groups.add(origin, refusals)
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

    def _find(self, key: Key) -> _Found | None:
        if key not in self._found:
            row = self._db.execute(_FIND, {"trace_id": key[0], "span_id": key[1]}).fetchone()
            self._found[key] = None if row is None else _Found(*row)
        return self._found[key]

    def _insert(self, occurrences: Sequence[Occurrence]) -> None:
        rows = []
        for occurrence in occurrences:
            failure, found = occurrence.failure, self._find(occurrence.key)
            group = None if found is None else found.group
            if group is not None:
                self._groups.pass_service(group, occurrence.service)
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
                    is_root=int(occurrence.parent_id is None),
                    service=occurrence.service,
                    other_origins=_as_json(occurrence.others),
                    parent_id=occurrence.parent_id,
                    kind=occurrence.kind,
                    instance=occurrence.instance,
                    derived=occurrence.derived,
                )
            )
        _INSERT.write(self._db, rows, len(rows))

    def _find_uncaught(
        self, occurrences: Sequence[Occurrence], new: Sequence[Key], reached: list[Key]
    ) -> None:
        """Find the origins that are now known to be uncaught, beside those reached already.

        A member of an exception group is uncaught once the group's own origin is.
        """
        for key in new:
            if self._is_uncaught(key):
                self._count_uncaught(key)
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
                "SELECT other_origins FROM exceptions WHERE origin_trace_id = ? AND origin_span_id = ?"
                " AND trace_id = origin_trace_id AND other_origins IS NOT NULL",
                key,
            ):
                reached.extend((key[0], bytes.fromhex(other)) for other in json.loads(others))

    def _is_uncaught(self, key: Key) -> bool:
        return bool(
            self._db.execute(
                "SELECT 1 FROM uncaught_exceptions WHERE trace_id = ? AND origin_span_id = ?", key
            ).fetchone()
        )

    def _count_uncaught(self, key: Key) -> None:
        found = self._find(key)
        if found is not None and found.group is not None:
            self._groups.count_uncaught(found.group, found.at_ns)


def _as_json(spans: Sequence[bytes]) -> str | None:
    return json.dumps([span_id.hex() for span_id in spans]) if spans else None


def _is_adopted(occurrence: Occurrence, adoption: Adoption) -> bool:
    if occurrence.trace_id != adoption.trace_id or occurrence.span_id == adoption.new:
        return False
    if adoption.span_id is not None:
        return occurrence.span_id == adoption.span_id
    return occurrence.parent_id == adoption.old and occurrence.instance == adoption.instance
