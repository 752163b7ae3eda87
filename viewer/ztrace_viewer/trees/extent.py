"""Extent of a tree in time, by the rules by which the collector keeps that of a trace."""

from dataclasses import dataclass

from ztrace_collector.tables.extent import FAR_NS, extend, set_root
from ztrace_viewer.trees.columns import Spans


@dataclass(slots=True)
class Extent:
    """Start and end of a tree, as `ztrace_collector.tables.extent` has them."""

    start_ns: int
    end_ns: int
    root_start_ns: int | None = None


def find_extent(spans: Spans, now_ns: int, root_service: str | None = None) -> tuple[int, int | None]:
    """Return the start of a tree, and its duration: that of its earliest root, None while it is open.

    The collector writes the same into ``traces``, so lists and trees agree.

    Args:
        spans: at least one.
        now_ns: present time, by which a span lies in the future; 0 if unknown.
        root_service: as in `ztrace_viewer.trees.tree.build_tree`.
    """
    opened = [position for position, duration_ns in enumerate(spans.duration_ns) if duration_ns is None]
    extent = _extend_by(spans, opened, now_ns)
    root: int | None = None
    for position, parent_id in enumerate(spans.parent_id):
        if parent_id is not None or root_service not in (None, spans.call[position].service):
            continue
        if root is None or _root_key(spans, position) < _root_key(spans, root):
            root = position
            set_root(extent, spans.start_ns[root], spans.end_ns(root))
    if root is not None:
        return extent.start_ns, spans.duration_ns[root]
    start_ns = min([extent.start_ns, *(spans.start_ns[position] for position in opened)])
    return start_ns, None if len(opened) == len(spans.span_id) else extent.end_ns - start_ns


def _extend_by(spans: Spans, opened: list[int], now_ns: int) -> Extent:
    """Return the extent of the ended spans; of all if none has ended.

    The collector's row has the ended spans alone; open ones can only make it begin earlier.
    """
    starts_ns = spans.start_ns
    ends_ns = [
        start_ns + (duration_ns or 0)
        for start_ns, duration_ns in zip(starts_ns, spans.duration_ns, strict=True)
    ]
    now_ns = now_ns or max(ends_ns)
    if opened and len(opened) < len(ends_ns):
        left = set(opened)
        ended = [position for position in range(len(ends_ns)) if position not in left]
        starts_ns, ends_ns = [starts_ns[each] for each in ended], [ends_ns[each] for each in ended]
    extent = Extent(min(starts_ns), max(ends_ns))
    if extent.end_ns - extent.start_ns > FAR_NS:  # Otherwise they are near each other, in any order.
        extent = Extent(starts_ns[0], ends_ns[0])
        for start_ns, end_ns in zip(starts_ns, ends_ns, strict=True):
            extend(extent, start_ns, end_ns, now_ns)
    return extent


def _root_key(spans: Spans, position: int) -> tuple[int, bytes, bool, int]:
    duration_ns = spans.duration_ns[position]
    return spans.start_ns[position], spans.span_id[position], duration_ns is None, duration_ns or 0
