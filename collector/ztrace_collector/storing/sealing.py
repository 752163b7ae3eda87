"""Sealing: finished traces that arrived an hour ago or earlier become one compressed row each.

One idea: rows of ``spans`` are what is not sealed yet, so the sealer goes through them by their ids, which
are the order of arrival, and has no place in the file. A trace's rows are deleted in the transaction in which
it is sealed. A later span makes rows of it again, and a later round seals it again. Each step is short, and
runs while nothing is to be received.
"""

import sqlite3
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ztrace_collector.layout import HOUR_NS, SETTLED, THINNED
from ztrace_collector.sealing.form import pack
from ztrace_collector.storing.dictionaries import Dictionaries
from ztrace_collector.storing.store import Store
from ztrace_collector.storing.waiting import PROTOCOL
from ztrace_collector.tables.sealed import COLUMNS, SealedTrace, insert_sealed

#: Duration of a step, after which the collector looks for messages again; and interval of looking for traces.
STEP_S, LOOK_S = 0.02, 10.0
#: Interval of rounds from the first span, for traces that could not be sealed before.
ROUND_S = 3600.0
#: Largest trace that is sealed, in spans and in bytes: one takes a step by itself, and a message with late
#: spans of several has to make rows of them all.
MAX_SPANS, MAX_BYTES = 1_000, 1_000_000
#: Spans of a trace whose texts are not counted before they are packed.
SMALL = 32
#: Distance of the first from the last id of a sealed trace: readers by id look so far back.
MAX_SPREAD = 1 << 20
#: Rows that are looked at together.
_ROWS = 2_000

_LOOK = "SELECT id, trace_id FROM spans WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
_SPANS = f"SELECT {COLUMNS} FROM spans WHERE trace_id = ? ORDER BY id"
#: Traces that are counted by path as they are, and whose spans have all ended; with the first spans of those
#: sealed before and behind, which are in the order of the traces' keys. Only a trace of which retention has
#: deleted some spans may be out of order.
_FINISHED = """
SELECT traces.id, span_count, span,
    coalesce((SELECT first FROM sealed_traces WHERE trace < traces.id ORDER BY trace DESC LIMIT 1), 0),
    coalesce((SELECT first FROM sealed_traces WHERE trace > traces.id ORDER BY trace LIMIT 1), span)
FROM traces JOIN settled ON settled.trace = traces.id
WHERE trace_id = :trace_id AND traces.id <= :last AND figures IS NULL AND span <= :until
    AND span_count <= :most
    AND NOT EXISTS (SELECT 1 FROM sealed_traces WHERE sealed_traces.trace = traces.id)
    AND NOT EXISTS (SELECT 1 FROM unfinished_spans WHERE unfinished_spans.trace_id = traces.trace_id)
"""


class _Bounds(NamedTuple):
    """What is old enough: the key of the last trace, and the id of the last span."""

    trace: int
    span: int


class Sealer:
    """Sealing of a store, in steps."""

    def __init__(self, *, thins: bool = False, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing looked at.

        Args:
            thins: traces are thinned first, so that none is sealed to be deleted.
            clock_s: a clock that never jumps.
        """
        self._thins = thins
        self._clock_s = clock_s
        self._store: Store | None = None
        self._dictionaries = Dictionaries()
        #: Id of the last span looked at.
        self._place = 0
        self._next_s = self._round_s = 0.0

    def wait_s(self) -> float:
        """Return the time until the next step."""
        return max(0.0, self._next_s - self._clock_s())

    def step(self, store: Store) -> None:
        """Seal some traces, if there are any to be sealed.

        Raises:
            DatabaseError: nothing is sealed; the next step begins with the same traces.
        """
        now_s = self._clock_s()
        if now_s < self._next_s:
            return
        if store is not self._store:
            self._store, self._dictionaries, self._round_s = store, Dictionaries(), 0.0
        if now_s >= self._round_s:
            self._place, self._round_s = 0, now_s + ROUND_S
        self._next_s = now_s + LOOK_S
        bounds = _find_bounds(store, self._thins)
        place = self._place
        rows = store.read(_LOOK, place, bounds.span, _ROWS)
        if not rows:
            return
        sealed: dict[bytes, SealedTrace] = {}
        seen: set[bytes] = set()
        try:
            with store.transaction() as db:
                before = SealedTrace(0, (0,), 0, b"")
                for span, trace_id in rows:
                    place = span
                    if trace_id in seen:
                        continue
                    if self._clock_s() >= now_s + STEP_S and seen:
                        place = span - 1
                        break
                    seen.add(trace_id)
                    trace = self._seal(db, trace_id, bounds)
                    if trace is not None and trace.key > before.key and trace.first > before.first:
                        sealed[trace_id] = before = trace
                insert_sealed(db, sealed.values())
        except BaseException:
            self._dictionaries = Dictionaries()  # One of them may be rolled back.
            raise
        self._place, self._next_s = place, now_s
        store.forget_traces(sealed)

    def _seal(self, db: sqlite3.Connection, trace_id: bytes, bounds: _Bounds) -> SealedTrace | None:
        """Return a trace as it is sealed, None if it has to stay as it is."""
        values = {"trace_id": trace_id, "last": bounds.trace, "until": bounds.span, "most": MAX_SPANS}
        row = db.execute(_FINISHED, values).fetchone()
        if row is None:
            return None
        trace, span_count, last, first_before, first_behind = row
        rows = _read(db, trace_id, span_count)
        if rows is None or len(rows) != span_count or rows[-1][0] != last:
            return None
        ids = [row[0] for row in rows]
        if not first_before <= ids[0] <= first_behind or last - ids[0] > MAX_SPREAD:
            return None
        try:
            packed, span_ids = pack(rows)
        except (OverflowError, ValueError):
            return None
        if len(packed) > MAX_BYTES:
            return None
        dictionary, data = self._dictionaries.compress(db, packed)
        return SealedTrace(trace, ids, dictionary, data + span_ids)


def _read(db: sqlite3.Connection, trace_id: bytes, span_count: int) -> list[tuple[Any, ...]] | None:
    """Return a trace's spans, None if they are too large to be sealed."""
    found = db.execute(_SPANS, (trace_id,))
    if span_count <= SMALL:
        return found.fetchall()
    rows, size = [], 0
    for row in found:
        rows.append(row)
        size += sum([len(text) for text in row[-3:] if text])
        if size > MAX_BYTES:
            return None
    return rows


def _find_bounds(store: Store, thins: bool) -> _Bounds:
    """Return what arrived an hour ago or earlier, and was counted, sent on and thinned since."""
    ((young,),) = store.read(
        "SELECT min(first_trace) FROM arrivals WHERE hour >= ?", store.age_ns // HOUR_NS - 1
    )
    ((last,),) = store.read("SELECT coalesce(max(id), 0) FROM traces")
    trace = last if young is None else young - 1
    if thins:
        ((thinned,),) = store.read("SELECT value FROM settling WHERE name = ?", THINNED)
        trace = min(trace, thinned)
    ((settled, sent, first_young),) = store.read(
        "SELECT (SELECT value FROM settling WHERE name = ?),"
        " (SELECT min(iif(protocol = ?, coalesce(complete, 0), destinations.place)) FROM destinations"
        " LEFT JOIN shipping ON shipping.destination = destinations.id WHERE in_use),"
        " (SELECT min(id) FROM spans WHERE trace_id = (SELECT trace_id FROM traces WHERE id >= ?"
        " ORDER BY id LIMIT 1))",
        SETTLED,
        PROTOCOL,
        last + 1 if young is None else young,
    )
    older = None if first_young is None else first_young - 1
    return _Bounds(trace, min(each for each in (settled, sent, older) if each is not None))
