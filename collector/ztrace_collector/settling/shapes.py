"""Shapes of trees: what depends on the methods and parents of a tree's spans alone.

One idea: services make the same calls all day, so most trees differ only in their ids and times. The order of
a tree's spans, their paths and their children are worked out once for all trees of a shape.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from typing import NamedTuple

from ztrace_collector.settling.paths import ABOVE_ROOTS

#: Spans of a tree whose shape is kept, and of all shapes that are kept, at some hundred bytes each: larger
#: trees are seldom the same.
MAX_SPANS, MAX_OF_ALL = 64, 20_000


class Step(NamedTuple):
    """A span of a shape.

    Attributes:
        position: its place in the order of starts.
        path: its path.
        children: positions of its children, in order.
        awaited: of those, the ones that it may have waited for.
        is_repeated: a span above is on the same path, whose total has the time already.
    """

    position: int
    path: int
    children: Sequence[int]
    awaited: Sequence[int]
    is_repeated: bool


class Shape(NamedTuple):
    """Shape of a tree.

    Attributes:
        steps: the spans, children before their parents.
        paths: their paths, by position.
        roots: positions of the roots, in order.
        awaited: children that a span may have waited for, by position, of spans that have any.
        is_chain: no span has two of them.
    """

    steps: Sequence[Step]
    paths: Sequence[int]
    roots: Sequence[int]
    awaited: Mapping[int, Sequence[int]]
    is_chain: bool


class Shapes:
    """Shapes by the methods and parents of the spans, with the paths of one file."""

    def __init__(self, find_path: Callable[[int, int], int], consumers: Set[int]) -> None:
        """Start without any.

        Args:
            find_path: returns the path of a method below a path.
            consumers: methods that nothing waits for; those of new methods may be added later.
        """
        self._find_path, self._consumers = find_path, consumers
        self._known: dict[tuple[Sequence[int], Sequence[int | None]], Shape] = {}
        self._room = MAX_OF_ALL

    def find(self, methods: tuple[int, ...], parents: tuple[int | None, ...]) -> Shape:
        """Return the shape of spans in the order of their starts.

        Args:
            methods: their methods.
            parents: positions of their parents, None for roots.
        """
        shape = self._known.get((methods, parents))
        if shape is None:
            shape = self._make(methods, list(parents))
            if len(methods) <= MAX_SPANS:
                if self._room < len(methods):
                    self._known.clear()
                    self._room = MAX_OF_ALL
                self._room -= len(methods)
                self._known[methods, parents] = shape
        return shape

    def _make(self, methods: Sequence[int], parents: list[int | None]) -> Shape:
        children = _find_children(parents)
        order, paths, repeated = _name_paths(methods, parents, children, self._find_path)
        if len(order) < len(methods):  # No root is above a circle.
            _cut_circles(parents, children)
            order, paths, repeated = _name_paths(methods, parents, children, self._find_path)
        awaited: dict[int, list[int]] = children
        if not self._consumers.isdisjoint(methods):
            awaited = {
                above: kept
                for above, each in children.items()
                if (kept := [child for child in each if methods[child] not in self._consumers])
            }
        return Shape(
            [
                Step(place, paths[place], children.get(place, ()), awaited.get(place, ()), place in repeated)
                for place in reversed(order)
            ],
            paths,
            [position for position, parent in enumerate(parents) if parent is None],
            awaited,
            max(map(len, awaited.values()), default=1) == 1,
        )


def _find_children(parents: Sequence[int | None]) -> dict[int, list[int]]:
    """Return the positions of the children, in order, of those that have any."""
    children: dict[int, list[int]] = {}
    for position, parent in enumerate(parents):
        if parent is not None:
            children.setdefault(parent, []).append(position)
    return children


def _cut_circles(parents: list[int | None], children: dict[int, list[int]]) -> None:
    """Make the earliest span of each circle of parents a root."""
    for position in find_circles(parents):
        parent = parents[position]
        assert parent is not None
        parents[position] = None
        children[parent].remove(position)
        if not children[parent]:
            del children[parent]


def find_circles(parents: Sequence[int | None]) -> list[int]:
    """Return the lowest position of each circle of parents."""
    #: Number of the walk that met each position first, 0 for none; met twice by one walk, it is on a circle.
    met_by = [0] * len(parents)
    lowest = []
    for walk_number, start in enumerate(range(len(parents)), 1):
        position: int | None = start
        while position is not None and not met_by[position]:
            met_by[position] = walk_number
            position = parents[position]
        if position is not None and met_by[position] == walk_number:
            first, step = position, parents[position]
            while step is not None and step != position:
                first, step = min(first, step), parents[step]
            lowest.append(first)
    return lowest


def _name_paths(
    methods: Sequence[int],
    parents: Sequence[int | None],
    children: Mapping[int, Sequence[int]],
    find_path: Callable[[int, int], int],
) -> tuple[list[int], list[int], set[int]]:
    """Return all positions, parents first, the path of each, and those below a span on the same path.

    The total of a path leaves the latter out, whose time is in the total already.
    """
    paths = [ABOVE_ROOTS] * len(methods)
    order = [position for position, parent in enumerate(parents) if parent is None]
    for root in order:
        paths[root] = find_path(ABOVE_ROOTS, methods[root])
    #: Paths of all spans above, for spans within a recursion.
    within: dict[int, set[int]] = {}
    repeated: set[int] = set()
    for position in order:
        path, open_paths = paths[position], within.get(position)
        for child in children.get(position, ()):
            child_path = paths[child] = find_path(path, methods[child])
            order.append(child)
            # Paths are numbered from the root down, so a number that is not higher is one from above.
            if open_paths is None and child_path <= path:
                open_paths = _paths_above(child, parents, paths)
            if open_paths is not None:
                if child_path in open_paths:
                    repeated.add(child)
                    within[child] = open_paths
                else:
                    within[child] = open_paths | {child_path}
    return order, paths, repeated


def _paths_above(position: int, parents: Sequence[int | None], paths: Sequence[int]) -> set[int]:
    found = set()
    above = parents[position]
    while above is not None:
        found.add(paths[above])
        above = parents[above]
    return found
