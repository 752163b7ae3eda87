"""Comparison of two stretches of time: which call paths made trees slower, and whether that is sure.

One idea: the unit of the test is a minute, not a span or a tree. What makes one call slow makes its
neighbours slow too, so a test by trees finds differences between any two stretches: with minutes that differ
by 15%, in 33% of comparisons of a service with itself, where 5% are meant. Minutes are nearly independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from statistics import NormalDist, fmean, variance
from typing import NamedTuple

from ztrace.errors import SettingsError
from ztrace_collector.layout import PATH_MINUTES_NS, RESOLUTIONS_S, SECOND_NS
from ztrace_viewer.documents.comparison import DiffDocument, PathChange, Side
from ztrace_viewer.documents.profile import PathStep
from ztrace_viewer.queries.paths import Paths
from ztrace_viewer.queries.stores.answers import PathUnit
from ztrace_viewer.queries.stores.store import Store

#: Units that a side needs, and the share of false alarms among what is called sure.
MIN_UNITS, FALSE_ALARMS = 6, 0.05
#: Share of a root's time under which a path is left out.
_SHOWN = 0.01
#: Chance with which the smallest change that is told would have been found.
_POWER = 0.8
#: One part of a change explains it alone if it is so many times the other.
_ALONE = 4

SLOWER, MORE_CALLS, BOTH, GONE, NEW = "slower", "more calls", "both", "gone", "new"


@dataclass(slots=True)
class _Path:
    """A path on one side."""

    calls: int = 0
    self_ns: int = 0
    critical_ns: int = 0
    by_unit: dict[int, int] = field(default_factory=dict)


class _Change(NamedTuple):
    """Change of a path; its fields are those of `PathChange`.

    Attributes:
        error_ns: standard error of the change; None if it was not tested.
        is_large: the path has a share of its root's time that is worth a look.
    """

    path: int
    before_ns: float
    after_ns: float
    each_before_ns: float | None
    each_after_ns: float | None
    calls_before: float
    calls_after: float
    p: float
    error_ns: float | None
    is_large: bool


class SideFigures:
    """Figures of one side: roots by unit, and paths."""

    def __init__(self) -> None:
        #: Calls of each root by unit, and the time of all its trees.
        self.roots: dict[int, dict[int, int]] = {}
        self.whole_ns: dict[int, int] = {}
        self.paths: dict[int, _Path] = {}

    def add(self, root: int, row: PathUnit) -> None:
        """Add the sums of a path in a unit."""
        if row.root_calls:
            trees = self.roots.setdefault(root, {})
            trees[row.unit] = trees.get(row.unit, 0) + row.root_calls
        self.whole_ns[root] = self.whole_ns.get(root, 0) + row.critical_ns
        total = self.paths.setdefault(row.path, _Path())
        total.calls += row.calls
        total.self_ns += row.self_ns
        total.critical_ns += row.critical_ns
        total.by_unit[row.unit] = total.by_unit.get(row.unit, 0) + row.critical_ns

    @property
    def size(self) -> Side:
        """Numbers of trees and of units that have any."""
        units = {unit for by_unit in self.roots.values() for unit in by_unit}
        return {"traces": sum(map(self.trees, self.roots)), "minutes": len(units)}

    def trees(self, root: int) -> int:
        """Return the number of trees of a root."""
        return sum(self.roots.get(root, {}).values())

    def samples(self, path: int, root: int) -> list[float]:
        """Return a path's critical time for each tree, one value for each unit with trees."""
        by_unit = self.paths[path].by_unit if path in self.paths else {}
        return [by_unit.get(unit, 0) / trees for unit, trees in self.roots.get(root, {}).items()]


def compare(
    store: Store,
    root: str | None,
    before: tuple[int, int],
    after: tuple[int, int],
    limit: int | None,
    now_ns: int,
) -> DiffDocument:
    """Return what changed between two stretches of time.

    Args:
        store: the store.
        root: ``SERVICE.METHOD`` or ``METHOD`` of the trees' roots; None to compare each root with itself.
        before: begin and end, Unix.
        after: likewise.
        limit: most paths to return.
        now_ns: present time: of long ago, only hours are known.

    Raises:
        NotFoundError: no tree has such a root.
        SettingsError: the root's name is that of several services, or the stretches overlap.
    """
    if max(before[0], after[0]) < min(before[1], after[1]):
        raise SettingsError("--before and --after overlap", hint="give two stretches of which one ends first")
    paths = Paths(store)
    roots = paths.find_roots(root)
    unit_s = choose_unit(min(before[0], after[0]), now_ns)
    sides = [read_side(store, paths, roots, stretch, unit_s) for stretch in (before, after)]
    return describe_sides(paths, sides, limit, unit_s)


def describe_sides(
    paths: Paths,
    sides: Sequence[SideFigures],
    limit: int | None,
    unit_s: int | None,
    sampled_of: int | None = None,
    thinned_until_ns: int | None = None,
) -> DiffDocument:
    """Return the document of a comparison of two sides.

    Args:
        paths: of the figures.
        sides: the two.
        limit: most paths to return.
        unit_s: unit of the test; None for trees.
        sampled_of: number of trees of which some were read; None if none were.
        thinned_until_ns: time until which these trees are thinned; None if none are.
    """
    before, after = sides
    documents, errors_ns = compare_sides(paths, before, after)
    normal = NormalDist()
    factor = normal.inv_cdf(1 - FALSE_ALARMS / 2) + normal.inv_cdf(_POWER)
    return {
        "before": before.size,
        "after": after.size,
        "total_change_ns": sum(change["change_ns"] for change in documents),
        "paths": documents[:limit],
        "smallest_seen_ns": factor * max(errors_ns) if errors_ns else None,
        "unit_s": unit_s,
        "sampled_of": sampled_of,
        "thinned_until_ns": thinned_until_ns,
    }


def choose_unit(begin_ns: int, now_ns: int) -> int:
    """Return the unit of a comparison in seconds: minutes as long as they are kept."""
    return RESOLUTIONS_S[0] if begin_ns >= now_ns - PATH_MINUTES_NS else RESOLUTIONS_S[1]


def find_buckets(stretch: tuple[int, int], unit_s: int) -> tuple[int, int, int]:
    """Return the resolution of a unit, and the first and the end of a stretch's buckets."""
    unit_ns = unit_s * SECOND_NS
    return unit_s, stretch[0] // unit_ns, -(-stretch[1] // unit_ns)


def compare_sides(
    paths: Paths, before: SideFigures, after: SideFigures
) -> tuple[list[PathChange], list[float]]:
    """Return the changes of all paths whose root is on both sides, and the standard errors of those tested.

    Changes are ordered by their size.
    """
    changes = [_compare_path(path, paths, before, after) for path in {**before.paths, **after.paths}]
    compared = [change for change in changes if change is not None]
    limit_p = find_limit([change.p for change in compared if change.is_large])
    documents = [_describe(change, paths, limit_p) for change in compared]
    documents.sort(key=lambda each: (-abs(each["change_ns"]), [*map(_text, each["path"])]))
    return documents, [change.error_ns for change in compared if change.error_ns is not None]


def read_side(
    store: Store,
    paths: Paths,
    roots: set[int],
    stretch: tuple[int, int],
    unit_s: int,
    version: str | None = None,
) -> SideFigures:
    """Return the figures of a stretch of time, of one version or of all."""
    side = SideFigures()
    for row in store.path_units(*find_buckets(stretch, unit_s), version):
        root = paths.root(row.path)
        if root not in roots:
            continue
        side.add(root, row)
    return side


def _compare_path(path: int, paths: Paths, before: SideFigures, after: SideFigures) -> _Change | None:
    """Return the change of a path; None if its root is missing on a side."""
    root = paths.root(path)
    trees_before, trees_after = before.trees(root), after.trees(root)
    if not trees_before or not trees_after:
        return None
    one, other = before.paths.get(path, _Path()), after.paths.get(path, _Path())
    before_ns, after_ns = one.critical_ns / trees_before, other.critical_ns / trees_after
    whole_ns = max(before.whole_ns[root] / trees_before, after.whole_ns[root] / trees_after)
    samples = before.samples(path, root), after.samples(path, root)
    error_ns, p = None, 1.0
    is_large = max(before_ns, after_ns) >= _SHOWN * whole_ns > 0
    if is_large and min(map(len, samples)) >= MIN_UNITS:
        error_ns, p = welch(*samples)
    return _Change(
        path,
        before_ns,
        after_ns,
        one.self_ns / one.calls if one.calls else None,
        other.self_ns / other.calls if other.calls else None,
        one.calls / trees_before,
        other.calls / trees_after,
        p,
        error_ns,
        is_large,
    )


def welch(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Test whether two samples have different means, by Welch's t-test.

    Returns:
        The standard error of the difference, and the two-sided probability of one as large by chance.
    """
    parts = [variance(sample) / len(sample) for sample in (one, other)]
    error = sqrt(sum(parts))
    difference = fmean(other) - fmean(one)
    if error == 0:
        return 0.0, 1.0 if difference == 0 else 0.0
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(sample) - 1) for part, sample in zip(parts, (one, other), strict=True)
    )
    return error, two_sided(difference / error, freedom)


def two_sided(t: float, freedom: float) -> float:
    """Return the probability that Student's t is as far from 0, either way, with some degrees of freedom."""
    from mpmath import betainc

    return float(betainc(freedom / 2, 0.5, 0, freedom / (freedom + t * t), regularized=True))


def find_limit(ps: Sequence[float]) -> float:
    """Return the largest p that is sure, by Benjamini and Hochberg; negative if none is."""
    ordered = sorted(ps)
    sure = [p for rank, p in enumerate(ordered, 1) if p <= FALSE_ALARMS * rank / len(ordered)]
    return max(sure, default=-1.0)


def _describe(change: _Change, paths: Paths, limit_p: float) -> PathChange:
    return {
        "path": paths.steps(change.path),
        "before_ns": change.before_ns,
        "after_ns": change.after_ns,
        "change_ns": change.after_ns - change.before_ns,
        "each_before_ns": change.each_before_ns,
        "each_after_ns": change.each_after_ns,
        "calls_before": change.calls_before,
        "calls_after": change.calls_after,
        "p": change.p,
        "sure": change.is_large and change.p <= limit_p,
        "cause": _find_cause(change),
    }


def _find_cause(change: _Change) -> str:
    """Return whether the calls of a path take another time each, or are of another number."""
    if change.each_before_ns is None:
        return NEW
    if change.each_after_ns is None:
        return GONE
    by_time = abs(change.each_after_ns - change.each_before_ns) * change.calls_before
    by_calls = abs(change.calls_after - change.calls_before) * change.each_after_ns
    if by_time >= _ALONE * by_calls:
        return SLOWER
    return MORE_CALLS if by_calls >= _ALONE * by_time else BOTH


def _text(step: PathStep) -> tuple[str, str, str]:
    return step["service"], step["name"], step["kind"]
