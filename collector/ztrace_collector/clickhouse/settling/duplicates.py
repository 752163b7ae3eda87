"""Spans that are in several journals, since their publisher moved before it heard that they were stored.

One idea: such a span has the same ids and the same process in each journal. The row of the journal where it
arrived first counts. Rows are only ever added, so one that does not count never will, and it can be taken
from the sums at once.
"""

from collections.abc import Sequence

from ztrace_collector.clickhouse.settling.trees import StoredSpan


def tell_duplicates(spans: Sequence[StoredSpan]) -> tuple[list[StoredSpan], list[StoredSpan]]:
    """Return the spans of a tree that count, and the rows of them in other journals."""
    if len({span.journal for span in spans}) < 2:
        return list(spans), []
    first: dict[tuple[bytes, int], StoredSpan] = {}
    for span in spans:
        key = span.row.span_id, span.row.instance
        other = first.get(key)
        if other is None or (span.arrived_ms, span.journal) < (other.arrived_ms, other.journal):
            first[key] = span
    if len(first) == len(spans):
        return list(spans), []
    kept, duplicates = list[StoredSpan](), list[StoredSpan]()
    for span in spans:
        is_first = span.journal == first[span.row.span_id, span.row.instance].journal
        (kept if is_first else duplicates).append(span)
    return kept, duplicates


def make_duplicate(span: StoredSpan) -> tuple[object, ...]:
    """Return the row of ``duplicates`` of a span."""
    row = span.row
    return (
        row.trace_id.hex(),
        row.span_id.hex(),
        row.instance,
        span.journal,
        row.method,
        row.start_ns,
        row.duration_ns,
        row.self_ns,
        row.status,
        span.arrived_ms,
    )
