"""Summaries of traces, which Jaeger's page lists.

One idea: ``traces`` has the totals of a trace but not those of each service, so spans are counted, for the
traces of one response only.
"""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

from ztrace_viewer.queries.stores.answers import Candidate, Method
from ztrace_viewer.queries.stores.matching import ServiceCounts
from ztrace_viewer.queries.stores.store import Store


class ServiceSummary(TypedDict):
    """A service's part in a trace; version 3 omits zeros."""

    name: str
    spanCount: int
    errorSpanCount: NotRequired[int]


class TraceSummary(TypedDict):
    """A trace in a list; times are strings, since they exceed a browser's exact integers."""

    traceId: str
    rootServiceName: NotRequired[str]
    rootOperationName: NotRequired[str]
    minStartTimeUnixNano: str
    maxEndTimeUnixNano: str
    spanCount: int
    errorSpanCount: NotRequired[int]
    orphanSpanCount: NotRequired[int]
    services: list[ServiceSummary]


def summarise(store: Store, traces: Sequence[Candidate]) -> list[TraceSummary]:
    """Return the summaries of some traces, in their order."""
    methods = store.methods()
    counts = store.count_by_service([trace.trace_id for trace in traces])
    return [_summarise(trace, methods[trace.root_method], counts.get(trace.trace_id, [])) for trace in traces]


def _summarise(trace: Candidate, root: Method, counts: Sequence[ServiceCounts]) -> TraceSummary:
    summary: TraceSummary = {
        "traceId": trace.trace_id.hex(),
        "minStartTimeUnixNano": str(trace.start_ns),
        "maxEndTimeUnixNano": str(trace.end_ns),
        "spanCount": sum(each.spans for each in counts),
        "services": [_make_service(each) for each in counts],
    }
    if trace.root_span_id is not None:
        summary["rootServiceName"] = root.service
        summary["rootOperationName"] = root.name
    if errors := sum(each.errors for each in counts):
        summary["errorSpanCount"] = errors
    if orphans := sum(each.orphans for each in counts):
        summary["orphanSpanCount"] = orphans
    return summary


def _make_service(counts: ServiceCounts) -> ServiceSummary:
    made: ServiceSummary = {"name": counts.service, "spanCount": counts.spans}
    if counts.errors:
        made["errorSpanCount"] = counts.errors
    return made
