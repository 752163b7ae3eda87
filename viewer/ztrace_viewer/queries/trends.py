"""Trends of methods: calls, errors and p95 in each part of a stretch of time.

One idea: the parts are made of the minutes, hours or days whose figures are kept, so no span is read.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ztrace.records import INT64_MAX
from ztrace_collector.layout import RESOLUTIONS_S, SECOND_NS
from ztrace_collector.tables.histogram import quantile
from ztrace_viewer.documents.figures import MethodFigures, Trend, Trends
from ztrace_viewer.json_text import read_json
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.store import Store

#: Most parts of a stretch, and least: fewer are no trend.
MOST_PARTS, LEAST_PARTS = 60, 3
#: Most buckets of a resolution that are read: six hours by minutes, fifteen days by hours.
_MOST_BUCKETS = 360
#: Methods that have a trend, the first of a list.
MOST_METHODS = 100


class _Axis(NamedTuple):
    """Parts of a stretch of time.

    Attributes:
        resolution_s: resolution of the buckets.
        first: the first bucket.
        width: buckets of a part.
        parts: number of parts.
    """

    resolution_s: int
    first: int
    width: int
    parts: int


@dataclass(slots=True)
class _Sums:
    """Sums of a method in each part."""

    calls: list[int]
    errors: list[int]
    histograms: dict[int, Counter[int]] = field(default_factory=dict)


def read_trends(store: Store, methods: Sequence[MethodFigures], selection: Selection) -> Trends | None:
    """Return the trends of the first methods of a list; None if their time is too short for a trend.

    The parts are equally long, and go from the first figures of the selection's time to the last. At both
    ends, minutes, hours or days count whole.
    """
    axis = _choose_axis(store, selection) if methods else None
    if axis is None:
        return None
    ids = {(method.service, method.name, method.kind): method.id for method in store.methods().values()}
    keys = [ids[each["service"], each["name"], each["kind"]] for each in methods[:MOST_METHODS]]
    sums = _sum(store, axis, keys)
    return {
        "since_ns": axis.first * axis.resolution_s * SECOND_NS,
        "part_s": axis.width * axis.resolution_s,
        "methods": [_describe(sums[key], axis) for key in keys],
    }


def _choose_axis(store: Store, selection: Selection) -> _Axis | None:
    """Return the parts of the selection's time, by the finest resolution that is not too many buckets."""
    for resolution_s in RESOLUTIONS_S:
        unit_ns = resolution_s * SECOND_NS
        begin = 0 if selection.since_ns is None else selection.since_ns // unit_ns
        end = INT64_MAX if selection.until_ns is None else -(-selection.until_ns // unit_ns)
        edges = store.figure_edges(resolution_s, begin, end)
        if edges is None:
            return None
        buckets = edges[1] - edges[0] + 1
        if buckets <= _MOST_BUCKETS or resolution_s == RESOLUTIONS_S[-1]:
            width = -(-buckets // MOST_PARTS)
            parts = -(-buckets // width)
            return _Axis(resolution_s, edges[0], width, parts) if parts >= LEAST_PARTS else None
    return None


def _sum(store: Store, axis: _Axis, keys: Sequence[int]) -> Mapping[int, _Sums]:
    sums = {key: _Sums([0] * axis.parts, [0] * axis.parts) for key in keys}
    end = axis.first + axis.parts * axis.width
    for row in store.figures(axis.resolution_s, axis.first, end, keys):
        part, total = (row.bucket - axis.first) // axis.width, sums[row.method]
        total.calls[part] += row.calls
        total.errors[part] += row.errors
        histogram = total.histograms.setdefault(part, Counter())
        counts = read_json(row.histogram)
        for bucket, count in counts.items() if isinstance(counts, dict) else ():
            histogram[int(bucket)] += count
    return sums


def _describe(sums: _Sums, axis: _Axis) -> Trend:
    return {
        "calls": sums.calls,
        "errors": sums.errors,
        "p95_ns": [quantile(sums.histograms.get(part, {}), 0.95) for part in range(axis.parts)],
    }
