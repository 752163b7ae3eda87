"""Sealed spans in SQL: the view ``all_spans`` of a connection.

One idea: the view is SQL's own union of the rows of ``spans`` and of those that functions of the connection
take from ``sealed_traces``. SQLite hands a condition on ``trace_id`` down to both, so a question about some
traces decodes these alone. A condition on other columns decodes every sealed trace.

The ids of spans and those of traces both number the order of arrival, so a reader that follows the spans by
their ids finds the sealed ones by a binary search.
"""

import logging
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

from ztrace_collector.layout import SEALED, SEALED_SPREAD
from ztrace_collector.sealing.form import Row, SealDamaged, unpack

#: Sealed traces that begin within a piece that is read at a time, at most and at least; and rows.
_TRACES, _FEW_TRACES, _ROWS = 2_048, 64, 2_048
#: Traces and spans kept decoded, more than statements that are read at the same time need.
_OPENED, _OPENED_SPANS = 16, 20_000

_VALUES = ", ".join(f"ztrace_value(sealed.trace, key, {at}) AS {name}" for at, name in enumerate(Row._fields))
_NAMES = ", ".join(("trace_id", *Row._fields))
_SEALED = f"""
CREATE TEMP VIEW sealed_spans AS SELECT traces.trace_id, {_VALUES}, traces.id AS trace
FROM main.traces CROSS JOIN main.sealed_traces AS sealed ON sealed.trace = traces.id
    LEFT JOIN main.sealing_dictionaries AS known ON known.id = dictionary
    CROSS JOIN json_each(ztrace_open(sealed.trace, traces.trace_id, first, sealed.spans, known.content))
"""
_ALL = f"""
CREATE TEMP VIEW all_spans AS
SELECT {_NAMES} FROM main.spans UNION ALL SELECT {_NAMES} FROM sealed_spans
"""
_log = logging.getLogger(__name__)


def log_damage(trace_id: bytes) -> None:
    """Log that a trace cannot be read."""
    _log.warning("the sealed spans of trace %s are damaged and left out", trace_id.hex())


def add_views(db: sqlite3.Connection, tell: Callable[[bytes], None] = log_damage) -> None:
    """Give a connection the temporary views ``all_spans`` and ``sealed_spans``, beside a file's own tables.

    Args:
        db: the connection.
        tell: called with the id of each trace that is damaged, once; its spans are left out.
    """
    opened = _Opened(tell)
    db.create_function("ztrace_open", 5, opened.open)
    db.create_function("ztrace_value", 3, opened.value)
    db.execute(_SEALED)
    db.execute(_ALL)


class _Decoded(NamedTuple):
    """A sealed trace, its spans as columns, and their positions as a JSON array."""

    first: int
    data: bytes
    columns: Sequence[Sequence[Any]]
    places: str


class _Opened:
    """Sealed traces that were opened last, by their keys."""

    def __init__(self, tell: Callable[[bytes], None]) -> None:
        self._traces: OrderedDict[int, _Decoded] = OrderedDict()
        self._span_count = 0
        self._tell = tell
        self._damaged: set[bytes] = set()

    def open(self, trace: int, trace_id: bytes, first: int, data: bytes, dictionary: bytes | None) -> str:
        """Decode a trace, and return the positions of its spans as a JSON array."""
        known = self._traces.pop(trace, None)
        if known is not None and (known.first, known.data) == (first, data):
            self._traces[trace] = known
            return known.places
        if known is not None:
            self._span_count -= len(known.columns[0])
        try:
            columns = unpack(data, dictionary or b"", first)
        except SealDamaged:
            if trace_id not in self._damaged:
                self._damaged.add(trace_id)
                self._tell(trace_id)
            return "[]"
        count = len(columns[0])
        places = f"[{','.join(map(str, range(count)))}]"
        self._traces[trace] = _Decoded(first, data, columns, places)
        self._span_count += count
        while self._span_count > _OPENED_SPANS and len(self._traces) > _OPENED:
            self._span_count -= len(self._traces.popitem(last=False)[1].columns[0])
        return places

    def value(self, trace: int, place: int, column: int) -> Any:
        """Return a value of an opened trace."""
        return self._traces[trace].columns[column][place]


def read_ids(
    db: sqlite3.Connection, select: Callable[[str], str], after: int, last: int, limit: int
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows of spans behind an id, sealed or not, in the order of their ids, some at a time.

    Args:
        db: a connection with the views.
        select: returns a SELECT from a table or view, named ``spans``, whose first column is the id.
        after: the id.
        last: id of the last span to yield.
        limit: rows to yield at most.
    """
    order = "ORDER BY spans.id LIMIT ?"
    while limit > 0 and after < last:
        piece = _find_piece(db, after, min(_TRACES, max(_FEW_TRACES, limit)))
        until = last if piece is None else min(last, piece.until)
        stored = db.execute(
            f"{select('spans')} WHERE spans.id > ? AND spans.id <= ? {order}", (after, until, limit)
        )
        if piece is not None:
            where = "WHERE spans.trace BETWEEN ? AND ? AND spans.id > ? AND spans.id <= ?"
            sealed = db.execute(
                f"{select('sealed_spans')} {where} {order}", (piece.first, piece.last, after, until, limit)
            )
            rows = list(islice(merge(stored, sealed, key=itemgetter(0)), limit))
            limit -= len(rows)
            if rows:
                yield rows
        else:
            while rows := stored.fetchmany(_ROWS):
                limit -= len(rows)
                yield rows
        after = until


def find_sealed(db: sqlite3.Connection, after: int, trace_ids: Iterable[bytes]) -> list[bytes]:
    """Return those of some traces that are sealed; none if no span behind an id is."""
    ((sealed,),) = db.execute("SELECT value FROM settling WHERE name = ?", (SEALED,)).fetchall()
    if sealed <= after:
        return []
    query = "SELECT 1 FROM traces JOIN sealed_traces ON trace = id WHERE trace_id = ?"
    return [each for each in trace_ids if db.execute(query, (each,)).fetchone()]


class _Piece(NamedTuple):
    """Sealed spans behind an id: the traces that have all of them up to another id."""

    first: int
    last: int
    until: int


def _find_piece(db: sqlite3.Connection, after: int, traces: int) -> _Piece | None:
    """Return where the next sealed spans behind an id are, those of some traces; None if there are none."""
    places = dict(
        db.execute("SELECT name, value FROM settling WHERE name IN (?, ?)", (SEALED, SEALED_SPREAD))
    )
    if places.get(SEALED, 0) <= after:
        return None
    rows = db.execute(
        "SELECT trace, first, last FROM sealed_traces WHERE trace >= ? ORDER BY trace",
        (_find_trace(db, after - places[SEALED_SPREAD]),),
    )
    start, trace, until, count = None, 0, after, 0
    for each, first_id, last_id in rows:
        if last_id <= after:
            continue
        if count >= traces:
            # A trace has no span before its first, and neither has any later trace.
            return _Piece(trace if start is None else start, trace, first_id - 1)
        start = each if start is None else start
        trace, until, count = each, max(until, last_id), count + (first_id > after)
    return None if start is None else _Piece(start, trace, until)


def _find_trace(db: sqlite3.Connection, first: int) -> int:
    """Return the key of the first sealed trace that has no span before an id."""
    low, high = 0, db.execute("SELECT coalesce(max(trace), 0) + 1 FROM sealed_traces").fetchone()[0]
    while low < high:
        middle = (low + high) // 2
        (found,) = db.execute(
            "SELECT first FROM sealed_traces WHERE trace >= ? ORDER BY trace LIMIT 1", (middle,)
        ).fetchone() or (first,)
        if found >= first:
            high = middle
        else:
            low = middle + 1
    return int(low)
