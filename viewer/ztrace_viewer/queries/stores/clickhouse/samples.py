"""Trees of ClickHouse that are read span by span."""

from collections.abc import Collection, Sequence

from ztrace_collector.settling.counting import SpanRow
from ztrace_collector.tables.thresholds import weigh
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.answers import RootRow
from ztrace_viewer.queries.stores.clickhouse.reading import or_none, write_ids, write_numbers
from ztrace_viewer.queries.stores.clickhouse.stacks import Stacks


class Samples(Stacks):
    """Answers about trees that are read span by span."""

    def root_trees(self, methods: Collection[int], selection: Selection) -> list[RootRow]:
        """Return the trees of some root methods that began in a time, in any order."""
        among = write_numbers(methods)
        conditions = ["rooted", f"root_method IN {among}"]
        if selection.since_ns is not None:
            conditions.append(f"start_ns >= {selection.since_ns}")
        if selection.until_ns is not None:
            conditions.append(f"start_ns < {selection.until_ns}")
        own = f"trace_id IN (SELECT trace_id FROM roots WHERE method IN {among})"
        trees = self.merge(own, having=" AND ".join(conditions))
        thresholds = self.thresholds(own)
        return [
            RootRow(each.trace_id, each.duration_ns, weigh(thresholds.get(each.trace_id))) for each in trees
        ]

    def tree_spans(
        self, trace_ids: Sequence[bytes], most: int
    ) -> dict[bytes, list[tuple[SpanRow, str | None]]]:
        """Return the ended spans of trees as they are counted, so many of each, and their attributes."""
        found: dict[bytes, list[tuple[SpanRow, str | None]]] = {}
        if not trace_ids:
            return found
        rows = self.reader.query(
            f"SELECT s.trace_id, s.span_id, {self.parent}, s.method, s.instance, s.start_ns,"
            " s.start_ns + s.duration_ns, s.duration_ns, s.self_ns, s.status, s.lane, s.attributes"
            f" {self.write_spans(f'trace_id IN {write_ids(trace_ids)}')}"
            f" ORDER BY s.start_ns, s.span_id LIMIT {most} BY s.trace_id"
        )
        self.read_instances({row[4] for row in rows})
        for place, (trace_id, span_id, parent_id, *fields, lane, attributes) in enumerate(rows):
            span = SpanRow._make((span_id, or_none(parent_id), *fields, None, lane, place, trace_id))
            found.setdefault(trace_id, []).append((span, attributes or None))
        return found

    def host(self, instance: int) -> str | None:
        """Return the host of a process by its key, None if it is unknown."""
        process = self.read_instances({instance}).get(instance)
        return None if process is None else process.host
