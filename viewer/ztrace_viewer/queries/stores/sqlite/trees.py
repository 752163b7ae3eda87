"""Traces and their spans in a file.

One idea: ``traces`` has one row per trace, with an index by hour, part of the hour and duration. Parts are
read in the order of their slowest trace, and a part is skipped if that trace cannot be among the result.
"""

import heapq
import sqlite3
from collections.abc import Collection, Iterator
from typing import NamedTuple

from ztrace.records import INT64_MAX, UNFINISHED
from ztrace_collector.layout import HOUR_NS, PART, THINNED
from ztrace_viewer.queries.rows import name_columns, read, read_one
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.answers import PartRow, SpanCounts, TraceRow
from ztrace_viewer.trees.clocks import Cell

#: Condition on traces with a failed span, which have an index of their own.
_FAILED = "error_count > 0"
#: Slowest trace of the last part of the hours that a condition lets through, by a look-up in the index.
_SLOWEST = f"""
SELECT id FROM traces WHERE {{condition}} ORDER BY hour DESC, {PART} DESC, duration_ns DESC LIMIT 1
"""
#: Parts that have traces, each with the duration of its slowest trace, found by one look-up for each.
_PARTS = f"""
WITH RECURSIVE parts (id, hour, part) AS (
    SELECT id, hour, {PART} FROM traces WHERE id = ({{last}})
    UNION ALL
    SELECT traces.id, traces.hour, traces.{PART} FROM parts JOIN traces
        ON traces.id = coalesce(({{in_hour}}), ({{before}}))
)
SELECT parts.hour, part, duration_ns AS slowest FROM parts JOIN traces USING (id) ORDER BY slowest DESC
"""


class _Part(NamedTuple):
    hour: int
    part: int
    slowest: int


class _Found(NamedTuple):
    """Row id of a trace, ordered by duration."""

    duration_ns: int
    id: int


_TRACE = f"SELECT {name_columns(TraceRow)} FROM traces JOIN methods ON methods.id = root_method"
_COUNTS = name_columns(
    SpanCounts,
    spans="count(*)",
    ids="count(DISTINCT span_id)",
    roots="coalesce(sum(parent_id IS NULL), 0)",
    unfinished=f"coalesce(sum(status = {UNFINISHED}), 0)",
    orphans="coalesce(sum(parent_id IS NOT NULL"
    " AND parent_id NOT IN (SELECT span_id FROM all_spans WHERE trace_id = :trace)), 0)",
)
#: Traces that arrive together start at nearly the same time, so a few of the last ones have the latest start.
_LOOKED_AT = 1_000
_THINNED_UNTIL = (
    "SELECT max(start_ns) FROM (SELECT start_ns FROM traces"
    " WHERE id <= (SELECT value FROM settling WHERE name = ?) ORDER BY id DESC LIMIT ?)"
)
_CELLS = f"SELECT {name_columns(Cell)} FROM clock_bounds WHERE host = ? AND other_host = ?"


class Trees:
    """Answers about traces."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def slowest(
        self,
        selection: Selection,
        methods: Collection[int] | None,
        limit: int,
        *,
        hidden: Collection[bytes] = (),
        errors: bool = False,
    ) -> list[tuple[int, bytes]]:
        """Return duration and id of the slowest traces that began in the selection's time, in any order."""
        first = 0 if selection.since_ns is None else selection.since_ns // HOUR_NS
        last = INT64_MAX // HOUR_NS if selection.until_ns is None else (selection.until_ns - 1) // HOUR_NS
        left_out = {row_id for trace_id in hidden for row_id in self._find_id(trace_id)}
        slowest: list[_Found] = []
        parts = list(read(self.db, _Part, _write_parts(errors), {"first": first, "last": last}))
        for part in parts:
            least_ns = slowest[0].duration_ns if len(slowest) == limit else 0
            if part.slowest < least_ns:
                break
            for found in self._slowest_of(part, least_ns, selection, methods, limit + len(left_out), errors):
                if found.id in left_out:
                    continue
                if len(slowest) < limit:
                    heapq.heappush(slowest, found)
                elif found <= heapq.heappushpop(slowest, found):
                    break
        query = "SELECT trace_id FROM traces WHERE id = ?"
        return [(found.duration_ns, *self.db.execute(query, (found.id,)).fetchone()) for found in slowest]

    def _find_id(self, trace_id: bytes) -> tuple[int, ...]:
        return self.db.execute("SELECT id FROM traces WHERE trace_id = ?", (trace_id,)).fetchone() or ()

    def _slowest_of(
        self,
        part: _Part,
        least_ns: int,
        selection: Selection,
        methods: Collection[int] | None,
        limit: int,
        errors: bool,
    ) -> Iterator[_Found]:
        """Yield the slowest traces of a part that take some time at least, the slowest first."""
        conditions, values = ["hour = ?", f"{PART} = ?", "duration_ns >= ?"], [part.hour, part.part, least_ns]
        if errors:
            conditions.append(_FAILED)
        if selection.since_ns is not None and part.hour == selection.since_ns // HOUR_NS:
            conditions.append("start_ns >= ?")
            values.append(selection.since_ns)
        if selection.until_ns is not None and part.hour == (selection.until_ns - 1) // HOUR_NS:
            conditions.append("start_ns < ?")
            values.append(selection.until_ns)
        if methods is not None:
            conditions.append(f"root_method IN ({','.join('?' * len(methods))})")
            values.extend(methods)
        query = (
            f"SELECT {name_columns(_Found)} FROM traces WHERE {' AND '.join(conditions)}"
            " ORDER BY duration_ns DESC, id DESC LIMIT ?"
        )
        return read(self.db, _Found, query, [*values, limit])

    def traces(self, trace_ids: Collection[bytes]) -> dict[bytes, TraceRow]:
        """Return the totals of traces, without those of which no span has ended."""
        rows = (
            read_one(self.db, TraceRow, f"{_TRACE} WHERE trace_id = ?", (trace_id,)) for trace_id in trace_ids
        )
        return {row.trace_id: row for row in rows if row is not None}

    def trace_by_id(self, row_id: int) -> TraceRow | None:
        """Return a row of ``traces`` by its id, None if the trace has expired."""
        return read_one(self.db, TraceRow, f"{_TRACE} WHERE traces.id = ?", (row_id,))

    def root_start(self, trace: TraceRow) -> int | None:
        """Return the start of a trace's ended root."""
        (start_ns,) = self.db.execute(
            "SELECT min(start_ns) FROM all_spans JOIN methods ON methods.id = method"
            " WHERE trace_id = ? AND span_id = ? AND parent_id IS NULL AND service = ?",
            (trace.trace_id, trace.root_span_id, trace.service),
        ).fetchone()
        return None if start_ns is None else int(start_ns)

    def count_spans(self, trace_ids: Collection[bytes]) -> dict[bytes, SpanCounts]:
        """Return the numbers of the ended spans of traces, without those that have none."""
        query = f"SELECT {_COUNTS} FROM all_spans WHERE trace_id = :trace"
        counts = {
            trace_id: read_one(self.db, SpanCounts, query, {"trace": trace_id}) for trace_id in trace_ids
        }
        return {trace_id: each for trace_id, each in counts.items() if each is not None and each.spans}

    def refused_spans(self, trace_id: bytes) -> dict[bytes, str]:
        """Return the reasons by the ids of a trace's refused spans."""
        query = "SELECT span_id, reason FROM refused_spans WHERE trace_id = ?"
        return dict(self.db.execute(query, (trace_id,)))

    def clock_cells(self, host: str, other: str, cell: int, most: int) -> Iterator[Cell]:
        """Yield the bounds of two hosts' clocks nearest to a time: so many up to it, and so many after."""
        for side in (f"{_CELLS} AND cell <= ? ORDER BY cell DESC", f"{_CELLS} AND cell > ? ORDER BY cell"):
            yield from read(self.db, Cell, f"{side} LIMIT {most}", (host, other, cell))

    def part_counts(
        self, since_ns: int, until_ns: int, width_ns: int, methods: Collection[int] | None
    ) -> Iterator[PartRow]:
        """Return the traces that began in each part of a stretch of time, by their roots' methods."""
        conditions = ["hour BETWEEN ? AND ?", "start_ns >= ?", "start_ns < ?"]
        values = [since_ns // HOUR_NS, until_ns // HOUR_NS, since_ns, until_ns]
        if methods is not None:
            conditions.append(f"root_method IN ({','.join('?' * len(methods))})")
            values += methods
        columns = name_columns(
            PartRow, part="(start_ns - ?) / ?", traces="count(*)", errors="coalesce(sum(error_count > 0), 0)"
        )
        query = f"SELECT {columns} FROM traces WHERE {' AND '.join(conditions)} GROUP BY 1"
        return read(self.db, PartRow, query, [since_ns, width_ns, *values])

    def first_start(self) -> int | None:
        """Return the start of the first trace."""
        (hour,) = self.db.execute("SELECT min(hour) FROM traces").fetchone()
        (first,) = self.db.execute("SELECT min(start_ns) FROM traces WHERE hour = ?", (hour,)).fetchone()
        return None if first is None else int(first)

    def is_thinned(self, trace_id: bytes) -> bool:
        """Return whether spans of a trace have been thinned; it may have later ones."""
        query = "SELECT 1 FROM thinned_traces WHERE trace_id = ?"
        return self.db.execute(query, (trace_id,)).fetchone() is not None

    def thinned_until(self) -> int | None:
        """Return the start of the latest of the last traces that thinning has kept, None before the first."""
        (until_ns,) = self.db.execute(_THINNED_UNTIL, (THINNED, _LOOKED_AT)).fetchone()
        return None if until_ns is None else int(until_ns)


def _write_parts(errors: bool) -> str:
    """Return the query for the parts that have traces, or failed traces."""
    failed = f" AND {_FAILED}" if errors else ""
    return _PARTS.format(
        last=_SLOWEST.format(condition=f"hour BETWEEN :first AND :last{failed}"),
        in_hour=_SLOWEST.format(condition=f"hour = parts.hour AND {PART} < parts.part{failed}"),
        before=_SLOWEST.format(condition=f"hour >= :first AND hour < parts.hour{failed}"),
    )
