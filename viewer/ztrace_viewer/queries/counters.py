"""Counters for monitoring: calls, errors and times of each method, and spans by fate, since the file began.

One idea: a counter is the sum of what is stored and of what retention has deleted, so it never falls. Days
that are over hardly change, so their sum is kept from one reading to the next.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain

from ztrace.records import INT64_MAX
from ztrace_collector.layout import RESOLUTIONS_S
from ztrace_viewer.json_text import read_json
from ztrace_viewer.queries.stores.answers import FiguresRow
from ztrace_viewer.queries.stores.monitoring import FiguresState
from ztrace_viewer.queries.stores.store import Store


@dataclass(slots=True)
class MethodCounters:
    """Counters of a method; the histogram has the calls by ztrace's buckets."""

    calls: int = 0
    errors: int = 0
    total_ns: int = 0
    self_ns: int = 0
    histogram: Counter[int] = field(default_factory=Counter)

    def add(self, other: "MethodCounters") -> None:
        """Add other counters to these."""
        self.calls += other.calls
        self.errors += other.errors
        self.total_ns += other.total_ns
        self.self_ns += other.self_ns
        self.histogram.update(other.histogram)


_DAY_S = RESOLUTIONS_S[-1]

_Sums = dict[int, MethodCounters]


class Counters:
    """Reader of the counters of one database; thread-safe."""

    def __init__(self) -> None:
        self._past: tuple[int, FiguresState, _Sums] | None = None

    def read(self, store: Store) -> _Sums:
        """Return the counters of every method by its id."""
        edges = store.figure_edges(_DAY_S, 0, INT64_MAX)
        if edges is None:
            return _add_up(store.retired_figures())
        today = edges[1]
        sums: defaultdict[int, MethodCounters] = defaultdict(MethodCounters)
        of_today = _add_up(store.figures(_DAY_S, today, today + 1, None))
        for part in (self._read_past(store, today), of_today):
            for method, counters in part.items():
                sums[method].add(counters)
        return sums

    def _read_past(self, store: Store, today: int) -> _Sums:
        state = store.figures_state(_DAY_S, today)
        kept = self._past
        if kept is not None and kept[:2] == (today, state):
            return kept[2]
        sums = _add_up(chain(store.retired_figures(), store.figures(_DAY_S, 0, today, None)))
        self._past = (today, state, sums)
        return sums


def _add_up(rows: Iterable[FiguresRow]) -> _Sums:
    sums: defaultdict[int, MethodCounters] = defaultdict(MethodCounters)
    # Buckets stay texts until the end: after a year there are many rows.
    histograms: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for row in rows:
        total, histogram = sums[row.method], histograms[row.method]
        total.calls += row.calls
        total.errors += row.errors
        total.total_ns += row.total_ns
        total.self_ns += row.self_ns
        counts = read_json(row.histogram)
        for bucket, count in counts.items() if isinstance(counts, dict) else ():
            histogram[bucket] = histogram.get(bucket, 0) + count
    for method, histogram in histograms.items():
        sums[method].histogram.update({int(bucket): count for bucket, count in histogram.items()})
    return sums
