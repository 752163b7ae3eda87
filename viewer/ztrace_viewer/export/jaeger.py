"""OTLP to Jaeger's JSON, the format of Jaeger's page and query API.

One idea: a span is converted as Jaeger's collector converts the same OTLP span, tag by tag, so Jaeger's page
shows the same. This format has no nanoseconds, no lists and no attributes of links. A file has them in tags
whose names begin with ``ztrace.``, from which `jaeger_reading` restores the same OTLP span.
"""

import base64
import json
import math
from collections.abc import Iterable, Iterator, Sequence

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from ztrace.records import KIND_NAMES
from ztrace_collector.otlp.mapping.json_form import format_request
from ztrace_viewer.export.circles import open_circles
from ztrace_viewer.export.jaeger_fields import (
    CHILD_OF,
    DESCRIPTION_TAG,
    END_TAG,
    ERROR_TAG,
    EVENT_FIELD,
    FOLLOWS_FROM,
    KIND_TAG,
    OTLP_TAG,
    PARENT_TAG,
    RESERVED_FIELDS,
    RESERVED_PROCESS_TAGS,
    RESERVED_TAGS,
    SCOPE_TAG,
    SCOPE_VERSION_TAG,
    SERVICE_ATTRIBUTE,
    START_TAG,
    STATUS_NAMES,
    STATUS_TAG,
    TIME_FIELD,
    TRACE_STATE_TAG,
    UNKNOWN_SERVICE,
    JaegerSpan,
    Log,
    Process,
    Reference,
    Tag,
    Trace,
)

#: Largest integer that is exact in a browser; Jaeger writes larger ones as text.
_MAX_SAFE_INTEGER = (1 << 53) - 1
_SCALARS = frozenset({"string_value", "bool_value", "int_value", "double_value", "bytes_value"})


def make_traces(requests: Iterable[ExportTraceServiceRequest], *, exact: bool = False) -> list[Trace]:
    """Return the traces of some requests, in the order in which they first occur.

    Args:
        requests: spans of any traces.
        exact: add tags with what Jaeger's fields cannot hold, as for a file that is to be imported again.
    """
    by_trace: dict[str, tuple[TraceParts, list[JaegerSpan]]] = {}
    for request in requests:
        for resource_spans in request.resource_spans:
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    parts, spans = by_trace.setdefault(span.trace_id.hex(), (TraceParts(exact=exact), []))
                    spans.append(parts.make_span(resource_spans, scope_spans, span))
    return [
        {"traceID": trace_id, "spans": spans, "processes": parts.processes, "warnings": None}
        for trace_id, (parts, spans) in by_trace.items()
    ]


class TraceParts:
    """Converter of one trace, span by span.

    Attributes:
        processes: processes of the spans converted so far.
    """

    def __init__(self, *, exact: bool) -> None:
        self.processes: dict[str, Process] = {}
        self._exact = exact
        self._keys: dict[bytes, str] = {}

    def make_spans(self, request: ExportTraceServiceRequest) -> Iterator[JaegerSpan]:
        """Yield the spans of a request, which are all of this trace; circles of parents are opened."""
        removed = open_circles(request)
        for resource_spans in request.resource_spans:
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    made = self.make_span(resource_spans, scope_spans, span)
                    if span.span_id in removed and not span.parent_span_id:
                        made["tags"].append(_text(PARENT_TAG, removed[span.span_id].hex()))
                    yield made

    def make_span(self, resource_spans: ResourceSpans, scope_spans: ScopeSpans, span: Span) -> JaegerSpan:
        """Return a span, and add its process to those of the trace."""
        trace_id = span.trace_id.hex()
        duration_ns = max(0, span.end_time_unix_nano - span.start_time_unix_nano)
        tags = _make_tags(scope_spans.scope, span)
        if self._exact:
            tags += _keep_exact(scope_spans, span, duration_ns)
        made: JaegerSpan = {
            "traceID": trace_id,
            "spanID": span.span_id.hex(),
            "operationName": span.name,
            "references": _make_references(trace_id, span),
            "startTime": span.start_time_unix_nano // 1000,
            "duration": duration_ns // 1000,
            "tags": tags,
            "logs": [_make_log(event, exact=self._exact) for event in span.events],
            "processID": self._number_process(resource_spans.resource),
            "warnings": None,
        }
        if span.flags:
            made["flags"] = span.flags
        return made

    def _number_process(self, resource: Resource) -> str:
        packed = resource.SerializeToString(deterministic=True)
        key = self._keys.get(packed)
        if key is None:
            key = self._keys[packed] = f"p{len(self._keys) + 1}"
            self.processes[key] = _make_process(resource, exact=self._exact)
        return key


def _make_tags(scope: InstrumentationScope, span: Span) -> list[Tag]:
    tags = []
    if scope.name:
        tags.append(_text(SCOPE_TAG, scope.name))
    if scope.version:
        tags.append(_text(SCOPE_VERSION_TAG, scope.version))
    tags += map(_make_tag, span.attributes)
    if span.kind in KIND_NAMES:
        tags.append(_text(KIND_TAG, KIND_NAMES[span.kind]))
    if span.status.code in STATUS_NAMES:
        tags.append(_text(STATUS_TAG, STATUS_NAMES[span.status.code]))
    if span.status.code == Status.STATUS_CODE_ERROR:
        tags.append({"key": ERROR_TAG, "type": "bool", "value": True})
    if span.status.message:
        tags.append(_text(DESCRIPTION_TAG, span.status.message))
    if span.trace_state:
        tags.append(_text(TRACE_STATE_TAG, span.trace_state))
    return tags


def _make_references(trace_id: str, span: Span) -> list[Reference]:
    references: list[Reference] = []
    if span.parent_span_id:
        references.append({"refType": CHILD_OF, "traceID": trace_id, "spanID": span.parent_span_id.hex()})
    for link in span.links:
        to: Reference = {
            "refType": FOLLOWS_FROM,
            "traceID": link.trace_id.hex(),
            "spanID": link.span_id.hex(),
        }
        references.append(to)
    return references


def _make_log(event: Span.Event, *, exact: bool) -> Log:
    fields = []
    if event.name and not any(attribute.key == EVENT_FIELD for attribute in event.attributes):
        fields.append(_text(EVENT_FIELD, event.name))
    fields += map(_make_tag, event.attributes)
    if exact and event.time_unix_nano % 1000:
        fields.append(_whole(TIME_FIELD, event.time_unix_nano))
    return {"timestamp": event.time_unix_nano // 1000, "fields": fields}


def _make_process(resource: Resource, *, exact: bool) -> Process:
    service = UNKNOWN_SERVICE
    tags = []
    for attribute in resource.attributes:
        if attribute.key == SERVICE_ATTRIBUTE:
            service = str(_make_tag(attribute)["value"])
        else:
            tags.append(_make_tag(attribute))
    if exact and not _is_process_carried(resource, service):
        tags.append(_text(OTLP_TAG, _format(ResourceSpans(resource=resource))))
    return {"serviceName": service, "tags": tags}


def _make_tag(attribute: KeyValue) -> Tag:
    key, value = attribute.key, attribute.value
    match value.WhichOneof("value"):
        case "string_value":
            return _text(key, value.string_value)
        case "bool_value":
            return {"key": key, "type": "bool", "value": value.bool_value}
        case "int_value":
            return _whole(key, value.int_value)
        case "double_value":
            return {"key": key, "type": "float64", "value": _plain_double(value.double_value)}
        case "bytes_value":
            return {"key": key, "type": "binary", "value": _base64(value.bytes_value)}
        case None:
            return _text(key, "")
    text = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return _text(key, text)


def _text(key: str, value: str) -> Tag:
    return {"key": key, "type": "string", "value": value}


def _whole(key: str, value: int) -> Tag:
    safe = -_MAX_SAFE_INTEGER <= value <= _MAX_SAFE_INTEGER
    return {"key": key, "type": "int64", "value": value if safe else str(value)}


def _plain(value: AnyValue) -> object:
    """Return a value as plain JSON, as far as JSON can hold it."""
    match value.WhichOneof("value"):
        case "array_value":
            return [_plain(each) for each in value.array_value.values]
        case "kvlist_value":
            return {each.key: _plain(each.value) for each in value.kvlist_value.values}
        case "bytes_value":
            return _base64(value.bytes_value)
        case "double_value":
            return _plain_double(value.double_value)
        case None:
            return None
        case kind:
            return getattr(value, kind)


def _plain_double(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _keep_exact(scope_spans: ScopeSpans, span: Span, duration_ns: int) -> list[Tag]:
    """Return tags with what Jaeger's fields cannot hold."""
    if not _is_carried(scope_spans, span):
        kept = ScopeSpans(scope=scope_spans.scope, schema_url=scope_spans.schema_url, spans=[span])
        return [_text(OTLP_TAG, _format(ResourceSpans(scope_spans=[kept])))]
    start_ns, end_ns = span.start_time_unix_nano, span.end_time_unix_nano
    tags = []
    if start_ns % 1000:
        tags.append(_whole(START_TAG, start_ns))
    if end_ns != (start_ns // 1000 + duration_ns // 1000) * 1000:
        tags.append(_whole(END_TAG, end_ns))
    return tags


def _format(resource_spans: ResourceSpans) -> str:
    return format_request(ExportTraceServiceRequest(resource_spans=[resource_spans]))


def _is_carried(scope_spans: ScopeSpans, span: Span) -> bool:
    """Return whether Jaeger's fields can hold everything but the exact times."""
    return (
        not (scope_spans.schema_url or scope_spans.scope.attributes)
        and not (span.dropped_attributes_count or span.dropped_events_count or span.dropped_links_count)
        and _are_carried(span.attributes, RESERVED_TAGS)
        and (span.status.code in STATUS_NAMES or span.status.code == Status.STATUS_CODE_UNSET)
        and all(
            not event.dropped_attributes_count and _are_carried(event.attributes, RESERVED_FIELDS)
            for event in span.events
        )
        and not any(
            link.attributes
            or link.trace_state
            or link.flags
            or link.dropped_attributes_count
            # Without a parent, a link within the trace would be read as the parent.
            or (not span.parent_span_id and link.trace_id == span.trace_id)
            for link in span.links
        )
    )


def _is_process_carried(resource: Resource, service: str) -> bool:
    named = [attribute for attribute in resource.attributes if attribute.key == SERVICE_ATTRIBUTE]
    return (
        len(named) == 1
        and named[0].value.string_value == service != ""
        and not resource.dropped_attributes_count
        and _are_carried(resource.attributes, RESERVED_PROCESS_TAGS)
    )


def _are_carried(attributes: Sequence[KeyValue], reserved: frozenset[str]) -> bool:
    keys = {attribute.key for attribute in attributes}
    return (
        len(keys) == len(attributes)
        and keys.isdisjoint(reserved)
        and all(attribute.value.WhichOneof("value") in _SCALARS for attribute in attributes)
    )
