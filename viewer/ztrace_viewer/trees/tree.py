"""Call trees as documents, from rows of spans."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

from ztrace_viewer.documents.exceptions import ExceptionDocument
from ztrace_viewer.documents.trees import FlatTreeDocument, PlacedSpan, SpanDocument, TreeDocument
from ztrace_viewer.trees.arrangement import arrange
from ztrace_viewer.trees.clocks import NO_OFFSETS, Offset
from ztrace_viewer.trees.columns import Spans
from ztrace_viewer.trees.missing import NO_FACTS, Facts
from ztrace_viewer.trees.spans import SpanRow, make_span


def build_tree(
    trace_id: bytes,
    rows: Iterable[SpanRow],
    exceptions: Mapping[bytes, ExceptionDocument],
    facts: Facts = NO_FACTS,
    root_service: str | None = None,
    offsets: Mapping[str, Offset] = NO_OFFSETS,
) -> TreeDocument:
    """Return the spans of one trace as a tree.

    Args:
        trace_id: 16 bytes.
        rows: each span once, in the order of storing; at least one.
        exceptions: exceptions by span id.
        facts: as in `arrange`.
        root_service: as in `arrange`.
        offsets: as in `arrange`; ``start_ns`` stays as stored.

    Returns:
        The tree, with roots and children in the order of their start. A span whose parent is not stored is a
        root, with the reason in ``missing``.
    """
    rows = list(rows)
    arranged = arrange(Spans.of(rows), facts, root_service, offsets)
    left = dict(exceptions)
    # Of spans with the same id, the first of the tree has the exception.
    owners = {rows[position].span_id: position for position in reversed(arranged.order)}
    spans = [
        make_span(row, left.get(row.span_id) if owners[row.span_id] == position else None)
        for position, row in enumerate(rows)
    ]
    for position, row in enumerate(rows):
        span = spans[position]
        span["instance"]["clock"] = arranged.find_clock(row.host)
        span["self_ns"] = arranged.self_ns[position]
        span["critical_ns"] = arranged.critical_ns[position]
        span["children"] = [spans[child] for child in arranged.children.get(position, ())]
    return {
        "trace_id": trace_id.hex(),
        "start_ns": arranged.start_ns,
        "duration_ns": arranged.duration_ns,
        "services": arranged.services,
        "span_count": len(spans),
        "error_count": arranged.error_count,
        "complete": not arranged.missing,
        "missing": arranged.missing,
        "roots": [spans[position] for position in arranged.roots],
    }


def walk(roots: Sequence[SpanDocument]) -> Iterator[tuple[SpanDocument, int]]:
    """Yield each span of ``roots`` and below with its depth, parents before children."""
    pending = [(span, 0) for span in reversed(roots)]
    while pending:
        span, depth = pending.pop()
        yield span, depth
        pending.extend((child, depth + 1) for child in reversed(span["children"]))


def flatten(tree: TreeDocument) -> FlatTreeDocument:
    """Return a tree as the list of its spans, each with its depth, in the order of the tree."""
    spans: list[PlacedSpan] = []
    for span, depth in walk(tree["roots"]):
        placed: dict[str, object] = {**span, "depth": depth}
        del placed["children"]
        spans.append(cast(PlacedSpan, placed))
    flat: dict[str, object] = {**tree, "spans": spans}
    del flat["roots"]
    return cast(FlatTreeDocument, flat)
