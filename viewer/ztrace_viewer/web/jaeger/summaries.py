"""Traces in a few numbers, as Jaeger's page lists them.

One idea: ``traces`` has the sums of a trace, but not by service; these are counted from its spans, which are
read for the traces of one answer only.
"""

import sqlite3
from collections.abc import Sequence
from typing import NotRequired, TypedDict

from ztrace.records import ERROR
from ztrace_viewer.queries.candidates import Candidate


class ServiceSummary(TypedDict):
    """A service's part in a trace; as everywhere in version 3, what is nothing is left out."""

    name: str
    spanCount: int
    errorSpanCount: NotRequired[int]


class TraceSummary(TypedDict):
    """A trace in a list; times are texts, since a browser's numbers do not hold them."""

    traceId: str
    rootServiceName: NotRequired[str]
    rootOperationName: NotRequired[str]
    minStartTimeUnixNano: str
    maxEndTimeUnixNano: str
    spanCount: int
    errorSpanCount: NotRequired[int]
    orphanSpanCount: NotRequired[int]
    services: list[ServiceSummary]


_SERVICES = f"""
SELECT service, count(*), sum(status = {ERROR}), sum(
    parent_id IS NOT NULL AND parent_id NOT IN (SELECT span_id FROM spans WHERE trace_id = :trace))
FROM spans JOIN methods ON methods.id = method WHERE trace_id = :trace GROUP BY service ORDER BY service
"""


def summarise(db: sqlite3.Connection, traces: Sequence[Candidate]) -> list[TraceSummary]:
    """Return the summaries of some traces, in their order."""
    roots = {
        method: (service, name)
        for method, service, name in db.execute("SELECT id, service, name FROM methods")
    }
    return [_summarise(db, trace, *roots[trace.root_method]) for trace in traces]


def _summarise(db: sqlite3.Connection, trace: Candidate, service: str, name: str) -> TraceSummary:
    rows = db.execute(_SERVICES, {"trace": trace.trace_id}).fetchall()
    summary: TraceSummary = {
        "traceId": trace.trace_id.hex(),
        "minStartTimeUnixNano": str(trace.start_ns),
        "maxEndTimeUnixNano": str(trace.end_ns),
        "spanCount": sum(count for _, count, _, _ in rows),
        "services": [_count(*row[:3]) for row in rows],
    }
    if trace.root_span_id is not None:
        summary["rootServiceName"] = service
        summary["rootOperationName"] = name
    if errors := sum(count for _, _, count, _ in rows):
        summary["errorSpanCount"] = errors
    if orphans := sum(count for *_, count in rows):
        summary["orphanSpanCount"] = orphans
    return summary


def _count(service: str, spans: int, errors: int) -> ServiceSummary:
    counts: ServiceSummary = {"name": service, "spanCount": spans}
    if errors:
        counts["errorSpanCount"] = errors
    return counts
