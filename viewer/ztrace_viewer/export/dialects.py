"""Formats of JSON values with spans: OTLP, Jaeger's and Zipkin's, recognized by the names of their fields.

One idea: a value that has no spans is not an error of its file, which may mix signals. It is counted by its
kind, and only a file without any span is refused.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ztrace.errors import OtlpError, quote
from ztrace_collector.otlp.mapping.json_form import REQUEST_FIELDS, read_request
from ztrace_collector.refusals import Note
from ztrace_viewer.export import zipkin_reading
from ztrace_viewer.export.jaeger_reading import read_trace

#: OTLP's fields of other signals, by the name of the signal.
_SIGNALS = {
    "logs": ("resourceLogs", "resource_logs"),
    "metrics": ("resourceMetrics", "resource_metrics"),
    "profiles": ("resourceProfiles", "resource_profiles"),
}
#: Fields by which formats that are not read are recognized, and what to do about them.
_OTHERS = {
    "traceEvents": "is Chrome's trace format, without ids of spans; export the trace as OTLP or Jaeger's",
    "binaryAnnotations": "is Zipkin's JSON of version 1; export it as version 2, from /api/v2/traces",
    "hits": "is an answer of Elasticsearch; download the trace from Jaeger's page",
    "$schema": "is speedscope's format, which has no spans; export the trace as OTLP or Jaeger's",
}


class NoSpans(ValueError):
    """Value without spans of a format that is read.

    Attributes:
        kind: word under which it is counted.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def read_content(content: Any, note: Note) -> Iterator[ExportTraceServiceRequest]:
    """Yield the spans of a JSON value of any of the formats as requests.

    Args:
        content: the value, as parsed by `json`, which is changed.
        note: counts spans that cannot be read, and values that are corrected.

    Raises:
        NoSpans: the value, or an element of it, has no spans; earlier elements may have been yielded.
    """
    if isinstance(content, list):
        if zipkin_reading.is_trace(content):
            yield zipkin_reading.read_trace(content, note)
        else:
            for element in content:
                yield from read_content(element, note)
    elif not isinstance(content, dict):
        raise NoSpans("other", "is neither OTLP nor Jaeger's or Zipkin's JSON")
    elif any(name in content for name in REQUEST_FIELDS):
        try:
            yield read_request(content, note)
        except OtlpError as error:
            raise NoSpans("unreadable", str(error)) from None
    else:
        yield from _read_other(content, note)


def _read_other(content: dict[str, Any], note: Note) -> Iterator[ExportTraceServiceRequest]:
    if isinstance(content.get("data"), list):
        for element in content["data"]:
            yield read_trace(element, note)
    elif "spans" in content:
        yield read_trace(content, note)
    elif isinstance(content.get("result"), dict):
        # The third version of Jaeger's query API.
        yield from read_content(content["result"], note)
    elif isinstance(content.get("trace"), dict):
        # The second version of Tempo's.
        yield from read_content(content["trace"], note)
    elif zipkin_reading.is_span(content):
        yield zipkin_reading.read_trace([content], note)
    else:
        raise _explain(content)


def _explain(content: Mapping[str, Any]) -> NoSpans:
    for signal, names in _SIGNALS.items():
        if any(field in content for field in names):
            return NoSpans(signal, f"has {signal}, and no spans")
    if isinstance(content.get("errors"), list) and content["errors"]:
        return NoSpans(
            "other", f"is an error of Jaeger's, {quote(content['errors'][0])}; download the trace again"
        )
    for field, what in _OTHERS.items():
        if field in content:
            return NoSpans("other", what)
    fields = ", ".join(quote(key)[1:-1] for key in sorted(content)[:5])
    return NoSpans("other", f"has no spans of OTLP, of Jaeger's or of Zipkin's; it has {fields or 'nothing'}")
