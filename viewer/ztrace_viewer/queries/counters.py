"""Counters for monitoring: calls, errors and times of each method, and spans by fate, since the file began.

One idea: a counter is the sum of what is stored and of what retention has deleted, so it never falls. Days
that are over hardly change, so their sum is kept from one reading to the next.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ztrace_collector.layout import LOSS_COLUMNS, PAST, RESOLUTIONS_S, STORED_SPANS
from ztrace_viewer.json_text import read_json
from ztrace_viewer.queries.rows import name_columns, read, read_one
from ztrace_viewer.queries.status import read_totals
from ztrace_viewer.queries.stores.sqlite.store import SqliteStore


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


class SpanCounters(NamedTuple):
    """Spans that publishers created, that were stored, and that were lost by reason."""

    created: int
    stored: int
    lost: dict[str, int]


class _Row(NamedTuple):
    """Figures of a method on a day, or on all deleted days."""

    method: int
    calls: int
    errors: int
    total_ns: int
    self_ns: int
    histogram: str


class _State(NamedTuple):
    """Sums that change whenever a row of days that are over does."""

    days: int
    calls: int
    total_ns: int
    retired: int
    retired_calls: int


_DAY_S = RESOLUTIONS_S[-1]
_RETIRED = f"SELECT {name_columns(_Row)} FROM retired_figures"
_DAYS = (
    f"SELECT {name_columns(_Row)} FROM method_figures WHERE resolution_s = {_DAY_S}"
    " AND bucket >= ? AND bucket < ?"
)
_LAST = f"SELECT max(bucket) FROM method_figures WHERE resolution_s = {_DAY_S}"
_COLUMNS = name_columns(
    _State,
    days="count(*)",
    calls="CAST(total(calls) AS INTEGER)",
    total_ns="CAST(total(total_ns) AS INTEGER)",
    retired="(SELECT count(*) FROM retired_figures)",
    retired_calls="(SELECT CAST(total(calls) AS INTEGER) FROM retired_figures)",
)
_STATE = f"SELECT {_COLUMNS} FROM method_figures WHERE resolution_s = {_DAY_S} AND bucket < ?"

_Sums = dict[int, MethodCounters]


class Counters:
    """Reader of the counters of one database; thread-safe."""

    def __init__(self) -> None:
        self._past: tuple[int, _State, _Sums] | None = None

    def read(self, store: SqliteStore) -> _Sums:
        """Return the counters of every method by its id."""
        (today,) = store.db.execute(_LAST).fetchone()
        if today is None:
            return _add_up(read(store.db, _Row, _RETIRED))
        sums: defaultdict[int, MethodCounters] = defaultdict(MethodCounters)
        for part in (self._read_past(store, today), _add_up(read(store.db, _Row, _DAYS, (today, today + 1)))):
            for method, counters in part.items():
                sums[method].add(counters)
        return sums

    def _read_past(self, store: SqliteStore, today: int) -> _Sums:
        state = read_one(store.db, _State, _STATE, (today,))
        assert state is not None
        kept = self._past
        if kept is not None and kept[:2] == (today, state):
            return kept[2]
        rows = [*read(store.db, _Row, _RETIRED), *read(store.db, _Row, _DAYS, (0, today))]
        self._past = (today, state, _add_up(rows))
        return self._past[2]


def read_span_counters(store: SqliteStore) -> SpanCounters:
    """Return the spans by their fate."""
    totals = read_totals(store.db.execute)
    sums = store.sum_columns(["spans_created", *LOSS_COLUMNS.values()])
    for column in sums:
        sums[column] += totals.get(PAST + column, 0)
    return SpanCounters(
        sums["spans_created"],
        sum(totals.get(name, 0) for name in STORED_SPANS),
        {reason: sums[column] for reason, column in LOSS_COLUMNS.items()},
    )


def _add_up(rows: Iterable[_Row]) -> _Sums:
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
