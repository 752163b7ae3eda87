"""Which trees are exported, and their spans piece by piece.

One idea: a tree is chosen by its row in ``traces``, and only what is chosen is read, so many spans at a time
that neither a large file nor a large tree has to fit into memory.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ztrace_collector.layout import HOUR_NS
from ztrace_collector.otlp.mapping.reading import StoredSpan, read_trace_after, read_traces, read_unfinished
from ztrace_viewer.queries.selection import EVERYTHING, Selection

#: Spans read at a time: enough that the reading costs little, and some megabytes.
PIECE_SPANS = 2_000
#: Trees read at a time: a statement's parameters.
PIECE_TREES = 500

_OPEN_OF_TRACE = "FROM unfinished_spans WHERE unfinished_spans.trace_id = traces.trace_id"
_METHODS = "(SELECT id FROM methods WHERE service = ?)"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be exported: trees for which all of it holds.

    Attributes:
        trace_ids: these alone; none: all.
        selection: they began in this time, and have a span of this service.
        errors: they have a span with status error.
        slower_ns: they took longer.
        limit: of these the newest, at most so many.
        unfinished: with spans that have not ended, and trees that have no others.
    """

    trace_ids: tuple[bytes, ...] = ()
    selection: Selection = EVERYTHING
    errors: bool = False
    slower_ns: int | None = None
    limit: int | None = None
    unfinished: bool = False


class Totals(NamedTuple):
    """How much is to be exported; spans that have not ended are not counted."""

    trees: int
    spans: int
    start_ns: int


class Piece(NamedTuple):
    """Spans of one tree: all of them, or some with others to come in the next piece."""

    trace_id: bytes
    spans: list[StoredSpan]
    is_last: bool


def count_trees(db: sqlite3.Connection, wanted: Wanted) -> Totals:
    """Return how much is wanted, and when the first of it began."""
    query, values = _choose(wanted)
    row = db.execute(f"SELECT count(*), sum(span_count), min(start_ns) FROM ({query})", values).fetchone()
    return Totals(row[0], row[1] or 0, row[2] or 0)


def read_pieces(db: sqlite3.Connection, wanted: Wanted) -> Iterator[Piece]:
    """Yield the spans that are wanted: tree by tree, by the time they began."""
    query, values = _choose(wanted)
    waiting: list[bytes] = []
    waiting_spans = 0
    for trace_id, span_count in db.execute(
        f"SELECT trace_id, span_count FROM ({query}) ORDER BY start_ns, trace_id", values
    ):
        if waiting and (waiting_spans + span_count > PIECE_SPANS or len(waiting) == PIECE_TREES):
            yield from _read_small(db, waiting, wanted)
            waiting, waiting_spans = [], 0
        if span_count > PIECE_SPANS:
            yield from _read_large(db, trace_id, wanted)
        else:
            waiting.append(trace_id)
            waiting_spans += span_count
    if waiting:
        yield from _read_small(db, waiting, wanted)


def _read_small(db: sqlite3.Connection, trace_ids: list[bytes], wanted: Wanted) -> Iterator[Piece]:
    by_trace: dict[bytes, list[StoredSpan]] = {trace_id: [] for trace_id in trace_ids}
    for span in read_traces(db, trace_ids):
        by_trace[span.trace_id].append(span)
    if wanted.unfinished:
        for span in read_unfinished(db, trace_ids):
            by_trace[span.trace_id].append(span)
    for trace_id, spans in by_trace.items():
        yield Piece(trace_id, spans, is_last=True)


def _read_large(db: sqlite3.Connection, trace_id: bytes, wanted: Wanted) -> Iterator[Piece]:
    after_id = 0
    while spans := read_trace_after(db, trace_id, after_id, PIECE_SPANS):
        after_id = spans[-1].id
        yield Piece(trace_id, spans, is_last=False)
    yield Piece(trace_id, read_unfinished(db, [trace_id]) if wanted.unfinished else [], is_last=True)


def _choose(wanted: Wanted) -> tuple[str, list[object]]:
    """Return the query of what is wanted, ``trace_id, span_count, start_ns``, and its values."""
    query, values = _choose_stored(wanted)
    if wanted.unfinished and not wanted.errors:
        opened, opened_values = _choose_open(wanted)
        query, values = f"{query} UNION ALL {opened}", values + opened_values
    if wanted.limit is not None:
        query = f"SELECT * FROM ({query}) ORDER BY start_ns DESC, trace_id LIMIT ?"
        values = [*values, wanted.limit]
    return query, values


def _choose_stored(wanted: Wanted) -> tuple[str, list[object]]:
    conditions, values = _match_ids(wanted)
    began, named = "start_ns", "EXISTS (SELECT 1 FROM json_each(services) WHERE value = ?)"
    if wanted.unfinished:
        # A root that has not ended began before all the others, and its service may have no other span.
        began = f"min(start_ns, coalesce((SELECT min(start_ns) {_OPEN_OF_TRACE}), start_ns))"
        named = f"({named} OR EXISTS (SELECT 1 {_OPEN_OF_TRACE} AND method IN {_METHODS}))"
    if wanted.selection.since_ns is not None:
        conditions.append(f"hour >= ? AND {began} >= ?")
        values += (wanted.selection.since_ns // HOUR_NS, wanted.selection.since_ns)
    if wanted.selection.until_ns is not None:
        if not wanted.unfinished:
            conditions.append("hour <= ?")
            values.append(wanted.selection.until_ns // HOUR_NS)
        conditions.append(f"{began} < ?")
        values.append(wanted.selection.until_ns)
    if wanted.selection.service is not None:
        conditions.append(named)
        values += [wanted.selection.service] * named.count("?")
    if wanted.errors:
        conditions.append("error_count > 0")
    if wanted.slower_ns is not None:
        conditions.append("duration_ns > ?")
        values.append(wanted.slower_ns)
    return f"SELECT trace_id, span_count, {began} AS start_ns FROM traces{_where(conditions)}", values


def _choose_open(wanted: Wanted) -> tuple[str, list[object]]:
    """Likewise for trees of which no span has ended."""
    conditions, values = _match_ids(wanted)
    conditions.append("NOT EXISTS (SELECT 1 FROM traces WHERE traces.trace_id = unfinished_spans.trace_id)")
    having = []
    if wanted.selection.since_ns is not None:
        having.append("min(start_ns) >= ?")
        values.append(wanted.selection.since_ns)
    if wanted.selection.until_ns is not None:
        having.append("min(start_ns) < ?")
        values.append(wanted.selection.until_ns)
    if wanted.selection.service is not None:
        having.append(f"sum(method IN {_METHODS}) > 0")
        values.append(wanted.selection.service)
    if wanted.slower_ns is not None:
        having.append("max(seen_ns) - min(start_ns) > ?")
        values.append(wanted.slower_ns)
    query = f"SELECT trace_id, 0, min(start_ns) FROM unfinished_spans{_where(conditions)} GROUP BY trace_id"
    return query + (f" HAVING {' AND '.join(having)}" if having else ""), values


def _match_ids(wanted: Wanted) -> tuple[list[str], list[object]]:
    if not wanted.trace_ids:
        return [], []
    return [f"trace_id IN ({', '.join('?' * len(wanted.trace_ids))})"], list(wanted.trace_ids)


def _where(conditions: list[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""
