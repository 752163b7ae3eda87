"""Map of who calls whom, from the figures by call path.

One idea: a path whose last two steps are of different services is a call between them, so no span is read.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from ztrace_collector.layout import LEFT_OUT, MINUTE_NS, PATH_MINUTES_NS, RESOLUTIONS_S, SECOND_NS
from ztrace_collector.tables.histogram import quantile
from ztrace_viewer.documents.map import MapDocument
from ztrace_viewer.queries.figures import split_range
from ztrace_viewer.queries.paths import Paths, bound_time
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.conditions import ALL_TREES
from ztrace_viewer.queries.stores.store import Store

#: Units of figures that bound the time of rates.
_UNITS_S = RESOLUTIONS_S[:2]


@dataclass(slots=True)
class _Sum:
    """Calls of several paths."""

    calls: int = 0
    errors: int = 0
    histogram: Counter[int] = field(default_factory=Counter)

    @property
    def p95_ns(self) -> int | None:
        return quantile(dict(sorted(self.histogram.items())), 0.95)


def read_map(store: Store, selection: Selection, now_ns: int) -> MapDocument:
    """Return the calls between services in the trees that ended in a stretch of time.

    Args:
        store: the store.
        selection: the time, and a service that has to be the caller or the callee.
        now_ns: present time: of long ago, only whole hours are known.
    """
    paths = Paths(store)
    begin_s, end_s = bound_time(store, selection.since_ns, selection.until_ns, now_ns)
    ranges = split_range(begin_s, end_s)
    sums = {figures.path: figures for figures in store.path_sums(ranges) if figures.calls}
    #: Caller and callee of each path that leads from one service to another, or to its root.
    crossing: dict[int, tuple[str, str]] = {}
    other_calls = 0
    for path, figures in sums.items():
        service = paths.last(path)["service"]
        caller = paths.last(paths.parent(path))["service"] if paths.parent(path) else ""
        if paths.is_shared(path) or paths.is_shared(paths.parent(path)):
            other_calls += figures.calls
        elif caller != service:
            crossing[path] = caller, service
    _, histograms = store.path_figures(ranges, set(crossing), ALL_TREES)
    services: defaultdict[str, _Sum] = defaultdict(_Sum)
    calls: defaultdict[tuple[str, str], _Sum] = defaultdict(_Sum)
    for path, (caller, callee) in crossing.items():
        for total in (services[callee], *([calls[caller, callee]] if caller else [])):
            total.calls += sums[path].calls
            total.errors += sums[path].errors
            total.histogram.update(histograms[path])
    if selection.service is not None:
        calls = defaultdict(_Sum, {pair: calls[pair] for pair in calls if selection.service in pair})
        among = {selection.service, *(name for pair in calls for name in pair)}
        services = defaultdict(_Sum, {name: services[name] for name in services if name in among})
    return {
        "services": [
            {"service": name, "calls": total.calls, "errors": total.errors, "p95_ns": total.p95_ns}
            for name, total in sorted(services.items())
        ],
        "calls": [
            {
                "from": caller,
                "to": callee,
                "calls": total.calls,
                "errors": total.errors,
                "p95_ns": total.p95_ns,
            }
            for (caller, callee), total in sorted(calls.items())
        ],
        "minutes": _count_minutes(store, selection, begin_s, end_s, now_ns) if services else 0,
        "unsettled_spans": store.unsettled(),
        "left_out": store.settling(LEFT_OUT),
        "other_calls": other_calls,
    }


def _count_minutes(store: Store, selection: Selection, begin_s: int, end_s: int, now_ns: int) -> int:
    """Return the minutes of a stretch that has figures, from the first figure of the file on.

    A stretch without an end ends now, and all of the file with its last figure.
    """
    first_s, last_s = _find_edges(store, now_ns)
    now_s = max(last_s, -(-now_ns // MINUTE_NS) * MINUTE_NS // SECOND_NS)
    if selection.until_ns is None:
        end_s = last_s if selection.since_ns is None else now_s
    return max(1, (min(end_s, now_s) - max(begin_s, first_s)) // RESOLUTIONS_S[0])


def _find_edges(store: Store, now_ns: int) -> tuple[int, int]:
    """Return begin and end of the figures in seconds, as whole hours where their minutes may be deleted."""
    minute_s, hour_s = _UNITS_S
    minutes, hours = (store.path_edges(unit_s) for unit_s in _UNITS_S)
    if hours is None:
        return 0, 0
    kept_s = (now_ns - PATH_MINUTES_NS) // SECOND_NS
    first_s, last_s = hours[0] * hour_s, (hours[1] + 1) * hour_s
    if minutes is not None and first_s >= kept_s:
        first_s = minutes[0] * minute_s
    if minutes is not None and last_s > kept_s + hour_s:
        last_s = (minutes[1] + 1) * minute_s
    return first_s, last_s
