"""Exceptions whose origins are found in the call tree, among new and stored ones.

One idea: an exception is counted where its senders' spans, as far as they are known, say that it began. A
span further in may arrive later, in another request or from another process; then the exception moves there.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ztrace_collector.tables.occurrences import Occurrence
from ztrace_collector.tables.origins import DERIVED, Failed, Key, find_key, find_origins, follow_all

#: Failed spans of one trace among which origins are searched, the newest; and of all traces of a transaction,
#: which bounds its time.
MAX_FAILED, MAX_OF_ALL = 2_000, 20_000


class Move(NamedTuple):
    """Stored exception that has another origin now.

    Attributes:
        id: its row.
        own: trace id and span id of its span.
        before: the origin before.
        key: the origin now.
        group: its group before; None if unknown.
        leaves_unhandled: no caller waits for its span.
    """

    id: int
    own: Key
    before: Key
    key: Key
    group: int | None
    at_ns: int
    leaves_unhandled: bool


class Regrouped(NamedTuple):
    """Stored exception group whose members have other origins now.

    Attributes:
        id: its row.
        trace_id: of its span.
        key: its own origin.
        before: spans in which members began, as known before.
        others: the same now.
        leaves_unhandled: no caller waits for its span.
    """

    id: int
    trace_id: bytes
    key: Key
    before: tuple[bytes, ...]
    others: tuple[bytes, ...]
    leaves_unhandled: bool


class Derived(NamedTuple):
    """Origins that are others than those named.

    Attributes:
        places: of new exceptions, by position: the origin, and those of members.
        moves: stored exceptions with another origin.
        regrouped: stored groups whose members have.
    """

    places: dict[int, tuple[Key, tuple[bytes, ...]]]
    moves: list[Move]
    regrouped: list[Regrouped]


class _Stored(NamedTuple):
    """Columns that are read of a row of ``exceptions``."""

    id: int
    span_id: bytes
    parent_id: bytes | None
    kind: str
    instance: int
    at_ns: int
    type: str
    message: str
    how: str
    origin_trace_id: bytes
    origin_span_id: bytes
    derived: int
    exception_group: int | None
    other_origins: str | None

    @property
    def others(self) -> tuple[bytes, ...]:
        return tuple(map(bytes.fromhex, json.loads(self.other_origins))) if self.other_origins else ()

    @property
    def leaves_unhandled(self) -> bool:
        return self.parent_id is None or self.kind == "consumer"

    @property
    def origin(self) -> Key:
        return self.origin_trace_id, self.origin_span_id

    def as_failed(self) -> Failed:
        return Failed(*self[1:9], self.origin, self.derived)


_READ = f"SELECT {', '.join(_Stored._fields)} FROM exceptions WHERE trace_id = ? ORDER BY id DESC LIMIT ?"


def find_derived(
    db: sqlite3.Connection, occurrences: Sequence[Occurrence], changed: Iterable[bytes] = ()
) -> Derived:
    """Return the origins of new exceptions and of stored ones, where these are others now.

    Args:
        db: with the stored exceptions.
        occurrences: the new exceptions.
        changed: traces in which spans got other parents.
    """
    derived = Derived({}, [], [])
    chosen = _choose_traces(db, occurrences, changed)
    limit = max(1, min(MAX_FAILED, MAX_OF_ALL // max(1, len(chosen))))
    for trace_id, own in chosen.items():
        stored = [_Stored(*row) for row in db.execute(_READ, (trace_id, limit))][::-1]
        new = [occurrences[place].as_failed() for place in own]
        failed: dict[bytes, Failed] = {}
        for each in (*(row.as_failed() for row in stored), *new):
            failed.setdefault(each.span_id, each)
        found = find_origins(trace_id, failed)
        for place, span in zip(own, new, strict=True):
            key, before = find_key(span, failed, found), occurrences[place].others
            others = follow_all(before, key, trace_id, found)
            if (key, others) != (span.origin, before):
                derived.places[place] = key, others
        for row in stored:
            key, leaves = find_key(row.as_failed(), failed, found), row.leaves_unhandled
            if key != row.origin:
                self_key = (trace_id, row.span_id)
                derived.moves.append(
                    Move(row.id, self_key, row.origin, key, row.exception_group, row.at_ns, leaves)
                )
            others = follow_all(row.others, key, trace_id, found)
            if others != row.others:
                derived.regrouped.append(Regrouped(row.id, trace_id, key, row.others, others, leaves))
    return derived


def _choose_traces(
    db: sqlite3.Connection, occurrences: Sequence[Occurrence], changed: Iterable[bytes]
) -> dict[bytes, list[int]]:
    """Return the positions of exceptions by trace, for traces in which origins have to be found."""
    chosen: dict[bytes, list[int]] = {each.trace_id: [] for each in occurrences if each.derived == DERIVED}
    chosen.update((trace_id, []) for trace_id in changed)
    others = {each.trace_id for each in occurrences}.difference(chosen)
    if others and db.execute("SELECT 1 FROM exceptions WHERE derived = 1 LIMIT 1").fetchone():
        query = "SELECT 1 FROM exceptions WHERE trace_id = ? AND derived = 1 LIMIT 1"
        chosen.update((each, []) for each in others if db.execute(query, (each,)).fetchone())
    for place, occurrence in enumerate(occurrences):
        if occurrence.trace_id in chosen:
            chosen[occurrence.trace_id].append(place)
    return chosen
