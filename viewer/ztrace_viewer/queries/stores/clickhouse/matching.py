"""Questions of Jaeger's API in ClickHouse; those about whole spans are in `exporting`."""

from collections.abc import Collection, Sequence

from ztrace.records import ERROR
from ztrace_collector.layout import RESOLUTIONS_S
from ztrace_viewer.queries.stores.clickhouse.exporting import Exporting
from ztrace_viewer.queries.stores.clickhouse.reading import or_none, write_ids, write_numbers
from ztrace_viewer.queries.stores.clickhouse.searching import write_filter
from ztrace_viewer.queries.stores.conditions import SpanFilter
from ztrace_viewer.queries.stores.matching import CallRow, ServiceCounts


class Matching(Exporting):
    """Answers of Jaeger's API."""

    def matching_traces(self, trace_ids: Sequence[bytes], matching: SpanFilter) -> set[bytes]:
        """Return those of some traces that have a span which a filter lets through."""
        values: dict[str, object] = {}
        where = f"trace_id IN {write_ids(trace_ids)}{write_filter(matching, values)}"
        rows = self.reader.query(f"SELECT DISTINCT trace_id FROM spans WHERE {where}", values)
        return {trace_id for (trace_id,) in rows}

    def minutes_of(self, methods: Collection[int], first: int) -> list[int]:
        """Return the minutes since the first in which a call of any of the methods ended, in order."""
        rows = self.reader.query(
            f"SELECT DISTINCT bucket FROM method_figures WHERE resolution_s = {RESOLUTIONS_S[0]}"
            f" AND bucket >= {first} AND method IN {write_numbers(methods)} ORDER BY bucket"
        )
        return [minute for (minute,) in rows]

    def count_by_service(self, trace_ids: Sequence[bytes]) -> dict[bytes, list[ServiceCounts]]:
        """Return the counts of each service in traces, by its name."""
        if not trace_ids:
            return {}
        own = f"trace_id IN {write_ids(trace_ids)}"
        orphans = "parent != toFixedString('', 8) AND NOT has(ids, parent)"
        rows = self.reader.query(
            f"SELECT trace_id, method, count(), countIf(status = {ERROR}), countIf({orphans}) FROM"
            " (SELECT s.trace_id AS trace_id, s.method AS method, s.status AS status,"
            f" {self.parent} AS parent {self.write_spans(own)}) AS each"
            f" INNER JOIN (SELECT trace_id, groupUniqArray(span_id) AS ids FROM spans WHERE {own}"
            " GROUP BY trace_id) AS known USING trace_id GROUP BY trace_id, method"
        )
        known = self.named({row[1] for row in rows})
        counts: dict[bytes, dict[str, ServiceCounts]] = {}
        for trace_id, method, *numbers in rows:
            if method in known:
                service = known[method].service
                services = counts.setdefault(trace_id, {})
                before = services.get(service, ServiceCounts(service, 0, 0, 0))
                sums = (one + other for one, other in zip(before[1:], numbers, strict=True))
                services[service] = ServiceCounts(service, *sums)
        return {
            trace_id: [services[service] for service in sorted(services)]
            for trace_id, services in counts.items()
        }

    def call_rows(self, trace_ids: Sequence[bytes], most: int) -> list[CallRow]:
        """Return the ended spans of some traces as calls, at most so many."""
        if not trace_ids:
            return []
        own = self.write_spans(f"trace_id IN {write_ids(trace_ids)}")
        rows = self.reader.query(f"SELECT s.trace_id, s.span_id, {self.parent}, s.method {own} LIMIT {most}")
        known = self.named({row[3] for row in rows})
        return [
            CallRow(trace_id, span_id, or_none(parent_id), method)
            for trace_id, span_id, parent_id, method in rows
            if method in known
        ]
