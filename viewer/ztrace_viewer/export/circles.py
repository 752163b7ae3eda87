"""Circles of parents, opened for Jaeger's page, which draws nothing that has no root.

One idea: the span that is the root in ``ztrace show`` loses its parent in the answer or the exported file.
"""

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ztrace_viewer.trees.arrangement import break_circles


def open_circles(request: ExportTraceServiceRequest) -> dict[bytes, bytes]:
    """Remove the parent of the earliest span of each circle in one trace.

    Returns:
        The parents that were removed, by the id of the span.
    """
    spans = [
        span
        for resource_spans in request.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]
    spans.sort(key=lambda span: span.start_time_unix_nano)
    positions: dict[bytes, int] = {}
    for position, span in enumerate(spans):
        positions.setdefault(span.span_id, position)
    opened = [
        spans[position] for position in break_circles([positions.get(span.parent_span_id) for span in spans])
    ]
    removed = {span.span_id: span.parent_span_id for span in opened}
    for span in opened:
        span.parent_span_id = b""
    return removed
