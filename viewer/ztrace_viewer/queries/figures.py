"""Figures per method: calls, errors, times and quantiles of any stretch of time.

One idea: figures can be added and subtracted. A stretch is a number of days, plus or minus hours and minutes
at its ends, so a year reads hardly more rows than a day.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from ztrace.records import INT64_MAX
from ztrace_collector.layout import RESOLUTIONS_S, SECOND_NS
from ztrace_collector.tables.histogram import quantile
from ztrace_viewer.documents.figures import MethodFigures, StatsDocument
from ztrace_viewer.json_text import read_json
from ztrace_viewer.queries.names import find_methods
from ztrace_viewer.queries.selection import EVERYTHING, Selection
from ztrace_viewer.queries.stores.answers import FiguresRow, Method
from ztrace_viewer.queries.stores.store import Store


@dataclass(slots=True)
class _Sum:
    """Figures of one method over several buckets."""

    calls: int = 0
    errors: int = 0
    total_ns: int = 0
    self_ns: int = 0
    histogram: Counter[str] = field(default_factory=Counter)

    def add(self, row: FiguresRow, sign: int) -> None:
        self.calls += sign * row.calls
        self.errors += sign * row.errors
        self.total_ns += sign * row.total_ns
        self.self_ns += sign * row.self_ns
        counts = read_json(row.histogram)
        for bucket, count in counts.items() if isinstance(counts, dict) else ():
            self.histogram[bucket] += sign * count


def list_methods(store: Store, selection: Selection = EVERYTHING, limit: int | None = None) -> StatsDocument:
    """Return the figures of every method that was called in the selection's time, the largest total first.

    Calls count in the minute they ended in; the minutes at both ends count whole.
    """
    wanted = find_methods(store, selection)
    sums: defaultdict[int, _Sum] = defaultdict(_Sum)
    for sign, resolution, first, last in split_range(*_bounds(store, selection)):
        for row in store.figures(resolution, first, last, wanted):
            sums[row.method].add(row, sign)
    names = store.methods()
    methods = [_figures(total, names[method]) for method, total in sums.items() if total.calls]
    methods.sort(key=lambda each: (-each["total_ns"], each["service"], each["name"], each["kind"]))
    return {"methods": methods[:limit]}


def split_range(first_s: int, last_s: int) -> list[tuple[int, int, int, int]]:
    """Split a stretch of time into few buckets.

    Args:
        first_s: Unix seconds, a multiple of the smallest resolution.
        last_s: the same, excluded.

    Returns:
        (sign, resolution in seconds, first bucket, last bucket excluded): the stretch is the sum of the
        buckets with sign 1, minus those with sign -1.
    """
    split: list[tuple[int, int, int, int]] = []
    for resolution, coarser in zip(RESOLUTIONS_S, (*RESOLUTIONS_S[1:], None), strict=True):
        edges, first_s, last_s = _trim(first_s, last_s, resolution, coarser)
        split += [(sign, resolution, begin // resolution, end // resolution) for sign, begin, end in edges]
    return split


def _trim(
    begin_s: int, end_s: int, resolution: int, coarser: int | None
) -> tuple[list[tuple[int, int, int]], int, int]:
    """Cut a stretch at both ends to multiples of ``coarser``, inwards or outwards, whichever is nearer.

    Returns:
        The (sign, begin, end) of the parts cut off or added, and begin and end of the rest.
    """
    if coarser is not None:
        inner_begin = (begin_s + coarser // 2) // coarser * coarser
        inner_end = (end_s + coarser // 2) // coarser * coarser
        edges = [
            (1, begin_s, inner_begin) if begin_s < inner_begin else (-1, inner_begin, begin_s),
            (1, inner_end, end_s) if inner_end < end_s else (-1, end_s, inner_end),
        ]
        edges = [(sign, low, high) for sign, low, high in edges if low < high]
        rows = sum(high - low for _, low, high in edges) // resolution + (inner_end - inner_begin) // coarser
        if rows < (end_s - begin_s) // resolution:
            return edges, inner_begin, inner_end
    return [(1, begin_s, end_s)] if begin_s < end_s else [], end_s, end_s


def _bounds(store: Store, selection: Selection) -> tuple[int, int]:
    """Return the selected time in seconds, as whole minutes within the stored days."""
    minute_s, day_s = RESOLUTIONS_S[0], RESOLUTIONS_S[-1]
    days = store.figure_edges(day_s, 0, INT64_MAX)
    if days is None:
        return 0, 0
    minute_ns = minute_s * SECOND_NS
    first_s = 0 if selection.since_ns is None else selection.since_ns // minute_ns * minute_s
    last_s = (days[1] + 1) * day_s
    if selection.until_ns is not None:
        last_s = min(last_s, -(-selection.until_ns // minute_ns) * minute_s)
    return max(first_s, days[0] * day_s), last_s


def _figures(total: _Sum, method: Method) -> MethodFigures:
    ordered = dict(sorted((int(bucket), count) for bucket, count in total.histogram.items()))
    return {
        "service": method.service,
        "name": method.name,
        "kind": method.kind,
        "calls": total.calls,
        "errors": total.errors,
        "p50_ns": quantile(ordered, 0.50),
        "p95_ns": quantile(ordered, 0.95),
        "p99_ns": quantile(ordered, 0.99),
        "total_ns": total.total_ns,
        "self_ns": total.self_ns,
    }
