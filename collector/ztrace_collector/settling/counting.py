"""Figures of one tree by call path, from the rows of its spans.

One idea: the figures are a function of the rows alone, so what was counted can be taken back from the same
rows.
"""

from collections.abc import Callable, Container, Mapping, Sequence, Set
from math import log
from operator import itemgetter
from typing import NamedTuple

from ztrace.records import ERROR
from ztrace_collector.layout import BUCKETS_PER_E, MINUTE_NS
from ztrace_collector.settling.critical import walk_sections
from ztrace_collector.settling.paths import ABOVE_ROOTS


class SpanRow(NamedTuple):
    """What is counted of a span, from ``spans`` or, without an end, from ``unfinished_spans``.

    Attributes:
        end_ns: its end, Unix; of an open one the last report of it.
        duration_ns: None for an open one.
        cpu_ns: CPU time of its thread, None if other work shared the thread, or if unknown.
        lane: that of `ztrace.records.Span`.
        id: key of ``spans``, 0 for an open one.
    """

    span_id: bytes
    parent_id: bytes | None
    method: int
    instance: int
    start_ns: int
    end_ns: int
    duration_ns: int | None
    self_ns: int | None
    status: int
    cpu_ns: int | None
    lane: int | None = None
    id: int = 0


class _Columns(NamedTuple):
    """Spans of a tree as columns, which take less time to read than rows."""

    span_id: Sequence[bytes]
    parent_id: Sequence[bytes | None]
    method: Sequence[int]
    instance: Sequence[int]
    start_ns: Sequence[int]
    end_ns: Sequence[int]
    duration_ns: Sequence[int | None]
    self_ns: Sequence[int | None]
    status: Sequence[int]
    cpu_ns: Sequence[int | None]
    lane: Sequence[int | None]
    id: Sequence[int]


assert _Columns._fields == SpanRow._fields
#: Order of spans in a tree, which does not depend on that of the rows.
_in_order = itemgetter(*map(SpanRow._fields.index, ("start_ns", "span_id", "end_ns", "method")))


class PathSums:
    """Sums of one path.

    Attributes:
        root_calls: calls of a root that is on this path; 0 for other paths.
        cpu_ns: CPU time, within own time, of the calls whose own CPU time is known.
        timed_ns: own time of these calls.
        histogram: ended calls by the bucket of their duration.
    """

    __slots__ = (
        "calls",
        "cpu_ns",
        "critical_ns",
        "errors",
        "histogram",
        "root_calls",
        "self_ns",
        "timed_ns",
        "total_ns",
    )

    def __init__(self) -> None:
        self.root_calls = self.calls = self.errors = 0
        self.total_ns = self.self_ns = self.critical_ns = self.cpu_ns = self.timed_ns = 0
        self.histogram: dict[int, int] = {}

    @property
    def numbers(self) -> tuple[int, ...]:
        """The sums but for the histogram, in the order of the table's columns."""
        return (
            self.root_calls,
            self.calls,
            self.errors,
            self.total_ns,
            self.self_ns,
            self.critical_ns,
            self.cpu_ns,
            self.timed_ns,
        )

    @classmethod
    def load(cls, numbers: Sequence[int], histogram: dict[int, int]) -> "PathSums":
        """Return sums from `numbers` and a histogram."""
        sums = cls()
        sums.root_calls, sums.calls, sums.errors, sums.total_ns, sums.self_ns, *times = numbers
        sums.critical_ns, sums.cpu_ns, sums.timed_ns = times
        sums.histogram = histogram
        return sums

    @property
    def is_empty(self) -> bool:
        """True if nothing is counted."""
        return not (any(self.numbers) or self.histogram)

    def add(self, other: "PathSums", sign: int = 1) -> None:
        """Add other sums, or take them back."""
        self.root_calls += sign * other.root_calls
        self.calls += sign * other.calls
        self.errors += sign * other.errors
        self.total_ns += sign * other.total_ns
        self.self_ns += sign * other.self_ns
        self.critical_ns += sign * other.critical_ns
        self.cpu_ns += sign * other.cpu_ns
        self.timed_ns += sign * other.timed_ns
        histogram = self.histogram
        for bucket, count in other.histogram.items():
            left = histogram.get(bucket, 0) + sign * count
            if left:
                histogram[bucket] = left
            else:
                histogram.pop(bucket, None)


#: Sums by the version of a path's last service, and by path.
VersionSums = dict[str, dict[int, PathSums]]


class Counted(NamedTuple):
    """Figures of one tree.

    Attributes:
        minute: in which its main root ended, or was last reported.
        version: that of its main root's service.
        failed: a span of it has failed.
        sums: by version and path.
    """

    minute: int
    version: str
    failed: bool
    sums: VersionSums


def count_tree(
    rows: Sequence[SpanRow],
    consumers: Set[int],
    find_path: Callable[[int, int], int],
    version_of: Callable[[int], str],
    callers: Container[int] = frozenset(),
    open_sums: Callable[[int, str, bool], VersionSums] | None = None,
) -> Counted:
    """Return the figures of one tree.

    Args:
        rows: its spans, at least one, in any order.
        consumers: methods that nothing waits for.
        find_path: returns the path of a method below a path.
        version_of: returns the version of a process's service.
        callers: methods whose spans wait for another process, and do next to nothing meanwhile.
        open_sums: returns the sums to which the tree's are added, given the minute, the version and the
            failure as in `Counted`; None for new ones.

    Returns:
        The figures, with these sums. They do not depend on the order of the rows.
    """
    spans = _Columns._make(zip(*sorted(rows, key=_in_order), strict=True))
    parents, children = _find_parents(spans)
    # Columns by names of their own: each attribute costs as much as an addition.
    methods, instances, begins_ns, durations_ns = (
        spans.method,
        spans.instance,
        spans.start_ns,
        spans.duration_ns,
    )
    statuses, selfs_ns, cpus_ns = spans.status, spans.self_ns, spans.cpu_ns
    order, paths, repeated = _name_paths(methods, parents, children, find_path)
    if len(order) < len(methods):  # No root is above a circle.
        _cut_circles(parents, children)
        order, paths, repeated = _name_paths(methods, parents, children, find_path)
    roots = [position for position, parent in enumerate(parents) if parent is None]
    awaited: Mapping[int, Sequence[int]] = children
    if not consumers.isdisjoint(methods):
        awaited = {
            above: kept
            for above, each in children.items()
            if (kept := [child for child in each if methods[child] not in consumers])
        }
    main = min(roots, key=lambda root: (spans.parent_id[root] is not None, root))
    head = spans.end_ns[main] // MINUTE_NS, version_of(instances[main]), ERROR in statuses
    by_version: VersionSums = {} if open_sums is None else open_sums(*head)
    by_instance = {each: by_version.setdefault(version_of(each), {}) for each in set(instances)}
    ends_ns = list(spans.end_ns)
    for position in reversed(order):
        path, duration_ns, below = paths[position], durations_ns[position], awaited.get(position)
        sums = by_instance[instances[position]]
        each = sums.get(path)
        if each is None:
            each = sums[path] = PathSums()
        if duration_ns is None:  # Open: it only holds its place in the tree.
            if below is not None:
                ends_ns[position] = max(ends_ns[position], *[ends_ns[child] for child in below])
            continue
        each.calls += 1
        if statuses[position] == ERROR:
            each.errors += 1
        if position not in repeated:
            each.total_ns += duration_ns
        bucket = int(BUCKETS_PER_E * log(duration_ns)) if duration_ns > 1 else 0
        histogram = each.histogram
        histogram[bucket] = histogram.get(bucket, 0) + 1
        own_ns, self_ns, cpu_ns = duration_ns, selfs_ns[position], cpus_ns[position]
        if below is not None:
            own_ns -= _covered(spans, below, begins_ns[position], spans.end_ns[position])
        if self_ns is not None and self_ns < own_ns:
            own_ns = self_ns
        each.self_ns += own_ns
        # The CPU time is that of the whole thread: it is the call's own if nothing else ran within it.
        if cpu_ns is not None and all(
            instances[child] != instances[position] or methods[child] in callers
            for child in children.get(position, ())
        ):
            each.cpu_ns += min(cpu_ns, own_ns)
            each.timed_ns += own_ns
    for root in roots:
        if durations_ns[root] is None:
            continue
        by_instance[instances[root]][paths[root]].root_calls += 1
        for position, begin_ns, end_ns in walk_sections(
            begins_ns, ends_ns, awaited, instances, spans.lane, root
        ):
            by_instance[instances[position]][paths[position]].critical_ns += end_ns - begin_ns
    return Counted(*head, by_version)


def _find_parents(spans: _Columns) -> tuple[list[int | None], dict[int, list[int]]]:
    """Return the position of each span's parent, None for roots, and the children of those that have any."""
    # The first of several with the same id.
    positions = dict(zip(reversed(spans.span_id), range(len(spans.span_id) - 1, -1, -1), strict=True))
    parents: list[int | None] = [None if each is None else positions.get(each) for each in spans.parent_id]
    children: dict[int, list[int]] = {}
    for position, parent in enumerate(parents):
        if parent is not None:
            if parent in children:
                children[parent].append(position)
            else:
                children[parent] = [position]
    return parents, children


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


def _covered(spans: _Columns, positions: Sequence[int], begin_ns: int, end_ns: int) -> int:
    """Return the time within a stretch in which any of some spans ran; they are in order of their start."""
    begins_ns, ends_ns, durations_ns = spans.start_ns, spans.end_ns, spans.duration_ns
    covered_ns, until_ns = 0, begin_ns
    for position in positions:
        if durations_ns[position] is None:
            continue
        child_begin_ns, child_end_ns = begins_ns[position], ends_ns[position]
        if child_begin_ns < until_ns:
            child_begin_ns = until_ns
        if child_end_ns > end_ns:
            child_end_ns = end_ns
        if child_begin_ns < child_end_ns:
            covered_ns += child_end_ns - child_begin_ns
            until_ns = child_end_ns
    return covered_ns
