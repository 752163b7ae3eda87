"""Traces in ClickHouse.

One idea: a trace's row is merged from those of its blocks when it is read, so a question first finds few ids
by an index, and then merges the rows of these alone. ``roots`` is ordered by hour and duration; traces that
have no root are found by the rows of blocks without one.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from ztrace.records import UNFINISHED
from ztrace_collector.clickhouse.merging import MERGED, NEVER
from ztrace_collector.clickhouse.thinning import THINNED
from ztrace_collector.layout import HOUR_NS
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.answers import Method, PartRow, SpanCounts, TraceRow
from ztrace_viewer.queries.stores.clickhouse.duplicates import but_duplicates
from ztrace_viewer.queries.stores.clickhouse.names import Names
from ztrace_viewer.queries.stores.clickhouse.reading import (
    Reader,
    or_none,
    write_id,
    write_ids,
    write_numbers,
)
from ztrace_viewer.trees.clocks import Cell


class Merged(NamedTuple):
    """A trace, merged from the rows of its blocks."""

    trace_id: bytes
    root_span_id: bytes | None
    root_method: int
    start_ns: int
    end_ns: int
    duration_ns: int
    spans: int
    errors: int
    methods: list[int]


class Trees(Names):
    """Answers about traces."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        #: Traces that an answer has named: what is told of them next is their state then.
        self._merged: dict[bytes, Merged] = {}

    def merge(
        self,
        where: str,
        *,
        having: str = "",
        order: str = "",
        values: Mapping[str, object] | None = None,
    ) -> list[Merged]:
        """Return the traces whose rows meet a condition, and that meet another one once merged."""
        having = f" HAVING {having}" if having else ""
        rows = self.reader.query(
            "SELECT trace_id, if(rooted, root.2, toFixedString('', 8)), root_method, start_ns, end_ns,"
            " duration_ns, spans, errors, all_methods"
            f" FROM ({MERGED} WHERE {where} GROUP BY trace_id{having}){order}",
            values,
        )
        return [Merged(row[0], or_none(row[1]), *row[2:]) for row in rows]

    def list_services(self, methods: Collection[int]) -> str:
        """Return the services of some methods as a JSON array, sorted."""
        known = self.named(methods)
        names = sorted({known[method].service for method in methods if method in known})
        return json.dumps(names, ensure_ascii=False, separators=(",", ":"))

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
        conditions = ["1"]
        if selection.since_ns is not None:
            conditions += [f"hour >= {selection.since_ns // HOUR_NS}", f"start_ns >= {selection.since_ns}"]
        if selection.until_ns is not None:
            conditions += [f"hour <= {selection.until_ns // HOUR_NS}", f"start_ns < {selection.until_ns}"]
        if methods is not None:
            conditions.append(f"method IN {write_numbers(methods)}")
        if hidden:
            conditions.append(f"trace_id NOT IN {write_ids(hidden)}")
        if errors:
            conditions.append("trace_id IN (SELECT trace_id FROM traces WHERE error_count > 0)")
        where = " AND ".join(conditions)
        rootless = self._merge_rootless(selection, methods, limit, hidden, errors=errors)
        found: dict[bytes, int] = {}
        most = limit
        while True:
            # A trace may have several roots, of which only its own counts.
            # Some are found by the order of the table, and parts of it with shorter ones are then left out.
            some = f"SELECT duration_ns FROM roots WHERE {where} ORDER BY hour DESC, duration_ns DESC"
            least = f"SELECT if(count() = {most}, min(duration_ns), 0) FROM ({some} LIMIT {most})"
            rows = self.reader.query(
                f"SELECT trace_id, span_id, duration_ns FROM roots WHERE {where} AND duration_ns >= ({least})"
                f" ORDER BY duration_ns DESC, trace_id DESC LIMIT {most}"
            )
            ids = {trace_id for trace_id, _, _ in rows}
            own = self._merge_ids(ids)
            for trace_id, span_id, duration_ns in rows:
                if trace_id in own and own[trace_id].root_span_id == span_id:
                    found[trace_id] = duration_ns
            if len(rows) < most or len(found) >= limit:
                found |= {each.trace_id: each.duration_ns for each in rootless}
                return [(duration_ns, trace_id) for trace_id, duration_ns in found.items()]
            most *= 4

    def _merge_rootless(
        self,
        selection: Selection,
        methods: Collection[int] | None,
        limit: int,
        hidden: Collection[bytes],
        *,
        errors: bool,
    ) -> list[Merged]:
        """Return the slowest traces that have no root."""
        conditions = [f"min(t.root).1 = {NEVER}"]
        if selection.since_ns is not None:
            conditions.append(f"min(t.first).1 >= {selection.since_ns}")
        if selection.until_ns is not None:
            conditions.append(f"min(t.first).1 < {selection.until_ns}")
        if methods is not None:
            conditions.append(f"min(t.first).2 IN {write_numbers(methods)}")
        if hidden:
            conditions.append(f"trace_id NOT IN {write_ids(hidden)}")
        if errors:
            conditions.append("sum(t.error_count) > 0")
        return self._merge_rows(
            f"(SELECT trace_id FROM traces WHERE root.1 = {NEVER}) GROUP BY trace_id"
            f" HAVING {' AND '.join(conditions)}"
            " ORDER BY greatest(max(t.end_ns) - min(t.first).1, 0) DESC, trace_id DESC"
            f" LIMIT {limit}"
        )

    def traces(self, trace_ids: Collection[bytes]) -> dict[bytes, TraceRow]:
        """Return the totals of traces, without those of which no span has ended."""
        return {trace_id: self._make_trace(each) for trace_id, each in self._merge_ids(trace_ids).items()}

    def _merge_ids(self, trace_ids: Collection[bytes]) -> dict[bytes, Merged]:
        if missing := {*trace_ids} - self._merged.keys():
            merged = self._merge_rows(f"{write_ids(missing)} GROUP BY trace_id")
            self._merged |= {each.trace_id: each for each in merged}
        return {each: self._merged[each] for each in trace_ids if each in self._merged}

    def _merge_rows(self, among: str) -> list[Merged]:
        """Return traces as `merge` does, without its names, which the server takes longer to plan."""
        rows = self.reader.query(
            "SELECT trace_id, min(t.root), min(t.first), max(t.end_ns), sum(t.span_count),"
            f" sum(t.error_count), groupUniqArrayArray(t.methods) FROM traces AS t WHERE trace_id IN {among}"
        )
        return [_merge(*row) for row in rows]

    def _make_trace(self, merged: Merged) -> TraceRow:
        method = self.named([merged.root_method]).get(merged.root_method, Method(0, "", "", "internal"))
        return TraceRow(
            merged.trace_id,
            merged.root_span_id,
            method.service,
            method.name,
            merged.start_ns,
            merged.end_ns,
            merged.duration_ns,
            merged.spans,
            merged.errors,
            self.list_services(merged.methods),
        )

    def is_thinned(self, trace_id: bytes) -> bool:
        """Return whether spans of a trace have been thinned; it may have later ones."""
        return self.find_thinned(trace_id, trace_id) is not None

    def thinned_until(self) -> int | None:
        """Return the start of the latest of the last traces that thinning has kept, None before the first."""
        rows = self.reader.query(
            "SELECT argMax(until_ns, day) FROM thinned_days FINAL"
            f" WHERE state = '{THINNED}' HAVING count() > 0"
        )
        return int(rows[0][0]) if rows else None

    def thresholds(self, condition: str) -> dict[bytes, int]:
        """Return the thresholds of the traces that were kept by one, under a condition on the trace id."""
        return dict(
            self.reader.query(
                f"SELECT trace_id, threshold FROM thinned_traces WHERE threshold > 0 AND {condition}"
                f" AND arrived IN (SELECT day FROM thinned_days FINAL WHERE state = '{THINNED}')"
            )
        )

    def root_start(self, trace: TraceRow) -> int | None:
        """Return the start of a trace's ended root."""
        assert trace.root_span_id is not None
        rows = self.reader.query(
            f"SELECT min(start_ns) FROM spans WHERE trace_id = {write_id(trace.trace_id)}"
            f" AND span_id = {write_id(trace.root_span_id)} AND parent_id = toFixedString('', 8)"
            " HAVING count() > 0"
        )
        return int(rows[0][0]) if rows else None

    def count_spans(self, trace_ids: Collection[bytes]) -> dict[bytes, SpanCounts]:
        """Return the numbers of the ended spans of traces, without those that have none."""
        if not trace_ids:
            return {}
        # Ids are compared here: a query that compares them takes longer to plan than these to send.
        rows = self.reader.query(
            f"SELECT s.trace_id, countIf(s.status = {UNFINISHED}), groupArray(s.span_id),"
            f" groupArray({self.parent})"
            f" {self.write_spans(f'trace_id IN {write_ids(trace_ids)}')} GROUP BY s.trace_id"
        )
        counts = {}
        for trace_id, unfinished, spans, parents in rows:
            known = {*spans}
            below = [parent for parent in parents if any(parent)]
            orphans = sum(parent not in known for parent in below)
            counts[trace_id] = SpanCounts(
                len(spans), len(known), len(parents) - len(below), unfinished, orphans
            )
        return counts

    @property
    def parent(self) -> str:
        """Parent of a span of `write_spans`."""
        is_joined = self.corrections().adopted_spans
        return "if(a.found, a.parent_id, s.parent_id)" if is_joined else "s.parent_id"

    def write_spans(self, condition: str, more: str = "") -> str:
        """Return the source of spans as ``s``, with the parents that some got after they were stored.

        Args:
            condition: on the trace id alone.
            more: further conditions on the columns of ``spans``.
        """
        corrections = self.corrections()
        counting = but_duplicates(condition) if corrections.duplicates else ""
        if not corrections.adopted_spans:
            return f"FROM spans AS s WHERE {condition}{more}{counting}"
        return (
            f"FROM (SELECT * FROM spans WHERE {condition}{more}{counting}) AS s LEFT ANY JOIN"
            " (SELECT trace_id, span_id, instance, parent_id, 1 AS found FROM adopted_spans FINAL"
            f" WHERE {condition}) AS a"
            " ON a.trace_id = s.trace_id AND a.span_id = s.span_id AND a.instance = s.instance"
        )

    def refused_spans(self, trace_id: bytes) -> dict[bytes, str]:
        """Return the reasons by the ids of a trace's refused spans."""
        query = "SELECT span_id, reason FROM refused_spans FINAL WHERE trace_id = {} ORDER BY id"
        return dict(self.reader.query(query.format(write_id(trace_id))))

    def clock_cells(self, host: str, other: str, cell: int, most: int) -> Iterator[Cell]:
        """Yield the bounds of two hosts' clocks nearest to a time: so many up to it, and so many after."""
        for comparison, order in (("<=", "DESC"), (">", "ASC")):
            yield from self.reader.rows(
                Cell,
                "FROM clock_bounds WHERE host = {host:String} AND other_host = {other:String}"
                f" AND cell {comparison} {cell} GROUP BY cell ORDER BY cell {order} LIMIT {most}",
                {"host": host, "other": other},
                low_at_ns="max(low).2",
                low_ns="max(low).1",
                high_at_ns="min(high).2",
                high_ns="min(high).1",
                calls="sum(calls)",
            )

    def part_counts(
        self, since_ns: int, until_ns: int, width_ns: int, methods: Collection[int] | None
    ) -> list[PartRow]:
        """Return the traces that began in each part of a stretch of time, by their roots' methods."""
        conditions = [f"start_ns >= {since_ns}", f"start_ns < {until_ns}"]
        if methods is not None:
            conditions.append(f"root_method IN {write_numbers(methods)}")
        return self.reader.rows(
            PartRow,
            f"FROM ({MERGED} GROUP BY trace_id HAVING {' AND '.join(conditions)}) GROUP BY part",
            part=f"intDiv(start_ns - {since_ns}, {width_ns}) AS part",
            traces="count()",
            errors="countIf(errors > 0)",
        )

    def first_start(self) -> int | None:
        """Return the start of the first trace."""
        rows = self.reader.query("SELECT min(least(root.1, first.1)) FROM traces HAVING count() > 0")
        return int(rows[0][0]) if rows else None


def _merge(
    trace_id: bytes,
    root: Mapping[str, Any],
    first: Mapping[str, Any],
    end_ns: int,
    spans: int,
    errors: int,
    methods: list[int],
) -> Merged:
    """Return a trace as `ztrace_collector.clickhouse.merging` does."""
    root_start_ns, root_span_id, root_duration_ns, root_method = root.values()
    rooted = root_start_ns < NEVER
    start_ns, method = (root_start_ns, root_method) if rooted else first.values()
    end_ns = max(end_ns, start_ns)
    return Merged(
        trace_id,
        root_span_id if rooted else None,
        method,
        start_ns,
        end_ns,
        root_duration_ns if rooted else end_ns - start_ns,
        spans,
        errors,
        methods,
    )
