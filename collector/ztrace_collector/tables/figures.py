"""Figures of each method by minute, hour and day: calls, errors, times, and a histogram of durations.

One idea: figures are sums, so the spans of a transaction are added up by method and minute first, and each
row is then written once. A row counts the spans that ended in its period.
"""

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import log
from typing import Any

from ztrace.records import ERROR, INT64_MAX
from ztrace_collector.checking.columns import Columns
from ztrace_collector.layout import BUCKETS_PER_E, MINUTE_NS, RESOLUTIONS_S
from ztrace_collector.tables.rows import Recent

#: Rows kept in memory, of up to 10 KB each.
SIZE = 2048

#: (resolution_s, bucket, method)
Key = tuple[int, int, int]
#: A span's (duration, self, status).
_Times = tuple[int, int | None, int]

#: Conversion to an integer, without the cost of a call of a type.
_truncate = float.__trunc__


@dataclass(slots=True, eq=False)
class Figures:
    """Row of ``method_figures``, or the sums to be added to one."""

    calls: int = 0
    errors: int = 0
    total_ns: int = 0
    self_ns: int = 0
    histogram: dict[int, int] = field(default_factory=dict)

    @classmethod
    def read(cls, calls: int, errors: int, total_ns: int, self_ns: int, histogram: str) -> "Figures":
        """Return figures from the columns of a row."""
        counts = {int(bucket): count for bucket, count in json.loads(histogram).items()}
        return cls(calls, errors, total_ns, self_ns, counts)

    def add(self, other: "Figures") -> None:
        """Add other figures to these."""
        self.calls += other.calls
        self.errors += other.errors
        self.total_ns = min(INT64_MAX, self.total_ns + other.total_ns)
        self.self_ns = min(INT64_MAX, self.self_ns + other.self_ns)
        histogram = self.histogram
        for bucket, count in other.histogram.items():
            histogram[bucket] = histogram.get(bucket, 0) + count


class MethodFigures:
    """Table ``method_figures``, with its rows that belong to the transaction in progress."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._recent: Recent[Key, Figures] = Recent(SIZE)
        #: Sums of the transaction's batches, by method and minute.
        self._sums: defaultdict[tuple[int, int], Figures] = defaultdict(Figures)

    def forget(self) -> None:
        """Drop everything from memory after a rollback."""
        self._recent.clear()
        self._sums.clear()

    def add(self, columns: Columns, methods: Sequence[int]) -> None:
        """Add a batch's spans; `write` has to follow in the same transaction."""
        minute, last = min(columns.end_ns) // MINUTE_NS, max(columns.end_ns) // MINUTE_NS
        keys: Iterable[Any] = methods
        if minute != last:  # The spans of most batches end in one minute, and need no tuple each.
            keys = zip(methods, [end_ns // MINUTE_NS for end_ns in columns.end_ns], strict=True)
        # Batch by batch, so that the next batch reuses the memory while it is in the processor's cache.
        spans: defaultdict[Any, list[_Times]] = defaultdict(list)
        for key, times in zip(
            keys,
            zip(columns.duration_ns, columns.measures["self_ns"], columns.status, strict=True),
            strict=True,
        ):
            spans[key].append(times)
        for key, group in spans.items():
            self._sums[(key, minute) if minute == last else key].add(_sum_up(group))

    def write(self) -> None:
        """Write the rows of the added spans."""
        rows: dict[Key, Figures] = {}
        for (method, minute), figures in self._sums.items():
            for resolution_s in RESOLUTIONS_S:
                key = resolution_s, minute * 60 // resolution_s, method
                row = rows.get(key)
                if row is None:
                    row = rows[key] = self._find(key)
                row.add(figures)
        self._sums.clear()
        self._db.executemany(
            "INSERT OR REPLACE INTO method_figures"
            " (resolution_s, bucket, method, calls, errors, total_ns, self_ns, histogram)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (*key, row.calls, row.errors, row.total_ns, row.self_ns, write_histogram(row.histogram))
                for key, row in rows.items()
            ],
        )
        self._recent.keep(rows)

    def _find(self, key: Key) -> Figures:
        figures = self._recent.get(key)
        if figures is not None:
            return figures
        row = self._db.execute(
            "SELECT calls, errors, total_ns, self_ns, histogram FROM method_figures"
            " WHERE resolution_s = ? AND bucket = ? AND method = ?",
            key,
        ).fetchone()
        return Figures() if row is None else Figures.read(*row)


def write_histogram(histogram: dict[int, int]) -> str:
    """Return a histogram as JSON."""
    # By hand, because the encoder is slow with keys that are numbers.
    return "{" + ",".join([f'"{bucket}":{count}' for bucket, count in histogram.items()]) + "}"


def _sum_up(spans: list[_Times]) -> Figures:
    durations, selfs, statuses = zip(*spans, strict=True)
    # The same as `histogram.bucket_of`, without a call for each span. The logarithm of 1 is 0.
    logarithms = map(log, durations if all(durations) else [duration or 1 for duration in durations])
    buckets = Counter(map(_truncate, [BUCKETS_PER_E * each for each in logarithms]))
    return Figures(
        calls=len(spans),
        errors=statuses.count(ERROR),
        total_ns=min(INT64_MAX, sum(durations)),
        self_ns=min(INT64_MAX, sum(filter(None, selfs))),
        histogram=buckets,
    )
