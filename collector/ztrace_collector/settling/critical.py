"""Critical path of a root: the sections of its time, each with the span that the root's end waited for.

One idea: walk backwards from the end. Of the children that ended by then, the span waited for the one that
ended last; the time after that child's end is the span's own, and the walk goes on before the child's start.
Children that end later ran beside the awaited one. So the sections are disjoint, in order, and add up to the
root's duration exactly. No function recurses.

Of a gather, the child that was waited for was begun by its own thread, task or greenlet, its lane: what it
followed is the child before in that lane, and not one of another lane that ran beside and ended later.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

#: Overlap of siblings in other processes that is taken for jitter of their clocks: a share of their parent's
#: time on the path, at most 1 ms.
JITTER_SHARE, JITTER_NS = 100, 1_000_000

#: (end, begin, position) of a child, within its parent.
_Child = tuple[int, int, int]

_in_order = itemgetter(0, 1)


class _ByLane(NamedTuple):
    """Children of a span by their lanes.

    Attributes:
        places: in the list of those that are left, in order, by lane.
        unknown: positions of those whose lane is unknown.
    """

    places: dict[int, list[int]]
    unknown: set[int]


def walk_sections(
    begins_ns: Sequence[int],
    ends_ns: Sequence[int],
    children: Mapping[int, Sequence[int]],
    instances: Sequence[Hashable],
    lanes: Sequence[int | None],
    root: int,
) -> Iterator[tuple[int, int, int]]:
    """Yield the sections of a root's critical path, the last one first.

    Args:
        begins_ns: start of each span of a forest, by its position.
        ends_ns: end of each.
        children: positions of the children of each span that has any. Nothing waits for consumers, so they
            are not among them.
        instances: process of each span.
        lanes: lane of each, within its process; None if it is unknown, or if nothing ran beside it.
        root: position of the root.

    Yields:
        (position of the span whose own time it is, begin, end), none of them empty.
    """
    begin_ns, moment_ns = begins_ns[root], ends_ns[root]
    position, left = root, _clip(begins_ns, ends_ns, children.get(root, ()), begin_ns, moment_ns)
    jitter_ns = min(JITTER_NS, (moment_ns - begin_ns) // JITTER_SHARE)
    #: The children by their lanes, once the awaited one is in a lane of its own.
    by_lane: _ByLane | None = None
    #: Spans above, each with its begin, the children that are left, its tolerance, and its lanes.
    above: list[tuple[int, int, list[_Child], int, _ByLane | None]] = []
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
            position, begin_ns, left, jitter_ns, by_lane = above.pop()
            continue
        if end_ns < moment_ns:
            yield position, end_ns, moment_ns
        lane = lanes[child]
        # Of the span's own lane, it may have waited for any.
        if lane is not None and left and lane != lanes[position] and instances[child] == instances[position]:
            if by_lane is None:
                by_lane = _find_lanes(left, instances, lanes, instances[position])
            _follow_lane(left, by_lane, lane, child_begin_ns)
        below = children.get(child)
        if below is None:
            yield child, child_begin_ns, end_ns
            moment_ns = child_begin_ns
            continue
        above.append((position, begin_ns, left, jitter_ns, by_lane))
        position, begin_ns, moment_ns, by_lane = child, child_begin_ns, end_ns, None
        left = _clip(begins_ns, ends_ns, below, begin_ns, moment_ns)
        jitter_ns = min(JITTER_NS, (moment_ns - begin_ns) // JITTER_SHARE)


def walk_chain(
    begins_ns: Sequence[int], ends_ns: Sequence[int], children: Mapping[int, Sequence[int]], root: int
) -> list[tuple[int, int, int]]:
    """Return the sections of `walk_sections`, in another order, where no span has two children.

    Args:
        begins_ns, ends_ns, children, root: as there.
    """
    position, begin_ns, end_ns = root, begins_ns[root], ends_ns[root]
    sections = []
    while position in children:
        (child,) = children[position]
        child_begin_ns, child_end_ns = begins_ns[child], ends_ns[child]
        if child_begin_ns < begin_ns:
            child_begin_ns = begin_ns
        if child_end_ns > end_ns:
            child_end_ns = end_ns
        if child_begin_ns >= child_end_ns:
            break
        if begin_ns < child_begin_ns:
            sections.append((position, begin_ns, child_begin_ns))
        if child_end_ns < end_ns:
            sections.append((position, child_end_ns, end_ns))
        position, begin_ns, end_ns = child, child_begin_ns, child_end_ns
    if begin_ns < end_ns:
        sections.append((position, begin_ns, end_ns))
    return sections


def _find_lanes(
    left: Sequence[_Child], instances: Sequence[Hashable], lanes: Sequence[int | None], instance: Hashable
) -> _ByLane:
    """Return the places of children in `left` by their lanes; of another process's, lanes are unknown."""
    by_lane = _ByLane({}, set())
    for place, (_, _, child) in enumerate(left):
        lane = lanes[child]
        if lane is None or instances[child] != instance:
            by_lane.unknown.add(child)
        else:
            by_lane.places.setdefault(lane, []).append(place)
    return by_lane


def _follow_lane(left: list[_Child], by_lane: _ByLane, lane: int, begin_ns: int) -> None:
    """Discard the children that ran beside the one before an awaited one in its lane, if there is one.

    A child that began after that one's end may have been waited for: calls one after the other, each in some
    thread of a pool, are in several lanes. Children are only ever taken from the end of `left`, so places
    before stay.
    """
    while left and left[-1][0] > begin_ns:
        left.pop()
    if not left or left[-1][2] in by_lane.unknown:
        return
    places = by_lane.places.get(lane, [])
    while places and places[-1] >= len(left):
        places.pop()
    if places:
        before_ns = left[places[-1]][0]
        while len(left) - 1 > places[-1] and left[-1][1] < before_ns:
            left.pop()


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
