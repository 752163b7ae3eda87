"""Spans that share an id: the two halves of a call, or conflicts.

One idea: Zipkin's clients and servers record one call under one id, so the half that arrives second gets an
id of its own, derived from the first, and the server's half becomes the child of the client's. The derived id
is the same whenever the half arrives again, so duplicates are found.
"""

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from ztrace.records import KIND_NAMES
from ztrace_collector.checking.columns import Columns
from ztrace_collector.refusals import REPEATED_ID, Refusals
from ztrace_collector.tables.known import KnownSpans, make_mark, read_mark
from ztrace_collector.tables.methods import Methods

#: Kinds of the two halves of a call or a message, the caller's first.
_HALVES = {"client": "server", "producer": "consumer"}
_CALLERS = {callee: caller for caller, callee in _HALVES.items()}
#: The two sides, as they are part of derived ids.
CALLER, CALLEE = b"client", b"server"
#: Difference of starts up to which two spans are one: formats differ in what they round times to.
ROUNDING_NS = 1_000_000
#: Query of a tree whose figures by path are counted, and have to be counted alike when they are taken back.
_IS_SETTLED = "SELECT 1 FROM traces JOIN settled ON settled.trace = traces.id WHERE trace_id = ?"


class Adoption(NamedTuple):
    """Spans that get another parent, since theirs was told apart from another span.

    Attributes:
        span_id: the span; None for all children of the old parent in one process.
        old: the parent before; None for any.
        new: the parent now.
    """

    trace_id: bytes
    span_id: bytes | None
    old: bytes | None
    new: bytes
    instance: int


def derive_id(span_id: bytes, side: bytes) -> bytes:
    """Return the id of the second half of a shared span, `CALLER` or `CALLEE`."""
    return hashlib.blake2b(span_id + side, digest_size=8).digest()


class SharedIds:
    """Spans whose ids are stored already."""

    def __init__(self, db: sqlite3.Connection, methods: Methods, known: KnownSpans) -> None:
        self._db = db
        self._methods = methods
        self._known = known

    def tell_apart(
        self, service: str, instance: int, again: Columns, refusals: Refusals
    ) -> tuple[Columns | None, list[Adoption]]:
        """Return the halves of shared spans with ids of their own, and the spans that get other parents.

        Of the other spans, duplicates are left out, and conflicts are left out and counted.
        """
        chosen = [False] * len(again)
        span_ids, parent_ids = list(again.span_id), list(again.parent_id)
        adoptions: list[Adoption] = []
        new: dict[tuple[bytes, bytes], int] = {}
        keys = zip(again.trace_id, again.span_id, again.name, again.kind, again.start_ns, strict=True)
        for place, (trace_id, span_id, name, number, start_ns) in enumerate(keys):
            known = self._known.of_trace(trace_id)
            mark = make_mark(self._methods[service, name, number], start_ns)
            before, kind = known[span_id], KIND_NAMES[number]
            if _is_same(mark, before):
                continue
            is_half = self._kind_of(before) in (_HALVES.get(kind), _CALLERS.get(kind))
            # A caller's half becomes the parent of the stored one, which a publisher's does not get.
            if is_half and not (kind in _HALVES and self._is_of_publisher(trace_id, span_id)):
                own = derive_id(span_id, CALLER if kind in _HALVES else CALLEE)
                taken = known.get(own, new.get((trace_id, own)))
                if taken is None:
                    chosen[place], new[trace_id, own] = True, mark
                    span_ids[place] = own
                    if kind in _HALVES:
                        adoptions.append(Adoption(trace_id, span_id, None, own, instance))
                    else:
                        parent_ids[place] = span_id
                        adoptions.append(Adoption(trace_id, None, span_id, own, instance))
                    continue
                if _is_same(mark, taken):
                    continue
            refusals.note(REPEATED_ID, f"span {name[:64]} of {service[:64]}: {span_id.hex()}")
        if not any(chosen):
            return None, []
        return replace(again, span_id=span_ids, parent_id=parent_ids).select(chosen), adoptions

    def follow(self, columns: Columns, instance: int) -> None:
        """Give children of a shared span, in its server's process, the parent that was told apart there."""
        found: dict[tuple[bytes, bytes], bytes | None] = {}
        parent_ids: list[bytes | None] | None = None
        for place, (trace_id, parent_id) in enumerate(zip(columns.trace_id, columns.parent_id, strict=True)):
            if parent_id is None or parent_id not in (known := self._known.of_trace(trace_id)):
                continue
            key = (trace_id, parent_id)
            if key not in found:
                found[key] = self._find_callee(trace_id, parent_id, known, instance)
            own = found[key]
            if own is not None:
                parent_ids = list(columns.parent_id) if parent_ids is None else parent_ids
                parent_ids[place] = own
        if parent_ids is not None:
            columns.parent_id = parent_ids

    def _find_callee(
        self, trace_id: bytes, span_id: bytes, known: Mapping[bytes, int], instance: int
    ) -> bytes | None:
        own = derive_id(span_id, CALLEE)
        if own not in known:
            return None
        query = "SELECT 1 FROM spans WHERE trace_id = ? AND span_id = ? AND instance = ?"
        return own if self._db.execute(query, (trace_id, own, instance)).fetchone() else None

    def adopt(self, adoptions: Sequence[Adoption]) -> None:
        """Write the new parents into the table ``spans``, and keep the old ones of a tree that is counted."""
        for adoption in adoptions:
            condition = "WHERE trace_id = ? AND span_id = ?"
            values: list[object] = [adoption.trace_id, adoption.span_id]
            if adoption.span_id is None:
                condition = "WHERE trace_id = ? AND parent_id = ? AND instance = ? AND span_id <> ?"
                values = [adoption.trace_id, adoption.old, adoption.instance, adoption.new]
            if self._db.execute(_IS_SETTLED, (adoption.trace_id,)).fetchone():
                self._db.execute(
                    "INSERT INTO adopted_spans (trace_id, span_id, parent_id, span)"
                    f" SELECT trace_id, span_id, parent_id, (SELECT max(id) FROM spans)"
                    f" FROM spans {condition}",
                    values,
                )
            self._db.execute(f"UPDATE spans SET parent_id = ? {condition}", (adoption.new, *values))

    def _is_of_publisher(self, trace_id: bytes, span_id: bytes) -> bool:
        """Return whether a span came from a publisher: others do not change it."""
        return bool(
            self._db.execute(
                "SELECT 1 FROM spans JOIN publishers USING (instance)"
                " WHERE trace_id = ? AND span_id = ? AND next_sequence > 0",
                (trace_id, span_id),
            ).fetchone()
        )

    def _kind_of(self, mark: int) -> str:
        method, _ = read_mark(mark)
        row = self._db.execute("SELECT kind FROM methods WHERE id = ?", (method,)).fetchone()
        return "" if row is None else str(row[0])


def _is_same(mark: int, other: int) -> bool:
    """Return whether two spans with one id are the same span."""
    (method, start_ns), (other_method, other_start_ns) = read_mark(mark), read_mark(other)
    return method == other_method and abs(start_ns - other_start_ns) <= ROUNDING_NS
