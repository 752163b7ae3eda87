"""Comparison of trees of one root with others of the same time: slow ones, or those with an attribute.

One idea: what changes from minute to minute is on both sides, so a tree is the unit of the test, and not a
minute.
"""

import random

from ztrace.errors import NotFoundError
from ztrace_viewer.documents.comparison import DiffDocument
from ztrace_viewer.queries.comparison import SideFigures, describe_sides
from ztrace_viewer.queries.paths import Paths
from ztrace_viewer.queries.samples import (
    MAX_TREES,
    add_tree,
    as_text,
    choose,
    list_trees,
    read_trees,
    split_slow,
)
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.store import Store
from ztrace_viewer.queries.thinned import find_thinned_until


def compare_slow(
    store: Store, root: str, selection: Selection, limit: int | None, seed: int = 0
) -> DiffDocument:
    """Return in what the slowest 5% of a root's trees, at least six, differ from the rest.

    Args:
        store: the store.
        root: ``SERVICE.METHOD`` or ``METHOD``.
        selection: the time in which the trees began.
        limit: most paths to return.
        seed: of the sample of trees.

    Raises:
        NotFoundError: there are too few trees of such a root.
        SettingsError: the root's name is that of several services.
    """
    paths = Paths(store)
    roots = paths.find_roots(root)
    parts = split_slow(store, paths, roots, root, selection)
    chance, sides = random.Random(seed), (SideFigures(), SideFigures())
    for side, part in zip(sides, parts, strict=True):
        for unit, tree in enumerate(read_trees(store, paths, choose(part, MAX_TREES, chance))):
            add_tree(side, tree, unit, paths, roots)
    return describe_sides(
        paths, sides, limit, None, sum(map(len, parts)), find_thinned_until(store, selection)
    )


def compare_values(
    store: Store,
    root: str,
    key: str,
    before: str | None,
    after: str | None,
    selection: Selection,
    limit: int | None,
    seed: int = 0,
) -> DiffDocument:
    """Return in what trees differ of which a span has one value of an attribute, or another.

    Args:
        store: the store.
        root: ``SERVICE.METHOD`` or ``METHOD``.
        key: name of the attribute.
        before: value on the first side; None for all trees without the other one.
        after: likewise; one of the two is given.
        selection: the time in which the trees began.
        limit: most paths to return.
        seed: of the sample of trees.

    Raises:
        NotFoundError: a side has no trees.
        SettingsError: the root's name is that of several services.
    """
    paths = Paths(store)
    roots = paths.find_roots(root)
    trees = list_trees(store, {paths.method(top) for top in roots}, selection)
    sides = SideFigures(), SideFigures()
    chosen = choose(trees, 2 * MAX_TREES, random.Random(seed))
    for unit, tree in enumerate(read_trees(store, paths, chosen)):
        has = [value is not None and (key, as_text(value)) in tree.values for value in (before, after)]
        is_before = has[0] if before is not None else not has[1]
        is_after = has[1] if after is not None else not has[0]
        if is_before != is_after:  # A tree with both values tells nothing.
            add_tree(sides[is_after], tree, unit, paths, roots)
    for value, side in zip((before, after), sides, strict=True):
        if not side.size["traces"]:
            named = f"with {key}={value}" if value is not None else f"without {key}={before or after}"
            raise NotFoundError(
                f"no trees of {root} {named}", hint="choose a longer time, or give another value"
            )
    return describe_sides(paths, sides, limit, None, len(trees), find_thinned_until(store, selection))
