"""Document of a comparison of two stretches of time."""

from typing import TypedDict

from ztrace_viewer.documents.profile import PathStep


class Side(TypedDict):
    """Trees of one side, and the number of its units of time that have any."""

    traces: int
    minutes: int


class PathChange(TypedDict):
    """Change of one path.

    ``before_ns``, ``after_ns`` and ``change_ns`` are own time on the critical path, for each tree of the
    path's root; ``each_…`` own time a call, null without calls; ``calls_…`` calls a tree.
    """

    path: list[PathStep]
    before_ns: float
    after_ns: float
    change_ns: float
    each_before_ns: float | None
    each_after_ns: float | None
    calls_before: float
    calls_after: float
    p: float
    sure: bool
    cause: str


class DiffDocument(TypedDict):
    """``diff``: the largest changes first.

    ``smallest_seen_ns`` is null where nothing can be sure; ``unit_s`` is 60, or 3600 for times long ago, and
    null where the unit is a tree. Extra: ``sampled_of``, the trees from which those of both sides are, null
    if figures of all trees are compared; ``thinned_until_ns``, the time until which these are thinned, null
    if none are.
    """

    before: Side
    after: Side
    total_change_ns: float
    paths: list[PathChange]
    smallest_seen_ns: float | None
    unit_s: int | None
    sampled_of: int | None
    thinned_until_ns: int | None


class SlowTrees(TypedDict):
    """Trees that took longest, and the duration that they exceed."""

    traces: int
    over_ns: int


class AttributeShare(TypedDict):
    """Shares of the slow trees, and of the rest, in which an attribute has a value."""

    key: str
    value: str
    share_slow: float
    share_rest: float
    p: float


class ExplainDocument(TypedDict):
    """``explain``: what sets the slow trees of a root apart from the rest.

    Extra: ``rest``, the number of the other trees that were read; ``thinned_until_ns``, the time until which
    trees are thinned, null if none of these are. Paths are changes from the rest to the slow
    trees, whose unit is a tree.
    """

    root: str
    slow: SlowTrees
    rest: int
    thinned_until_ns: int | None
    attributes: list[AttributeShare]
    paths: list[PathChange]
