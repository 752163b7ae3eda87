"""What sets the slow trees of a root apart from the rest: values of attributes, and call paths.

One idea: the two sides are trees of the same time and root, so a tree is the unit. A sample of each side is
read, because attributes are in the spans alone.
"""

import random
from collections import Counter
from collections.abc import Sequence
from math import comb

from ztrace_viewer.documents.comparison import AttributeShare, ExplainDocument
from ztrace_viewer.queries.comparison import SideFigures, compare_sides, find_limit
from ztrace_viewer.queries.paths import Paths
from ztrace_viewer.queries.samples import MAX_TREES, add_tree, choose, read_trees, split_slow
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.answers import RootRow
from ztrace_viewer.queries.stores.store import Store
from ztrace_viewer.queries.thinned import find_thinned_until

#: Share of the slow trees that a value needs to be worth a line, and most lines.
_LEAST_SHARE, _MAX_VALUES = 0.1, 50


def explain(
    store: Store, root: str, selection: Selection, limit: int | None = None, seed: int = 0
) -> ExplainDocument:
    """Return what sets the slowest trees of a root apart from the rest.

    Args:
        store: the store.
        root: ``SERVICE.METHOD`` or ``METHOD``.
        selection: the time in which the trees started.
        limit: most paths to return.
        seed: of the sample of trees.

    Raises:
        NotFoundError: there are too few trees of such a root.
        SettingsError: the root's name is that of several services.
    """
    paths = Paths(store)
    roots = paths.find_roots(root)
    others, slowest = split_slow(store, paths, roots, root, selection)
    chance = random.Random(seed)
    rest, slow = (choose(side, MAX_TREES, chance) for side in (others, slowest))
    sides, values = [], []
    for chosen in (rest, slow):
        figures, seen = _read_side(store, paths, roots, chosen)
        sides.append(figures)
        values.append(seen)
    changes, _ = compare_sides(paths, *sides)
    named = paths.last(min(roots))
    return {
        "root": f"{named['service']}.{named['name']}",
        "slow": {"traces": len(slow), "over_ns": others[-1].duration_ns},
        "rest": len(rest),
        "thinned_until_ns": find_thinned_until(store, selection),
        "attributes": _compare_values(values[1], len(slow), values[0], len(rest)),
        "paths": changes[:limit],
    }


def _read_side(
    store: Store, paths: Paths, roots: set[int], trees: Sequence[RootRow]
) -> tuple[SideFigures, Counter[tuple[str, str]]]:
    """Return the figures of some trees by path, and the number of trees with each value of an attribute."""
    figures, values = SideFigures(), Counter[tuple[str, str]]()
    for unit, tree in enumerate(read_trees(store, paths, trees)):
        values.update(tree.values)
        add_tree(figures, tree, unit, paths, roots)
    return figures, values


def _compare_values(
    slow: Counter[tuple[str, str]], slow_count: int, rest: Counter[tuple[str, str]], rest_count: int
) -> list[AttributeShare]:
    """Return the values that are sure to be more frequent among the slow trees, the most telling first."""
    tested: list[AttributeShare] = []
    for (key, value), count in slow.items():
        share, other = count / slow_count, rest[key, value] / rest_count
        if share >= _LEAST_SHARE and share > other:
            p = fisher(count, slow_count, rest[key, value], rest_count)
            tested.append({"key": key, "value": value, "share_slow": share, "share_rest": other, "p": p})
    limit_p = find_limit([each["p"] for each in tested])
    sure = [each for each in tested if each["p"] <= limit_p]
    sure.sort(
        key=lambda each: (each["p"], each["share_rest"] - each["share_slow"], each["key"], each["value"])
    )
    return sure[:_MAX_VALUES]


def fisher(one: int, one_of: int, other: int, other_of: int) -> float:
    """Return the chance that so many of the ones, or more, have something by chance (Fisher's exact test)."""
    both, whole = one + other, one_of + other_of
    ways = sum(
        comb(one_of, count) * comb(other_of, both - count) for count in range(one, min(one_of, both) + 1)
    )
    return ways / comb(whole, both)
