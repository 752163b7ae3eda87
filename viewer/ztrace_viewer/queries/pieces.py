"""Trees chosen for an export, and their spans piece by piece.

One idea: a tree is chosen by its row in ``traces``, and only chosen trees are read, in pieces of bounded
size, so that neither a large file nor a large tree has to fit into memory. Each piece has its own snapshot,
since an export takes as long as its reader does; a tree that is deleted meanwhile is left out.
"""

from collections.abc import Iterator
from itertools import starmap
from struct import Struct
from typing import NamedTuple

from ztrace_collector.otlp.mapping.reading import StoredSpan
from ztrace_viewer.queries.stores.conditions import TreeFilter
from ztrace_viewer.queries.stores.store import Store

#: Spans read at a time: a few megabytes, and enough that the statements cost little.
PIECE_SPANS = 2_000
#: Trees read at a time, each a parameter of one statement.
PIECE_TREES = 500

#: Trace id and number of spans of a chosen tree: millions of them are kept in memory.
_TREE = Struct("=16sq")


class Piece(NamedTuple):
    """Spans of one tree: all, or some with more in the next piece."""

    trace_id: bytes
    spans: list[StoredSpan]
    is_last: bool


def read_pieces(store: Store, wanted: TreeFilter) -> Iterator[Piece]:
    """Yield the spans of an export tree by tree, in the order in which the trees began."""
    waiting: list[bytes] = []
    waiting_spans = 0
    chosen = bytearray().join(starmap(_TREE.pack, store.chosen_trees(wanted)))
    for trace_id, span_count in _TREE.iter_unpack(chosen):
        if waiting and (waiting_spans + span_count > PIECE_SPANS or len(waiting) == PIECE_TREES):
            yield from _read_small(store, waiting, wanted)
            waiting, waiting_spans = [], 0
        if span_count > PIECE_SPANS:
            before: list[StoredSpan] | None = None
            for spans in store.tree_pieces(trace_id, PIECE_SPANS, unfinished=wanted.unfinished):
                if before is not None:
                    yield Piece(trace_id, before, is_last=False)
                before = spans
            yield Piece(trace_id, before or [], is_last=True)
        else:
            waiting.append(trace_id)
            waiting_spans += span_count
    if waiting:
        yield from _read_small(store, waiting, wanted)


def _read_small(store: Store, trace_ids: list[bytes], wanted: TreeFilter) -> Iterator[Piece]:
    by_trace: dict[bytes, list[StoredSpan]] = {trace_id: [] for trace_id in trace_ids}
    for span in store.whole_trees(trace_ids, unfinished=wanted.unfinished):
        by_trace[span.trace_id].append(span)
    for trace_id, spans in by_trace.items():
        yield Piece(trace_id, spans, is_last=True)
