"""Map of who calls whom, from the figures by call path.

One idea: a path whose last two steps are of different services is a call between them, so no span is read.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from ztrace_collector.layout import LEFT_OUT
from ztrace_collector.tables.histogram import quantile
from ztrace_viewer.documents.map import MapDocument
from ztrace_viewer.queries.figures import split_range
from ztrace_viewer.queries.paths import Paths, bound_time, count_unsettled, read_settling
from ztrace_viewer.queries.profile import read_sums, read_whole
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.sqlite.store import SqliteStore


@dataclass(slots=True)
class _Sum:
    """Calls of several paths."""

    calls: int = 0
    errors: int = 0
    histogram: Counter[int] = field(default_factory=Counter)

    @property
    def p95_ns(self) -> int | None:
        return quantile(dict(sorted(self.histogram.items())), 0.95)


def read_map(store: SqliteStore, selection: Selection, now_ns: int) -> MapDocument:
    """Return the calls between services in the trees that ended in a stretch of time.

    Args:
        store: the file's store.
        selection: the time, and a service that has to be the caller or the callee.
        now_ns: present time: of long ago, only whole hours are known.
    """
    paths = Paths(store)
    ranges = split_range(*bound_time(store, selection.since_ns, selection.until_ns, now_ns))
    sums = {figures.path: figures for figures in read_sums(store, ranges) if figures.calls}
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
    _, histograms = read_whole(store, ranges, set(crossing))
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
        "unsettled_spans": count_unsettled(store),
        "left_out": read_settling(store, LEFT_OUT),
        "other_calls": other_calls,
    }
