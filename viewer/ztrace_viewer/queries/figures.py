"""Figures per method: calls, errors, times and quantiles of any stretch of time.

One idea: figures can be added and subtracted. A stretch is a number of days, plus or minus hours and minutes
at its ends, so a year reads hardly more rows than a day.
"""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ztrace_collector.layout import MINUTE_NS, RESOLUTIONS_S, SECOND_NS
from ztrace_collector.tables.histogram import quantile
from ztrace_viewer.documents.figures import MethodFigures, StatsDocument
from ztrace_viewer.json_text import read_json
from ztrace_viewer.queries.names import Method, read_methods
from ztrace_viewer.queries.rows import name_columns, read, read_one
from ztrace_viewer.queries.selection import EVERYTHING, Selection, find_methods


class _Row(NamedTuple):
    """A row of ``method_figures``: the calls of a method that ended in one bucket of time."""

    method: int
    histogram: str
    calls: int
    errors: int
    total_ns: int
    self_ns: int


_ROWS = (
    f"SELECT {name_columns(_Row)} FROM method_figures WHERE resolution_s = ? AND bucket >= ? AND bucket < ?"
)


class _Days(NamedTuple):
    """First and last day with figures."""

    first: int | None
    last: int | None


_DAYS = (
    f"SELECT {name_columns(_Days, first='min(bucket)', last='max(bucket)')} FROM method_figures"
    " WHERE resolution_s = ?"
)


@dataclass(slots=True)
class _Sum:
    """Figures of one method over several buckets."""

    calls: int = 0
    errors: int = 0
    total_ns: int = 0
    self_ns: int = 0
    histogram: Counter[str] = field(default_factory=Counter)

    def add(self, row: _Row, sign: int) -> None:
        self.calls += sign * row.calls
        self.errors += sign * row.errors
        self.total_ns += sign * row.total_ns
        self.self_ns += sign * row.self_ns
        counts = read_json(row.histogram)
        for bucket, count in counts.items() if isinstance(counts, dict) else ():
            self.histogram[bucket] += sign * count


def list_methods(
    db: sqlite3.Connection, selection: Selection = EVERYTHING, limit: int | None = None
) -> StatsDocument:
    """Return the figures of every method that was called in the selection's time, the largest total first.

    Calls count in the minute they ended in; the minutes at both ends count whole.
    """
    wanted = find_methods(db, selection)
    sums: defaultdict[int, _Sum] = defaultdict(_Sum)
    for sign, resolution, first, last in split_range(*_bounds(db, selection)):
        for row in _read(db, resolution, first, last, wanted):
            sums[row.method].add(row, sign)
    names = read_methods(db)
    methods = [_figures(total, names[method]) for method, total in sums.items() if total.calls]
    methods.sort(key=lambda each: (-each["total_ns"], each["service"], each["name"], each["kind"]))
    return {"methods": methods[:limit]}


def find_minutes(db: sqlite3.Connection, methods: frozenset[int], since_ns: int) -> list[int]:
    """Return the minutes since a moment in which a call of any of the methods ended, in order."""
    query = (
        "SELECT DISTINCT bucket FROM method_figures WHERE resolution_s = ? AND bucket >= ?"
        f" AND method IN ({','.join('?' * len(methods))}) ORDER BY bucket"
    )
    rows = db.execute(query, (RESOLUTIONS_S[0], since_ns // MINUTE_NS, *methods))
    return [minute for (minute,) in rows]


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


def _bounds(db: sqlite3.Connection, selection: Selection) -> tuple[int, int]:
    """Return the selected time in seconds, as whole minutes within the stored days."""
    minute_s, day_s = RESOLUTIONS_S[0], RESOLUTIONS_S[-1]
    days = read_one(db, _Days, _DAYS, (day_s,))
    if days is None or days.first is None or days.last is None:
        return 0, 0
    minute_ns = minute_s * SECOND_NS
    first_s = 0 if selection.since_ns is None else selection.since_ns // minute_ns * minute_s
    last_s = (days.last + 1) * day_s
    if selection.until_ns is not None:
        last_s = min(last_s, -(-selection.until_ns // minute_ns) * minute_s)
    return max(first_s, days.first * day_s), last_s


def _read(
    db: sqlite3.Connection, resolution: int, first: int, last: int, wanted: list[int] | None
) -> Iterator[_Row]:
    if wanted is None:
        return read(db, _Row, _ROWS, (resolution, first, last))
    marks = ",".join("?" * len(wanted))
    return read(db, _Row, f"{_ROWS} AND method IN ({marks})", (resolution, first, last, *wanted))


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
