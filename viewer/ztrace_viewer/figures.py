"""Figures per method: calls, errors, times and quantiles of any stretch of time.

One idea: a stretch is the sum of the largest buckets that fit in it, days, then hours, then minutes at its
ends, so that a year costs hardly more rows than a day.
"""

import sqlite3
from collections.abc import Iterator

from ztrace_collector.histogram import quantile
from ztrace_collector.layout import RESOLUTIONS_S

from ztrace_viewer.documents import MethodFigures, StatsDocument
from ztrace_viewer.json_text import read_json
from ztrace_viewer.selection import EVERYTHING, Selection, find_methods

_SECOND_NS = 1_000_000_000


def list_methods(
    db: sqlite3.Connection, selection: Selection = EVERYTHING, limit: int | None = None
) -> StatsDocument:
    """Return the figures of every method that was called in the selection's time, the largest total first.

    Calls are counted in the minute they ended in; minutes at both ends are counted whole.
    """
    wanted = find_methods(db, selection)
    sums: dict[int, list[int]] = {}
    histograms: dict[int, dict[int, int]] = {}
    for resolution, first, last in split_range(*_bounds(db, selection)):
        for method, histogram, *numbers in _rows(db, resolution, first, last, wanted):
            totals = sums.setdefault(method, [0, 0, 0, 0])
            for place, number in enumerate(numbers):
                totals[place] += number
            merged = histograms.setdefault(method, {})
            counts = read_json(histogram)
            for bucket, count in counts.items() if isinstance(counts, dict) else ():
                merged[int(bucket)] = merged.get(int(bucket), 0) + count
    names = {method: rest for method, *rest in db.execute("SELECT id, service, name, kind FROM methods")}
    methods = [_figures(totals, histograms[method], *names[method]) for method, totals in sums.items()]
    methods.sort(key=lambda each: (-each["total_ns"], each["service"], each["name"], each["kind"]))
    return {"methods": methods[:limit]}


def split_range(first_s: int, last_s: int) -> Iterator[tuple[int, int, int]]:
    """Split a stretch of time into the fewest buckets.

    Args:
        first_s: Unix seconds, a multiple of the smallest resolution.
        last_s: the same, excluded.

    Yields:
        (resolution in seconds, first bucket, last bucket excluded): disjoint, together the whole stretch.
    """
    inner_first, inner_last = first_s, last_s
    left: list[tuple[int, int, int]] = []
    for resolution, coarser in zip(RESOLUTIONS_S, (*RESOLUTIONS_S[1:], None), strict=True):
        if coarser is None:
            up, down = inner_last, inner_last
        else:
            up, down = -(-inner_first // coarser) * coarser, inner_last // coarser * coarser
            if up >= down:
                up = down = inner_last
        for begin, end in ((inner_first, up), (down, inner_last)):
            if begin < end:
                left.append((resolution, begin // resolution, end // resolution))
        inner_first, inner_last = up, down
    return iter(left)


def _bounds(db: sqlite3.Connection, selection: Selection) -> tuple[int, int]:
    """Return the selection in whole minutes, no wider than what is stored."""
    minute_s, day_s = RESOLUTIONS_S[0], RESOLUTIONS_S[-1]
    low, high = db.execute(
        "SELECT min(bucket), max(bucket) FROM method_figures WHERE resolution_s = ?", (day_s,)
    ).fetchone()
    if low is None:
        return 0, 0
    minute_ns = minute_s * _SECOND_NS
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
    totals: list[int], histogram: dict[int, int], service: str, name: str, kind: str
) -> MethodFigures:
    calls, errors, total_ns, self_ns = totals
    return {
        "service": service,
        "name": name,
        "kind": kind,
        "calls": calls,
        "errors": errors,
        "p50_ns": quantile(histogram, 0.50),
        "p95_ns": quantile(histogram, 0.95),
        "p99_ns": quantile(histogram, 0.99),
        "total_ns": total_ns,
        "self_ns": self_ns,
    }
