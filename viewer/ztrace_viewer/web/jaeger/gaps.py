"""Warnings of spans, by which Jaeger's page shows that a trace is incomplete."""

from collections.abc import Iterable, Mapping

from ztrace_collector.otlp.mapping.conventions import UNFINISHED
from ztrace_viewer.export.jaeger_fields import CHILD_OF, JaegerSpan, Trace


def add_warnings(traces: Iterable[Trace], opened: Mapping[str, set[str]]) -> list[Trace]:
    """Add warnings to spans without a stored parent or without an end, and return the traces.

    Args:
        traces: the traces, which are changed.
        opened: ids of spans by trace whose parent was removed, as it formed a circle.
    """
    return [_add(trace, opened.get(trace["traceID"], set())) for trace in traces]


def _add(trace: Trace, opened: set[str]) -> Trace:
    there = {span["spanID"] for span in trace["spans"]}
    for span in trace["spans"]:
        found = [*_find_gaps(span, trace["traceID"], there)]
        if span["spanID"] in opened:
            found.append("its parents form a circle, so it is shown as a root")
        if found:
            span["warnings"] = found
    return trace


def _find_gaps(span: JaegerSpan, trace_id: str, there: set[str]) -> Iterable[str]:
    for reference in span["references"]:
        of_trace = reference["refType"] == CHILD_OF and reference["traceID"] == trace_id
        if of_trace and reference["spanID"] not in there:
            yield f"its parent {reference['spanID']} is not stored; 'ztrace show {trace_id}' shows the reason"
    if any(tag["key"] == UNFINISHED for tag in span["tags"]):
        yield f"it has not ended; 'ztrace show {trace_id}' shows its state"
