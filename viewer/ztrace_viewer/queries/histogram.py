"""Call trees over time: how many began in each part of a stretch, and how many of them failed."""

from typing import TypedDict

from ztrace_viewer.queries.names import find_methods
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.store import Store

#: Parts of the stretch.
PARTS = 80
#: Shortest part: bars of trees that follow each other by less say nothing.
_LEAST_NS = 1_000_000


class HistogramDocument(TypedDict):
    """Trees by the part of the stretch in which they began; ``errors`` are those with a failed span."""

    since_ns: int
    until_ns: int
    traces: list[int]
    errors: list[int]


def count_trees(store: Store, selection: Selection, now_ns: int) -> HistogramDocument:
    """Return the numbers of trees of a selection over time; its service and method are the root's.

    Args:
        store: the store.
        selection: without a begin or an end, the stretch is from the first tree or to now.
        now_ns: present time, Unix.
    """
    since_ns, until_ns = selection.since_ns, selection.until_ns
    if since_ns is None:
        first_ns = store.first_start()
        since_ns = now_ns if first_ns is None else first_ns
    if until_ns is None:
        until_ns = max(now_ns, since_ns)
    width_ns = max(_LEAST_NS, -(-(until_ns - since_ns) // PARTS))
    document: HistogramDocument = {
        "since_ns": since_ns,
        "until_ns": since_ns + PARTS * width_ns,
        "traces": [0] * PARTS,
        "errors": [0] * PARTS,
    }
    for row in store.part_counts(since_ns, until_ns, width_ns, find_methods(store, selection)):
        document["traces"][row.part] = row.traces
        document["errors"][row.part] = row.errors
    return document
