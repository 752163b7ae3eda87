"""Figures of many trees that are alike, column by column.

One idea: services make the same calls all day, so the trees of a step are of few kinds. Of trees that differ
in ids and times alone, each span is a column of times, and summing columns takes a fraction of the time that
counting tree by tree takes. The figures are those of `count_tree`.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Container, Mapping, Sequence
from itertools import repeat
from math import log
from operator import itemgetter, sub

from ztrace.records import ERROR
from ztrace_collector.layout import BUCKETS_PER_E, MINUTE_NS
from ztrace_collector.settling.counting import IN_ORDER, PathSums, VersionSums, count_columns, covered
from ztrace_collector.settling.critical import walk_sections
from ztrace_collector.settling.shapes import Shape, Shapes
from ztrace_collector.settling.swept import Swept

#: Trees of a kind from which counting them together takes less time, and spans of a tree from which it is
#: seldom of the same kind as others.
FEW, MANY = 4, 9
#: Position of a parent that is not in the tree.
_MISSING = -1

#: Methods, processes and statuses of the spans of a tree, and the positions of their parents.
_Kind = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int | None, ...]]


class Together:
    """Whole trees without open spans that are to be added to sums, by `write`."""

    def __init__(
        self,
        swept: Swept,
        shapes: Shapes,
        version_of: Callable[[int], str],
        callers: Container[int],
        open_sums: Callable[[int, str, bool], VersionSums],
    ) -> None:
        """Start without any; the arguments but for the spans are those of `count_tree`."""
        self._spans = swept.spans
        (
            self._span_ids,
            self._parent_ids,
            self._methods,
            self._instances,
            self._begins_ns,
            self._ends_ns,
            self._durations_ns,
            self._selfs_ns,
            self._statuses,
            self._cpus_ns,
            self._lanes,
            *_,
        ) = swept.columns
        self._order = swept.keys.__getitem__
        self._shapes, self._version_of = shapes, version_of
        self._callers, self._open_sums = callers, open_sums
        self._trees: defaultdict[_Kind, list[Sequence[int]]] = defaultdict(list)

    def add(self, places: Sequence[int]) -> None:
        """Add a tree, by the places of its spans."""
        if len(places) == 1:
            (place,) = places
            parent = None if self._parent_ids[place] is None else _MISSING
            self._trees[
                (self._methods[place],), (self._instances[place],), (self._statuses[place],), (parent,)
            ].append(places)
            return
        if len(places) >= MANY:
            self._count(places)
            return
        places = sorted(places, key=self._order)
        pick = itemgetter(*places)
        span_ids = pick(self._span_ids)
        positions: dict[bytes | None, int | None] = dict(zip(span_ids, range(len(span_ids)), strict=True))
        if len(positions) < len(places):
            self._count(places)
            return
        positions[None] = None
        parents = tuple(map(positions.get, pick(self._parent_ids), repeat(_MISSING)))
        kind = pick(self._methods), pick(self._instances), pick(self._statuses), parents
        self._trees[kind].append(places)

    def write(self) -> None:
        """Add the figures of the trees to the sums."""
        for kind, trees in self._trees.items():
            if len(trees) < FEW:
                for places in trees:
                    self._count(places)
                continue
            methods, instances, statuses, parents = kind
            shape = self._shapes.find(methods, tuple([None if at == _MISSING else at for at in parents]))
            main = min(shape.roots, key=lambda root: (parents[root] is not None, root))
            head = self._version_of(instances[main]), ERROR in statuses
            by_minute: defaultdict[int, list[Sequence[int]]] = defaultdict(list)
            for places in trees:
                by_minute[self._ends_ns[places[main]] // MINUTE_NS].append(places)
            for minute, alike in by_minute.items():
                by_version = self._open_sums(minute, *head)
                sums = [
                    by_version.setdefault(self._version_of(instance), {}).setdefault(path, PathSums())
                    for instance, path in zip(instances, shape.paths, strict=True)
                ]
                self._add_alike(sums, shape, kind, alike)

    def _count(self, places: Sequence[int]) -> None:
        columns = tuple(zip(*sorted(map(self._spans.__getitem__, places), key=IN_ORDER), strict=True))
        count_columns(columns, self._shapes, self._version_of, self._callers, self._open_sums)

    def _add_alike(
        self, sums: Sequence[PathSums], shape: Shape, kind: _Kind, trees: Sequence[Sequence[int]]
    ) -> None:
        """Add trees of one kind to the sums of each of their spans."""
        methods, instances, statuses, _ = kind
        by_position = list(zip(*trees, strict=True))
        begins, ends, durations, selfs, cpus = (
            [list(map(column.__getitem__, places)) for places in by_position]
            for column in (
                self._begins_ns,
                self._ends_ns,
                self._durations_ns,
                self._selfs_ns,
                self._cpus_ns,
            )
        )
        for position, _, children, below, is_repeated in shape.steps:
            each, whole_ns = sums[position], durations[position]
            each.calls += len(trees)
            if statuses[position] == ERROR:
                each.errors += len(trees)
            if not is_repeated:
                each.total_ns += sum(whole_ns)
            buckets = Counter([int(BUCKETS_PER_E * log(ns)) if ns > 1 else 0 for ns in whole_ns])
            for bucket, count in buckets.items():
                each.histogram[bucket] = each.histogram.get(bucket, 0) + count
            owns_ns = whole_ns
            if len(below) == 1:
                owns_ns = list(map(sub, whole_ns, _overlap(begins, ends, position, below[0])))
            elif below:
                owns_ns = [
                    whole[position] - covered(since, until, whole, below, since[position], until[position])
                    for since, until, whole in zip(
                        zip(*begins, strict=True),
                        zip(*ends, strict=True),
                        zip(*durations, strict=True),
                        strict=True,
                    )
                ]
            if selfs[position].count(None) < len(trees):
                owns_ns = [
                    own_ns if self_ns is None or self_ns > own_ns else self_ns
                    for own_ns, self_ns in zip(owns_ns, selfs[position], strict=True)
                ]
            each.self_ns += sum(owns_ns)
            instance = instances[position]
            if all(instances[at] != instance or methods[at] in self._callers for at in children):
                for own_ns, cpu_ns in zip(owns_ns, cpus[position], strict=True):
                    if cpu_ns is not None:
                        each.cpu_ns += min(cpu_ns, own_ns)
                        each.timed_ns += own_ns
        for root in shape.roots:
            sums[root].root_calls += len(trees)
            if shape.is_chain:
                _add_chain(sums, begins, ends, shape.awaited, root)
                continue
            for since, until, places in zip(
                zip(*begins, strict=True), zip(*ends, strict=True), trees, strict=True
            ):
                lanes = [self._lanes[place] for place in places]
                for position, begin_ns, end_ns in walk_sections(
                    since, until, shape.awaited, instances, lanes, root
                ):
                    sums[position].critical_ns += end_ns - begin_ns


def _overlap(
    begins: Sequence[Sequence[int]], ends: Sequence[Sequence[int]], position: int, child: int
) -> list[int]:
    """Return the time of a span in which its child ran, of each tree."""
    since = map(max, begins[position], begins[child])
    until = map(min, ends[position], ends[child])
    return list(map(max, map(sub, until, since), repeat(0)))


def _add_chain(
    sums: Sequence[PathSums],
    begins: Sequence[Sequence[int]],
    ends: Sequence[Sequence[int]],
    children: Mapping[int, Sequence[int]],
    root: int,
) -> None:
    """Add the critical times below a root where no span has two children, as of `walk_chain`."""
    position, since, until = root, begins[root], ends[root]
    lasted_ns = sum(until) - sum(since)
    while position in children:
        (child,) = children[position]
        since = list(map(max, since, begins[child]))
        # What is outside its parent has no time there, nor has what is below it.
        until = list(map(max, since, map(min, until, ends[child])))
        within_ns = sum(until) - sum(since)
        sums[position].critical_ns += lasted_ns - within_ns
        position, lasted_ns = child, within_ns
    sums[position].critical_ns += lasted_ns
