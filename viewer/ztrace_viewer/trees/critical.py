"""Time of each span of a tree on the critical path of its root.

Nothing waits for a consumer, and no more is known of a span without an end than its last sign of life.
"""

from collections.abc import Mapping, Sequence

from ztrace_collector.settling.critical import walk_sections
from ztrace_viewer.trees.columns import Spans


def find_critical(
    spans: Spans,
    begins_ns: Sequence[int],
    children: Mapping[int, Sequence[int]],
    roots: Sequence[int],
    order: Sequence[int],
) -> list[int | None]:
    """Return each span's own time on the critical path of its root.

    Args:
        spans: spans of a forest.
        begins_ns: start of each by the clock of the root's host.
        children: positions of the children of each span that has any.
        roots: positions of the spans without a parent.
        order: positions of all spans, parents before their children.

    Returns:
        Nanoseconds by position: they add up to the root's duration, and are 0 beside the path. None for a
        root without an end, and below it.
    """
    awaited = _find_awaited(spans, children)
    ends_ns = _find_ends(spans, begins_ns, order, awaited)
    own_ns = [0] * len(order)
    unknown: set[int] = set()
    for root in roots:
        if spans.duration_ns[root] is None:
            unknown.update(_walk(root, children))
            continue
        sections = walk_sections(begins_ns, ends_ns, awaited, spans.process, spans.lane, root)
        for position, begin_ns, end_ns in sections:
            own_ns[position] += end_ns - begin_ns
    return [None if position in unknown else time_ns for position, time_ns in enumerate(own_ns)]


def _find_awaited(spans: Spans, children: Mapping[int, Sequence[int]]) -> Mapping[int, Sequence[int]]:
    """Return the children that each span may have waited for, of those that have any."""
    consumers = spans.find_consumers()
    if not consumers:
        return children
    return {
        position: kept
        for position, below in children.items()
        if (kept := [child for child in below if child not in consumers])
    }


def _find_ends(
    spans: Spans, begins_ns: Sequence[int], order: Sequence[int], awaited: Mapping[int, Sequence[int]]
) -> list[int]:
    """Return the end of each span; of one without an end the last sign of it, or of its children."""
    ends_ns = [
        begin_ns + (duration_ns or 0)
        for begin_ns, duration_ns in zip(begins_ns, spans.duration_ns, strict=True)
    ]
    if None not in spans.duration_ns:
        return ends_ns
    for position in reversed(order):
        if spans.duration_ns[position] is None:
            state, begin_ns = spans.unfinished.get(position), begins_ns[position]
            last_ns = (ends_ns[child] for child in awaited.get(position, ()))
            ends_ns[position] = max(begin_ns, begin_ns if state is None else state["last_seen_ns"], *last_ns)
    return ends_ns


def _walk(root: int, children: Mapping[int, Sequence[int]]) -> list[int]:
    """Return the positions of a root and of all below it, parents before their children."""
    found = [root]
    for position in found:
        found.extend(children.get(position, ()))
    return found
