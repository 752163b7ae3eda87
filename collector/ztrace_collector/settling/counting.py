"""Figures of one tree by call path, from the rows of its spans.

One idea: the figures are a function of the rows alone, so what was counted can be taken back from the same
rows.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from math import log
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


class Counted(NamedTuple):
    """Figures of one tree.

    Attributes:
        minute: in which its main root ended, or was last reported.
        instance: process of its main root.
        failed: a span of it has failed.
        sums: by path.
    """

    minute: int
    instance: int
    failed: bool
    sums: dict[int, PathSums]


def count_tree(
    rows: Sequence[SpanRow],
    consumers: Container[int],
    find_path: Callable[[int, int], int],
    callers: Container[int] = frozenset(),
) -> Counted:
    """Return the figures of one tree.

    Args:
        rows: its spans, at least one, in any order.
        consumers: methods that nothing waits for.
        find_path: returns the path of a method below a path.
        callers: methods whose spans wait for another process, and do next to nothing meanwhile.

    Returns:
        The figures. They do not depend on the order of the rows.
    """
    spans = sorted(rows, key=lambda row: (row.start_ns, row.span_id, row.end_ns, row.method))
    parents, children = _find_parents(spans)
    roots = [position for position, parent in enumerate(parents) if parent is None]
    awaited: Mapping[int, Sequence[int]] = children
    if any(span.method in consumers for span in spans):
        awaited = {
            above: kept
            for above, each in children.items()
            if (kept := [child for child in each if spans[child].method not in consumers])
        }
    order, paths, repeated = _name_paths(spans, parents, children, find_path)
    sums: dict[int, PathSums] = {}
    ends_ns = [span.end_ns for span in spans]
    for position in reversed(order):
        span, path = spans[position], paths[position]
        each = sums.get(path)
        if each is None:
            each = sums[path] = PathSums()
        below = awaited.get(position)
        duration_ns = span.duration_ns
        if duration_ns is None:  # Open: it only holds its place in the tree.
            if below is not None:
                ends_ns[position] = max(span.end_ns, *[ends_ns[child] for child in below])
            continue
        each.calls += 1
        each.errors += span.status == ERROR
        if position not in repeated:
            each.total_ns += duration_ns
        bucket = int(BUCKETS_PER_E * log(duration_ns)) if duration_ns > 1 else 0
        each.histogram[bucket] = each.histogram.get(bucket, 0) + 1
        own_ns = duration_ns
        if below is not None:
            own_ns -= _covered(spans, below, span.start_ns, span.end_ns)
        if span.self_ns is not None and span.self_ns < own_ns:
            own_ns = span.self_ns
        each.self_ns += own_ns
        # The CPU time is that of the whole thread: it is the call's own if nothing else ran within it.
        if span.cpu_ns is not None and all(
            spans[child].instance != span.instance or spans[child].method in callers
            for child in children.get(position, ())
        ):
            each.cpu_ns += min(span.cpu_ns, own_ns)
            each.timed_ns += own_ns
    begins_ns = [span.start_ns for span in spans]
    instances = [span.instance for span in spans]
    lanes = [span.lane for span in spans]
    for root in roots:
        if spans[root].duration_ns is None:
            continue
        sums[paths[root]].root_calls += 1
        for position, begin_ns, end_ns in walk_sections(begins_ns, ends_ns, awaited, instances, lanes, root):
            sums[paths[position]].critical_ns += end_ns - begin_ns
    main = min(roots, key=lambda root: (spans[root].parent_id is not None, root))
    failed = any(each.errors for each in sums.values())
    return Counted(spans[main].end_ns // MINUTE_NS, spans[main].instance, failed, sums)


def _find_parents(spans: Sequence[SpanRow]) -> tuple[list[int | None], dict[int, list[int]]]:
    """Return the position of each span's parent, None for roots, and the children of those that have any.

    Of parents that form a circle, the earliest is a root.
    """
    positions: dict[bytes, int] = {}
    for position, span in enumerate(spans):
        positions.setdefault(span.span_id, position)
    parents = [None if span.parent_id is None else positions.get(span.parent_id) for span in spans]
    for position in find_circles(parents):
        parents[position] = None
    children: dict[int, list[int]] = {}
    for position, parent in enumerate(parents):
        if parent is not None:
            children.setdefault(parent, []).append(position)
    return parents, children


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
    spans: Sequence[SpanRow],
    parents: Sequence[int | None],
    children: Mapping[int, Sequence[int]],
    find_path: Callable[[int, int], int],
) -> tuple[list[int], list[int], set[int]]:
    """Return all positions, parents first, the path of each, and those below a span on the same path.

    The total of a path leaves the latter out, whose time is in the total already.
    """
    paths = [ABOVE_ROOTS] * len(spans)
    order = [position for position, parent in enumerate(parents) if parent is None]
    for root in order:
        paths[root] = find_path(ABOVE_ROOTS, spans[root].method)
    #: Paths of all spans above, for spans within a recursion.
    within: dict[int, set[int]] = {}
    repeated: set[int] = set()
    for position in order:
        path, open_paths = paths[position], within.get(position)
        for child in children.get(position, ()):
            child_path = paths[child] = find_path(path, spans[child].method)
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


def _covered(spans: Sequence[SpanRow], positions: Sequence[int], begin_ns: int, end_ns: int) -> int:
    """Return the time within a stretch in which any of some spans ran; they are in order of their start."""
    covered_ns, until_ns = 0, begin_ns
    for position in positions:
        span = spans[position]
        if span.duration_ns is None:
            continue
        child_begin_ns = max(span.start_ns, until_ns)
        child_end_ns = min(span.end_ns, end_ns)
        if child_begin_ns < child_end_ns:
            covered_ns += child_end_ns - child_begin_ns
            until_ns = child_end_ns
    return covered_ns
