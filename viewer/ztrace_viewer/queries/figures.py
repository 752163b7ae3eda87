"""Figures per method: calls, errors, times and quantiles of any stretch of time.

One idea: figures add up, and so can be taken away: a stretch is days, plus or less hours, plus or less
minutes at its ends, so that a year costs hardly more rows than a day.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator

from ztrace_collector.layout import RESOLUTIONS_S, SECOND_NS
from ztrace_collector.tables.histogram import quantile
from ztrace_viewer.documents import MethodFigures, StatsDocument
from ztrace_viewer.json_text import read_json
from ztrace_viewer.queries.selection import EVERYTHING, Selection, find_methods


def list_methods(
    db: sqlite3.Connection, selection: Selection = EVERYTHING, limit: int | None = None
) -> StatsDocument:
    """Return the figures of every method that was called in the selection's time, the largest total first.

    Calls are counted in the minute they ended in; minutes at both ends are counted whole.
    """
    wanted = find_methods(db, selection)
    sums: dict[int, list[int]] = {}
    histograms: defaultdict[int, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for sign, resolution, first, last in split_range(*_bounds(db, selection)):
        for method, histogram, *numbers in _rows(db, resolution, first, last, wanted):
            totals = sums.setdefault(method, [0, 0, 0, 0])
            for place, number in enumerate(numbers):
                totals[place] += sign * number
            merged = histograms[method]
            counts = read_json(histogram)
            for bucket, count in counts.items() if isinstance(counts, dict) else ():
                merged[bucket] += sign * count
    names = {method: rest for method, *rest in db.execute("SELECT id, service, name, kind FROM methods")}
    methods = [
        _figures(totals, histograms[method], *names[method]) for method, totals in sums.items() if totals[0]
    ]
    methods.sort(key=lambda each: (-each["total_ns"], each["service"], each["name"], each["kind"]))
    return {"methods": methods[:limit]}


def split_range(first_s: int, last_s: int) -> list[tuple[int, int, int, int]]:
    """Split a stretch of time into few buckets.

    Args:
        first_s: Unix seconds, a multiple of the smallest resolution.
        last_s: the same, excluded.

    Returns:
        (sign, resolution in seconds, first bucket, last bucket excluded): the stretch is the sum of those
        with sign 1, less those with sign -1.
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
        The (sign, begin, end) that were cut off or are too much, and begin and end of what is left.
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


def _bounds(db: sqlite3.Connection, selection: Selection) -> tuple[int, int]:
    """Return the selection in whole minutes, no wider than what is stored."""
    minute_s, day_s = RESOLUTIONS_S[0], RESOLUTIONS_S[-1]
    low, high = db.execute(
        "SELECT min(bucket), max(bucket) FROM method_figures WHERE resolution_s = ?", (day_s,)
    ).fetchone()
    if low is None:
        return 0, 0
    minute_ns = minute_s * SECOND_NS
    first_s = 0 if selection.since_ns is None else selection.since_ns // minute_ns * minute_s
    last_s = (high + 1) * day_s
    if selection.until_ns is not None:
        last_s = min(last_s, -(-selection.until_ns // minute_ns) * minute_s)
    return max(first_s, low * day_s), last_s


def _rows(
    db: sqlite3.Connection, resolution: int, first: int, last: int, wanted: list[int] | None
) -> Iterator[tuple[int, str, int, int, int, int]]:
    query = (
        "SELECT method, histogram, calls, errors, total_ns, self_ns FROM method_figures"
        " WHERE resolution_s = ? AND bucket >= ? AND bucket < ?"
    )
    if wanted is None:
        return db.execute(query, (resolution, first, last))
    marks = ",".join("?" * len(wanted))
    return db.execute(f"{query} AND method IN ({marks})", (resolution, first, last, *wanted))


def _figures(
    totals: list[int], histogram: dict[str, int], service: str, name: str, kind: str
) -> MethodFigures:
    calls, errors, total_ns, self_ns = totals
    ordered = dict(sorted((int(bucket), count) for bucket, count in histogram.items()))
    return {
        "service": service,
        "name": name,
        "kind": kind,
        "calls": calls,
        "errors": errors,
        "p50_ns": quantile(ordered, 0.50),
        "p95_ns": quantile(ordered, 0.95),
        "p99_ns": quantile(ordered, 0.99),
        "total_ns": total_ns,
        "self_ns": self_ns,
    }
