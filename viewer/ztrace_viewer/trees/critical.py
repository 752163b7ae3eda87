"""Critical path of a root: the sections of its time, each with the span that the root's end waited for.

One idea: walk backwards from the end. Of the children that ended by then, the span waited for the one that
ended last; the time after that child's end is the span's own, and the walk goes on before the child's start.
Children that end later ran beside the awaited one. So the sections are disjoint, in order, and add up to the
root's duration exactly. No function recurses.

Nothing waits for a consumer, and no more is known of a span without an end than its last sign of life.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ztrace_viewer.trees.spans import SpanRow

#: Overlap of siblings in other processes that is taken for jitter of their clocks: a share of their parent's
#: time on the path, at most 1 ms.
_JITTER_SHARE, _JITTER_NS = 100, 1_000_000


class Section(NamedTuple):
    """A stretch of a root's time in which its end waited for a span's own work."""

    position: int
    begin_ns: int
    end_ns: int


class _Visit:
    """A span on the path, and its children that are still to be looked at."""

    __slots__ = ("begin_ns", "children", "jitter_ns", "moment_ns", "position")

    def __init__(self, position: int, begin_ns: int, end_ns: int, children: list[Section]) -> None:
        self.position = position
        self.begin_ns = begin_ns
        #: Begin of the time that is accounted for; it moves towards `begin_ns`.
        self.moment_ns = end_ns
        #: The one that ended last at the end.
        self.children = sorted(children, key=lambda child: (child.end_ns, child.begin_ns))
        self.jitter_ns = min(_JITTER_NS, (end_ns - begin_ns) // _JITTER_SHARE)


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
    times: list[int | None] = [None] * len(rows)
    for root in roots:
        if rows[root].duration_ns is None:
            continue
        below = _walk(root, children)
        own_ns = dict.fromkeys(below, 0)
        for section in find_sections(rows, children, root):
            own_ns[section.position] += section.end_ns - section.begin_ns
        for position in below:
            times[position] = own_ns[position]
    return times


def find_sections(rows: Sequence[SpanRow], children: Sequence[Sequence[int]], root: int) -> list[Section]:
    """Return the sections of the critical path of a root that has ended, in order of time."""
    ends_ns = _find_ends(rows, children, root)

    def visit(position: int, begin_ns: int, end_ns: int) -> _Visit:
        """Return a visit to a span, with its children clipped to it."""
        inside = [
            Section(child, max(rows[child].start_ns, begin_ns), min(ends_ns[child], end_ns))
            for child in children[position]
            if rows[child].kind != "consumer"
        ]
        return _Visit(
            position, begin_ns, end_ns, [child for child in inside if child.end_ns > child.begin_ns]
        )

    sections: list[Section] = []
    visits = [visit(root, rows[root].start_ns, ends_ns[root])]
    while visits:
        current = visits[-1]
        awaited = _take_awaited(current, rows)
        end_ns = current.begin_ns if awaited is None else min(awaited.end_ns, current.moment_ns)
        if end_ns < current.moment_ns:
            sections.append(Section(current.position, end_ns, current.moment_ns))
        if awaited is None:
            visits.pop()
        else:
            current.moment_ns = awaited.begin_ns
            visits.append(visit(awaited.position, awaited.begin_ns, end_ns))
    return sections[::-1]


def _take_awaited(visit: _Visit, rows: Sequence[SpanRow]) -> Section | None:
    """Remove the children from the last one on, up to the one that the span waited for; return that one."""
    while visit.children:
        child = visit.children.pop()
        late_ns = child.end_ns - visit.moment_ns
        if late_ns <= 0:
            return child
        is_jitter = late_ns <= visit.jitter_ns and child.begin_ns < visit.moment_ns - visit.jitter_ns
        if is_jitter and rows[child.position].instance_id != rows[visit.position].instance_id:
            return child
    return None


def _find_ends(rows: Sequence[SpanRow], children: Sequence[Sequence[int]], root: int) -> dict[int, int]:
    """Return the end of each span from a root on; of one without an end the last sign of it."""
    ends_ns: dict[int, int] = {}
    for position in reversed(_walk(root, children)):
        row = rows[position]
        ends_ns[position] = row.end_ns
        if row.duration_ns is None:
            seen_ns = row.start_ns if row.unfinished is None else row.unfinished["last_seen_ns"]
            below_ns = (ends_ns[child] for child in children[position] if rows[child].kind != "consumer")
            ends_ns[position] = max(row.start_ns, seen_ns, *below_ns)
    return ends_ns


def _walk(root: int, children: Sequence[Sequence[int]]) -> list[int]:
    """Return the positions of a root and of all below it, parents before their children."""
    found = [root]
    for position in found:
        found.extend(children[position])
    return found
