"""Time of each span of a tree on the critical path of its root.

Nothing waits for a consumer, and no more is known of a span without an end than its last sign of life.
"""

from collections.abc import Mapping, Sequence

from ztrace_collector.settling.critical import walk_sections
from ztrace_viewer.trees.spans import SpanRow


def find_critical(
    rows: Sequence[SpanRow], children: Sequence[Sequence[int]], roots: Sequence[int]
) -> list[int | None]:
    """Return each span's own time on the critical path of its root.

    Args:
        rows: spans of a forest.
        children: positions of each span's children.
        roots: positions of the spans without a parent.

    Returns:
        Nanoseconds by position: they add up to the root's duration, and are 0 beside the path. None for a
        root without an end, and below it.
    """
    begins_ns = [row.start_ns for row in rows]
    instances = [row.instance_id for row in rows]
    lanes = [row.lane for row in rows]
    awaited = {
        position: kept
        for position, each in enumerate(children)
        if (kept := [child for child in each if rows[child].kind != "consumer"])
    }
    times: list[int | None] = [None] * len(rows)
    for root in roots:
        if rows[root].duration_ns is None:
            continue
        below = _walk(root, children)
        own_ns = dict.fromkeys(below, 0)
        ends_ns = _find_ends(rows, below, awaited)
        for position, begin_ns, end_ns in walk_sections(begins_ns, ends_ns, awaited, instances, lanes, root):
            own_ns[position] += end_ns - begin_ns
        for position in below:
            times[position] = own_ns[position]
    return times


def _find_ends(
    rows: Sequence[SpanRow], below: Sequence[int], awaited: Mapping[int, Sequence[int]]
) -> list[int]:
    """Return the end of each span; of one without an end the last sign of it, or of its children."""
    ends_ns = [row.end_ns for row in rows]
    for position in reversed(below):
        row = rows[position]
        if row.duration_ns is None:
            seen_ns = row.start_ns if row.unfinished is None else row.unfinished["last_seen_ns"]
            last_ns = (ends_ns[child] for child in awaited.get(position, ()))
            ends_ns[position] = max(row.start_ns, seen_ns, *last_ns)
    return ends_ns


def _walk(root: int, children: Sequence[Sequence[int]]) -> list[int]:
    """Return the positions of a root and of all below it, parents before their children."""
    found = [root]
    for position in found:
        found.extend(children[position])
    return found
