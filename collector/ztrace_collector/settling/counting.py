"""Figures of one tree by call path, from the rows of its spans.

One idea: the figures are a function of the rows alone, so what was counted can be taken back from the same
rows.
"""

from collections.abc import Callable, Container, Iterable, Sequence
from math import log
from operator import itemgetter
from typing import Any, NamedTuple

from ztrace.records import ERROR
from ztrace_collector.layout import BUCKETS_PER_E, MINUTE_NS
from ztrace_collector.settling.critical import walk_chain, walk_sections
from ztrace_collector.settling.shapes import Shape, Shapes


class SpanRow(NamedTuple):
    """What is counted of a span, from ``spans`` or, without an end, from ``unfinished_spans``.

    Attributes:
        end_ns: its end, Unix; of an open one the last report of it.
        duration_ns: None for an open one.
        cpu_ns: CPU time of its thread, None if other work shared the thread, or if unknown.
        lane: that of `ztrace.records.Span`.
        id: key of ``spans``, 0 for an open one.
        trace_id: that of its tree, if it was read with other trees.
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
    trace_id: bytes = b""


#: Fields by which the spans of a tree are ordered, which does not depend on the order of the rows.
IN_ORDER = itemgetter(*map(SpanRow._fields.index, ("start_ns", "span_id", "end_ns", "method")))


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
    shapes: Shapes,
    version_of: Callable[[int], str],
    callers: Container[int] = frozenset(),
    open_sums: Callable[[int, str, bool], VersionSums] | None = None,
) -> Counted:
    """Return the figures of one tree.

    Args:
        rows: its spans, at least one, in any order.
        shapes: shapes of trees, which have the paths and know the methods that nothing waits for.
        version_of: returns the version of a process's service.
        callers: methods whose spans wait for another process, and do next to nothing meanwhile.
        open_sums: returns the sums to which the tree's are added, given the minute, the version and the
            failure as in `Counted`; None for new ones.

    Returns:
        The figures, with these sums. They do not depend on the order of the rows.
    """
    columns = tuple(zip(*sorted(rows, key=IN_ORDER), strict=True))
    return count_columns(columns, shapes, version_of, callers, open_sums)


def count_columns(
    columns: Sequence[tuple[Any, ...]],
    shapes: Shapes,
    version_of: Callable[[int], str],
    callers: Container[int],
    open_sums: Callable[[int, str, bool], VersionSums] | None,
) -> Counted:
    """Return the figures of one tree, given the columns of its rows in the order of `IN_ORDER`."""
    (
        span_ids,
        parent_ids,
        methods,
        instances,
        begins_ns,
        last_ns,
        durations_ns,
        selfs_ns,
        statuses,
        cpus_ns,
        lanes,
        *_,
    ) = columns
    shape = shapes.find(methods, _find_parents(span_ids, parent_ids))
    main = shape.roots[0]
    if len(shape.roots) > 1:
        main = min(shape.roots, key=lambda root: (parent_ids[root] is not None, root))
    head = last_ns[main] // MINUTE_NS, version_of(instances[main]), ERROR in statuses
    by_version: VersionSums = {} if open_sums is None else open_sums(*head)
    by_instance = {each: by_version.setdefault(version_of(each), {}) for each in set(instances)}
    ends_ns: Sequence[int] = last_ns
    if None in durations_ns:
        ends_ns = _find_ends(shape, last_ns, durations_ns)
    for position, path, children, below, is_repeated in shape.steps:
        duration_ns = durations_ns[position]
        sums = by_instance[instances[position]]
        each = sums.get(path)
        if each is None:
            each = sums[path] = PathSums()
        if duration_ns is None:  # Open: it only holds its place in the tree.
            continue
        each.calls += 1
        if statuses[position] == ERROR:
            each.errors += 1
        if not is_repeated:
            each.total_ns += duration_ns
        bucket = int(BUCKETS_PER_E * log(duration_ns)) if duration_ns > 1 else 0
        histogram = each.histogram
        histogram[bucket] = histogram.get(bucket, 0) + 1
        own_ns, self_ns, cpu_ns = duration_ns, selfs_ns[position], cpus_ns[position]
        if below:
            own_ns -= covered(begins_ns, last_ns, durations_ns, below, begins_ns[position], last_ns[position])
        if self_ns is not None and self_ns < own_ns:
            own_ns = self_ns
        each.self_ns += own_ns
        # The CPU time is that of the whole thread: it is the call's own if nothing else ran within it.
        if cpu_ns is not None:
            for child in children:
                if instances[child] == instances[position] and methods[child] not in callers:
                    break
            else:
                each.cpu_ns += min(cpu_ns, own_ns)
                each.timed_ns += own_ns
    for root in shape.roots:
        if durations_ns[root] is None:
            continue
        by_instance[instances[root]][shape.paths[root]].root_calls += 1
        sections: Iterable[tuple[int, int, int]]
        if shape.is_chain:
            sections = walk_chain(begins_ns, ends_ns, shape.awaited, root)
        else:
            sections = walk_sections(begins_ns, ends_ns, shape.awaited, instances, lanes, root)
        for position, begin_ns, end_ns in sections:
            by_instance[instances[position]][shape.paths[position]].critical_ns += end_ns - begin_ns
    return Counted(*head, by_version)


def _find_parents(span_ids: Sequence[bytes], parent_ids: Sequence[bytes | None]) -> tuple[int | None, ...]:
    """Return the position of each span's parent, None for roots."""
    positions: dict[bytes | None, int] = dict(zip(span_ids, range(len(span_ids)), strict=True))
    if len(positions) < len(span_ids):  # The first of several with the same id.
        positions = dict(zip(reversed(span_ids), range(len(span_ids) - 1, -1, -1), strict=True))
    return tuple(map(positions.get, parent_ids))


def _find_ends(shape: Shape, ends_ns: Sequence[int], durations_ns: Sequence[int | None]) -> list[int]:
    """Return the ends of spans, of which an open one lasts at least as long as those it may wait for."""
    found_ns = list(ends_ns)
    for step in shape.steps:
        if durations_ns[step.position] is None and step.awaited:
            found_ns[step.position] = max(
                found_ns[step.position], *[found_ns[child] for child in step.awaited]
            )
    return found_ns


def covered(
    begins_ns: Sequence[int],
    ends_ns: Sequence[int],
    durations_ns: Sequence[int | None],
    positions: Sequence[int],
    begin_ns: int,
    end_ns: int,
) -> int:
    """Return the time within a stretch in which any of some spans ran; they are in order of their start."""
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
