"""Trees chosen for an export, and their spans piece by piece.

One idea: a tree is chosen by its row in ``traces``, and only chosen trees are read, in pieces of bounded
size, so that neither a large file nor a large tree has to fit into memory. Each piece has its own snapshot,
since an export takes as long as its reader does; a tree that is deleted meanwhile is left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import starmap
from struct import Struct
from typing import NamedTuple

from ztrace_collector.layout import HOUR_NS
from ztrace_collector.otlp.mapping.reading import StoredSpan, read_trace_after, read_traces, read_unfinished
from ztrace_viewer.queries.database import one_state
from ztrace_viewer.queries.rows import name_columns, read_one
from ztrace_viewer.queries.selection import EVERYTHING, Selection
from ztrace_viewer.queries.stores.sqlite.store import SqliteStore

#: Spans read at a time: a few megabytes, and enough that the statements cost little.
PIECE_SPANS = 2_000
#: Trees read at a time, each a parameter of one statement.
PIECE_TREES = 500

_OPEN_OF_TRACE = "FROM unfinished_spans WHERE unfinished_spans.trace_id = traces.trace_id"
_METHODS = "(SELECT id FROM methods WHERE service = ?)"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Conditions of an export, all of which a tree has to meet.

    Attributes:
        trace_ids: the only trees; empty for all.
        selection: time in which the tree began, and service of one of its spans.
        errors: a span has status error.
        slower_ns: the tree took longer.
        limit: the newest trees, at most so many.
        unfinished: include spans without an end, and trees that have no others.
    """

    trace_ids: tuple[bytes, ...] = ()
    selection: Selection = EVERYTHING
    errors: bool = False
    slower_ns: int | None = None
    limit: int | None = None
    unfinished: bool = False


class Totals(NamedTuple):
    """Size of an export; spans without an end do not count."""

    trees: int
    spans: int
    start_ns: int


_TOTALS = name_columns(
    Totals, trees="count(*)", spans="coalesce(sum(span_count), 0)", start_ns="coalesce(min(start_ns), 0)"
)


#: Trace id and number of spans of a chosen tree: millions of them are kept in memory.
_TREE = Struct("=16sq")


class Piece(NamedTuple):
    """Spans of one tree: all, or some with more in the next piece."""

    trace_id: bytes
    spans: list[StoredSpan]
    is_last: bool


def count_trees(store: SqliteStore, wanted: Wanted) -> Totals:
    """Return the size of an export, and the start of its first tree."""
    query, values = _choose(wanted)
    totals = read_one(store.db, Totals, f"SELECT {_TOTALS} FROM ({query})", values)
    assert totals is not None
    return totals


def count_spans(store: SqliteStore, trace_ids: Sequence[bytes]) -> dict[bytes, int]:
    """Return the number of ended spans of each trace."""
    marks = ",".join("?" * len(trace_ids))
    return dict(
        store.db.execute(f"SELECT trace_id, span_count FROM traces WHERE trace_id IN ({marks})", trace_ids)
    )


def read_pieces(store: SqliteStore, wanted: Wanted) -> Iterator[Piece]:
    """Yield the spans of an export tree by tree, in the order in which the trees began."""
    query, values = _choose(wanted)
    waiting: list[bytes] = []
    waiting_spans = 0
    ordered = f"SELECT trace_id, span_count FROM ({query}) ORDER BY start_ns, trace_id"
    chosen = bytearray().join(starmap(_TREE.pack, store.db.execute(ordered, values)))
    for trace_id, span_count in _TREE.iter_unpack(chosen):
        if waiting and (waiting_spans + span_count > PIECE_SPANS or len(waiting) == PIECE_TREES):
            yield from _read_small(store, waiting, wanted)
            waiting, waiting_spans = [], 0
        if span_count > PIECE_SPANS:
            yield from _read_large(store, trace_id, wanted)
        else:
            waiting.append(trace_id)
            waiting_spans += span_count
    if waiting:
        yield from _read_small(store, waiting, wanted)


def _read_small(store: SqliteStore, trace_ids: list[bytes], wanted: Wanted) -> Iterator[Piece]:
    by_trace: dict[bytes, list[StoredSpan]] = {trace_id: [] for trace_id in trace_ids}
    with one_state(store.db):
        found = read_traces(store.db, trace_ids)
        if wanted.unfinished:
            found += read_unfinished(store.db, trace_ids)
    for span in found:
        by_trace[span.trace_id].append(span)
    for trace_id, spans in by_trace.items():
        yield Piece(trace_id, spans, is_last=True)


def _read_large(store: SqliteStore, trace_id: bytes, wanted: Wanted) -> Iterator[Piece]:
    after_id = 0
    while True:
        with one_state(store.db):
            spans = read_trace_after(store.db, trace_id, after_id, PIECE_SPANS)
            opened = read_unfinished(store.db, [trace_id]) if wanted.unfinished and not spans else []
        if not spans:
            break
        after_id = spans[-1].id
        yield Piece(trace_id, spans, is_last=False)
    yield Piece(trace_id, opened, is_last=True)


def _choose(wanted: Wanted) -> tuple[str, list[object]]:
    """Return the query of the chosen trees, ``trace_id, span_count, start_ns``, and its values."""
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
        # An open root began before all ended spans, and its service may have no other span.
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
    """Return the same for the trees of which no span has ended."""
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
