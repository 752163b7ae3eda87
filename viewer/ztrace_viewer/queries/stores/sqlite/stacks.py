"""Sampled code in a file; one idea: each bucket is looked up in an index by method."""

import sqlite3
from collections.abc import Collection, Iterator
from typing import Any

from ztrace_viewer.queries.rows import name_columns, read_one
from ztrace_viewer.queries.stores.answers import FrameRow, Run, StackTime
from ztrace_viewer.queries.stores.conditions import Ranges
from ztrace_viewer.queries.stores.packed import read_runs, read_sums

#: Seconds of the buckets of the two tables.
_MINUTE_S, _HOUR_S = 60, 3600

_FRAME = f"SELECT {name_columns(FrameRow)} FROM stacks JOIN frames ON frames.id = frame WHERE stacks.id = ?"
_SUMS = "SELECT method, sums FROM {table} WHERE {bucket} IN ({buckets}) AND method IN ({methods})"
_TIMES = (
    "SELECT method, sum(run_ns), sum(run_ns) + sum(wait_ns) + sum(busy_ns) FROM {table}"
    " WHERE {bucket} IN ({buckets}) AND method IN ({methods}) GROUP BY method"
)
#: Numbers from the first to below the second parameter, each looked up in an index.
_BUCKETS = (
    "WITH RECURSIVE each (bucket) AS (SELECT ? WHERE ? < ? UNION ALL"
    " SELECT bucket + 1 FROM each WHERE bucket + 1 < ?) SELECT bucket FROM each"
)
_RUNS = (
    "SELECT runs FROM span_stacks JOIN instances ON instances.id = instance"
    " WHERE trace_id = ? AND span_id = ? AND service = ? ORDER BY span_stacks.id"
)


class Stacks:
    """Answers about sampled code."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def method_stacks(
        self, ranges: Ranges, methods: Collection[int]
    ) -> Iterator[tuple[int, int, list[StackTime]]]:
        """Return the code of methods in ranges of buckets: sign of the range, method, and times by stack."""
        for sign, method, packed in self._read_ranges(_SUMS, ranges, methods):
            yield sign, method, read_sums(packed)

    def run_times(self, ranges: Ranges, methods: Collection[int]) -> Iterator[tuple[Any, ...]]:
        """Return sign, method, nanoseconds in which its code ran, and all that were sampled."""
        return self._read_ranges(_TIMES, ranges, methods)

    def _read_ranges(self, query: str, ranges: Ranges, methods: Collection[int]) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query over some ranges, each behind the sign of its range."""
        among = ",".join(map(str, sorted(methods)))
        for sign, resolution_s, first, end in ranges if methods else ():
            is_minutes = resolution_s == _MINUTE_S
            table, bucket = ("stack_minutes", "minute") if is_minutes else ("stack_hours", "hour")
            unit_s = _MINUTE_S if is_minutes else _HOUR_S
            first, end = (each * resolution_s // unit_s for each in (first, end))
            statement = query.format(table=table, bucket=bucket, buckets=_BUCKETS, methods=among)
            for row in self.db.execute(statement, (first, first, end, end)):
                yield (sign, *row)

    def frame(self, stack: int) -> FrameRow | None:
        """Return the innermost frame of a stack, None if it is unknown."""
        return read_one(self.db, FrameRow, _FRAME, (stack,))

    def span_runs(self, trace_id: bytes, span_id: bytes, service: str) -> list[Run]:
        """Return the runs of a span that was sampled by itself, in the order of storing."""
        rows = self.db.execute(_RUNS, (trace_id, span_id, service))
        return [run for (packed,) in rows for run in read_runs(packed)]

    def has_span_stacks(self) -> bool:
        """Return whether any span has code of its own."""
        return self.db.execute("SELECT 1 FROM span_stacks LIMIT 1").fetchone() is not None
