"""Critical path of a root: the sections of its time, each with the span that the root's end waited for.

One idea: walk backwards from the end. Of the children that ended by then, the span waited for the one that
ended last; the time after that child's end is the span's own, and the walk goes on before the child's start.
Children that end later ran beside the awaited one. So the sections are disjoint, in order, and add up to the
root's duration exactly. No function recurses.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from operator import itemgetter

#: Overlap of siblings in other processes that is taken for jitter of their clocks: a share of their parent's
#: time on the path, at most 1 ms.
JITTER_SHARE, JITTER_NS = 100, 1_000_000

#: (end, begin, position) of a child, within its parent.
_Child = tuple[int, int, int]

_in_order = itemgetter(0, 1)


def walk_sections(
    begins_ns: Sequence[int],
    ends_ns: Sequence[int],
    children: Mapping[int, Sequence[int]],
    instances: Sequence[Hashable],
    root: int,
) -> Iterator[tuple[int, int, int]]:
    """Yield the sections of a root's critical path, the last one first.

    Args:
        begins_ns: start of each span of a forest, by its position.
        ends_ns: end of each.
        children: positions of the children of each span that has any. Nothing waits for consumers, so they
            are not among them.
        instances: process of each span.
        root: position of the root.

    Yields:
        (position of the span whose own time it is, begin, end), none of them empty.
    """
    begin_ns, moment_ns = begins_ns[root], ends_ns[root]
    position, left = root, _clip(begins_ns, ends_ns, children.get(root, ()), begin_ns, moment_ns)
    jitter_ns = min(JITTER_NS, (moment_ns - begin_ns) // JITTER_SHARE)
    #: Spans above, each with its begin, the children that are left, and its tolerance.
    above: list[tuple[int, int, list[_Child], int]] = []
    while True:
        # Discard the children that ran beside, up to the awaited one.
        while left:
            end_ns, child_begin_ns, child = left.pop()
            if end_ns <= moment_ns:
                break
            if (
                end_ns - moment_ns <= jitter_ns
                and child_begin_ns < moment_ns - jitter_ns
                and instances[child] != instances[position]
            ):
                end_ns = moment_ns
                break
        else:
            if begin_ns < moment_ns:
                yield position, begin_ns, moment_ns
                moment_ns = begin_ns
            if not above:
                return
            position, begin_ns, left, jitter_ns = above.pop()
            continue
        if end_ns < moment_ns:
            yield position, end_ns, moment_ns
        below = children.get(child)
        if below is None:
            yield child, child_begin_ns, end_ns
            moment_ns = child_begin_ns
            continue
        above.append((position, begin_ns, left, jitter_ns))
        position, begin_ns, moment_ns = child, child_begin_ns, end_ns
        left = _clip(begins_ns, ends_ns, below, begin_ns, moment_ns)
        jitter_ns = min(JITTER_NS, (moment_ns - begin_ns) // JITTER_SHARE)


def _clip(
    begins_ns: Sequence[int],
    ends_ns: Sequence[int],
    positions: Sequence[int],
    begin_ns: int,
    end_ns: int,
) -> list[_Child]:
    """Return the parts of children within a stretch, the one that ends last at the end."""
    clipped = []
    for position in positions:
        child_begin_ns, child_end_ns = begins_ns[position], ends_ns[position]
        if child_begin_ns < begin_ns:
            child_begin_ns = begin_ns
        if child_end_ns > end_ns:
            child_end_ns = end_ns
        if child_begin_ns < child_end_ns:
            clipped.append((child_end_ns, child_begin_ns, position))
    clipped.sort(key=_in_order)
    return clipped
