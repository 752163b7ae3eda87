"""Zipkin's JSON of version 2 to OTLP.

One idea: a span's client and server may share one id, which OTLP does not allow. The server's half has an id
derived from it, is a child of the client's, and is the parent of what its service called.

Source: https://zipkin.io/zipkin-api/, and https://opentelemetry.io/docs/specs/otel/trace/sdk_exporters/zipkin/.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span, Status

from ztrace_collector.refusals import ATTRIBUTES, DETAILS, FIELDS, Note
from ztrace_viewer.export.foreign_values import (
    NO_ID,
    NO_TIME_NS,
    SPAN_DIGITS,
    TRACE_DIGITS,
    Values,
    read_id,
    read_time,
)

_KINDS = {
    "CLIENT": Span.SPAN_KIND_CLIENT,
    "SERVER": Span.SPAN_KIND_SERVER,
    "PRODUCER": Span.SPAN_KIND_PRODUCER,
    "CONSUMER": Span.SPAN_KIND_CONSUMER,
}
#: Tag of a span that has failed, with the message.
_ERROR_TAG = "error"
_UNKNOWN_SERVICE = "unknown_service"
#: Fields of an endpoint with addresses, in the order of preference.
_ADDRESSES = ("ipv4", "ipv6")


def is_span(content: Any) -> bool:
    """Return whether a value looks like a span of Zipkin's second version."""
    return (
        isinstance(content, dict)
        and {"traceId", "id"} <= content.keys()
        and "binaryAnnotations" not in content
    )


def is_trace(content: Sequence[Any]) -> bool:
    """Return whether a list has spans of Zipkin's."""
    return any(map(is_span, content))


def read_trace(spans: Sequence[Any], note: Note) -> ExportTraceServiceRequest:
    """Return a list of spans as one request.

    Args:
        spans: the list, as parsed by `json`.
        note: counts spans that cannot be read, and values that are corrected.
    """
    values = Values(note)
    found = []
    for span in spans:
        if isinstance(span, dict):
            found.append(span)
        else:
            note(FIELDS, "a span of Zipkin's is not an object")
    halves = {_key(span, "id") for span in found if span.get("shared") is not True}
    shared = {_key(span, "id") for span in found if span.get("shared") is True} & halves
    servers = {(*_key(span, "id"), _service(span)) for span in found if span.get("shared") is True}
    by_endpoint: dict[bytes, ResourceSpans] = {}
    for span in found:
        resource = _read_resource(span, values)
        key = resource.SerializeToString(deterministic=True)
        if key not in by_endpoint:
            by_endpoint[key] = ResourceSpans(resource=resource)
            by_endpoint[key].scope_spans.add()
        made = by_endpoint[key].scope_spans[0].spans.add()
        _read_span(made, span, values)
        if span.get("shared") is True and _key(span, "id") in shared:
            made.parent_span_id, made.span_id = made.span_id, _derive(made.span_id)
        elif (*_key(span, "parentId"), _service(span)) in servers and _key(span, "parentId") in shared:
            made.parent_span_id = _derive(made.parent_span_id)
    return ExportTraceServiceRequest(resource_spans=by_endpoint.values())


def _key(span: Mapping[str, Any], name: str) -> tuple[bytes, bytes]:
    return read_id(span.get("traceId"), TRACE_DIGITS), read_id(span.get(name), SPAN_DIGITS)


def _service(span: Mapping[str, Any]) -> str:
    endpoint = span.get("localEndpoint")
    service = endpoint.get("serviceName") if isinstance(endpoint, dict) else None
    return service if isinstance(service, str) and service else _UNKNOWN_SERVICE


def _derive(span_id: bytes) -> bytes:
    return span_id if span_id == NO_ID else hashlib.blake2b(span_id + b"server", digest_size=8).digest()


def _read_resource(span: Mapping[str, Any], values: Values) -> Resource:
    resource = Resource()
    _add(resource.attributes, "service.name", values.text(_service(span)))
    endpoint = values.mapping(span.get("localEndpoint"), "localEndpoint", ATTRIBUTES)
    for name in _ADDRESSES:
        if isinstance(endpoint.get(name), str) and endpoint[name]:
            _add(resource.attributes, "host.ip", values.text(endpoint[name]))
            break
    return resource


def _read_span(made: Span, span: Mapping[str, Any], values: Values) -> None:
    made.trace_id, made.span_id = _key(span, "id")
    if span.get("parentId"):
        made.parent_span_id = read_id(span["parentId"], SPAN_DIGITS)
    made.name = values.name(span.get("name"), "name")
    kind = span.get("kind")
    made.kind = (
        _KINDS.get(kind, Span.SPAN_KIND_INTERNAL) if isinstance(kind, str) else Span.SPAN_KIND_INTERNAL
    )
    start_ns = read_time(span.get("timestamp"))
    made.start_time_unix_nano = NO_TIME_NS if start_ns is None else start_ns
    made.end_time_unix_nano = values.end_ns(start_ns, span.get("duration"))
    for key, value in values.mapping(span.get("tags"), "tags", ATTRIBUTES).items():
        if key == _ERROR_TAG:
            made.status.code = Status.STATUS_CODE_ERROR
            made.status.message = "" if value == "true" else values.plain_text(value, key)
        else:
            _add(made.attributes, values.text(key), values.plain_text(value, key))
    remote = values.mapping(span.get("remoteEndpoint"), "remoteEndpoint", ATTRIBUTES)
    for name, key in (("serviceName", "peer.service"), ("ipv4", "network.peer.address")):
        if isinstance(remote.get(name), str) and remote[name]:
            _add(made.attributes, key, values.text(remote[name]))
    if type(remote.get("port")) is int:
        made.attributes.add(key="network.peer.port").value.int_value = remote["port"] & 0xFFFF
    for annotation in values.mappings(span.get("annotations"), "annotations", DETAILS):
        at_ns = read_time(annotation.get("timestamp"))
        made.events.add(
            time_unix_nano=made.start_time_unix_nano if at_ns is None else at_ns,
            name=values.plain_text(annotation.get("value"), "annotations"),
        )


def _add(attributes: Any, key: str, value: str) -> None:
    attributes.append(KeyValue(key=key))
    attributes[-1].value.string_value = value
