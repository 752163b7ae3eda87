"""Monitoring of ClickHouse, where rows stay when retention deletes them from a journal."""

from ztrace_collector.layout import LOSS_COLUMNS, OPEN, PAST, STORED_SPANS
from ztrace_viewer.queries.stores.answers import FiguresRow
from ztrace_viewer.queries.stores.clickhouse.matching import Matching
from ztrace_viewer.queries.stores.monitoring import FiguresState, GroupNumber, SpanCounters


class Monitoring(Matching):
    """Answers to monitoring."""

    def figures_state(self, resolution_s: int, end: int) -> FiguresState:
        """Return the state of the figures in the buckets below the end, however its rows are merged."""
        ((rows, calls, total_ns),) = self.reader.query(
            "SELECT uniqExact(bucket, method), sum(calls), sum(total_ns) FROM method_figures"
            f" WHERE resolution_s = {resolution_s} AND bucket < {end}"
        )
        return FiguresState(int(rows), int(calls), int(total_ns), 0, 0)

    def retired_figures(self) -> list[FiguresRow]:
        """Return none: figures of all days are here."""
        return []

    def span_counters(self) -> SpanCounters:
        """Return the spans by their fate, with those of publishers that a journal has deleted."""
        columns = ["spans_created", *LOSS_COLUMNS.values()]
        sums = ", ".join(f"sum({column})" for column in columns)
        (row,) = self.reader.query(f"SELECT {sums} FROM publishers FINAL")
        totals = {
            name: int(value)
            for name, value in self.reader.query("SELECT name, sum(value) FROM totals FINAL GROUP BY name")
        }
        counters = {
            column: int(value) + totals.get(PAST + column, 0)
            for column, value in zip(columns, row, strict=True)
        }
        return SpanCounters(
            counters["spans_created"],
            sum(totals.get(name, 0) for name in STORED_SPANS),
            {reason: counters[column] for reason, column in LOSS_COLUMNS.items()},
        )

    def group_numbers(self, new_state: str, since_ns: int) -> list[GroupNumber]:
        """Return the numbers of exception groups by service and state."""
        state = f"if(state = '{OPEN}' AND first_ns >= {since_ns}, {{new:String}}, state)"
        rows = self.reader.query(
            f"SELECT service, {state} AS told, count() FROM ({self.merge_groups()}) GROUP BY service, told",
            {"new": new_state},
        )
        return [GroupNumber._make(row) for row in rows]
