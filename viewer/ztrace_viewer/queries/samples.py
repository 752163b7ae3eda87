"""Trees of one root, read span by span: their figures by path, and the attributes of their spans.

One idea: attributes are in the spans alone, so questions about them read trees. A sample of each side is
enough for what is large, and bounds the time.
"""

import heapq
import random
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from ztrace.errors import NotFoundError
from ztrace_collector.settling.clocks import Hosts, align
from ztrace_collector.settling.counting import PathSums, count_tree
from ztrace_collector.settling.shapes import Shapes
from ztrace_viewer.json_text import read_json
from ztrace_viewer.queries.comparison import MIN_UNITS, SideFigures
from ztrace_viewer.queries.paths import Paths
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.answers import PathUnit, RootRow
from ztrace_viewer.queries.stores.store import Store

#: Share of the trees that are slow.
SLOW_SHARE = 0.05
#: Most trees of a side that are read.
MAX_TREES = 500
#: Spans of a tree that are read, and characters of a value that is compared.
_MAX_SPANS, _MAX_VALUE = 2_000, 200
#: Trees that are read by one question.
_AT_ONCE = 50


class TreeRead(NamedTuple):
    """Sums of a tree by path, and the values of its attributes as text."""

    sums: dict[int, PathSums]
    values: set[tuple[str, str]]


def list_trees(store: Store, methods: Collection[int], selection: Selection) -> list[RootRow]:
    """Return the trees of some root methods that began in a time, in the order of their ids."""
    return sorted(store.root_trees(methods, selection))


def split_slow(
    store: Store, paths: Paths, roots: set[int], root: str, selection: Selection
) -> tuple[list[RootRow], list[RootRow]]:
    """Return a root's trees but for the slowest 5%, at least six, and these; both by duration.

    Raises:
        NotFoundError: there are too few trees.
    """
    trees = list_trees(store, {paths.method(top) for top in roots}, selection)
    if len(trees) < 2 * MIN_UNITS:
        needed = f"at least {2 * MIN_UNITS} are needed; choose a longer time"
        raise NotFoundError(f"only {len(trees)} trees of {root}", hint=needed)
    trees.sort(key=lambda tree: tree.duration_ns)
    room: float = max(MIN_UNITS, round(SLOW_SHARE * sum(tree.weight for tree in trees)))
    border = len(trees)
    while room > 0 or border > len(trees) - MIN_UNITS:
        border -= 1
        room -= trees[border].weight
    border = max(border, MIN_UNITS)
    return trees[:border], trees[border:]


def choose(trees: Sequence[RootRow], most: int, chance: random.Random) -> Sequence[RootRow]:
    """Return some of the trees, all if they are few; those that stand for others are more likely."""
    if len(trees) <= most:
        return trees
    if all(tree.weight == 1 for tree in trees):
        return chance.sample(trees, most)
    # By weight and without repetition: Efraimidis and Spirakis, "Weighted random sampling with a reservoir".
    return heapq.nlargest(most, trees, key=lambda tree: chance.random() ** (1 / tree.weight))


def read_trees(store: Store, paths: Paths, trees: Sequence[RootRow]) -> Iterator[TreeRead]:
    """Yield what trees are compared by, as the collector would count them."""
    hosts = Hosts(store.host)
    clients, servers, consumers = (paths.of_kind(kind) for kind in ("client", "server", "consumer"))
    shapes = Shapes(paths.find, consumers)
    for at in range(0, len(trees), _AT_ONCE):
        found = store.tree_spans([tree.trace_id for tree in trees[at : at + _AT_ONCE]], _MAX_SPANS)
        for spans in found.values():  # Without trees that expired meanwhile.
            rows, seen = [row for row, _ in spans], set()
            for _, attributes in spans:
                values = read_json(attributes) if attributes is not None else None
                for key, value in values.items() if isinstance(values, dict) else ():
                    seen.add((key, as_text(value)))
            if calls := hosts.find_calls(rows, clients, servers):
                rows = align(rows, calls, hosts.of)
            counted = count_tree(rows, shapes, lambda _: "")
            yield TreeRead(counted.sums[""], seen)


def as_text(value: object) -> str:
    """Return a value as it is compared."""
    return (value if isinstance(value, str) else repr(value))[:_MAX_VALUE]


def add_tree(figures: SideFigures, tree: TreeRead, unit: int, paths: Paths, roots: set[int]) -> None:
    """Add a tree to the figures of a side, as one of its units."""
    for path, sums in tree.sums.items():
        root = paths.root(path)
        if root in roots:
            row = PathUnit(unit, path, sums.root_calls, sums.calls, sums.self_ns, sums.critical_ns)
            figures.add(root, row)
