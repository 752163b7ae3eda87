"""OTLP as JSON, in both directions: ``application/json``, and the lines of a file of OTLP JSON.

One idea: the format is protobuf's own JSON, but with ids in hex instead of base64. So protobuf's
`json_format` does the work, and only the ids are converted, in the four places that have them.

Source: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding.
"""

import base64
import binascii
import json
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ztrace.errors import OtlpError

#: Fields with the ids of a span and of a link, in both spellings that protobuf accepts.
_OF_SPAN = ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id")
_OF_LINK = ("traceId", "spanId", "trace_id", "span_id")
#: The lists around the spans, likewise.
_RESOURCES, _SCOPES = ("resourceSpans", "resource_spans"), ("scopeSpans", "scope_spans")
#: Placeholder for an id that is not hex: an invalid id, so that only this span is refused.
_NO_ID = base64.b64encode(b"?").decode()

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def parse_request(text: bytes | bytearray | str) -> ExportTraceServiceRequest:
    """Parse a request, as sent or as a line of a file of OTLP JSON.

    Raises:
        OtlpError: the text is not OTLP JSON.
    """
    return _to_request(_load(text))


def parse_pieces(text: bytes | bytearray | str, span_count: int) -> Iterator[ExportTraceServiceRequest]:
    """Yield a large request in pieces of so many spans, without a message of the whole.

    Raises:
        OtlpError: it is not OTLP JSON; earlier pieces may have been yielded.
    """
    content = _load(text)
    parts = [
        ({key: value for key, value in resource.items() if key not in _SCOPES}, scope, scope.pop("spans"))
        for resource in _items(content, *_RESOURCES)
        for scope in _items(resource, *_SCOPES)
        if type(scope.get("spans")) is list
    ]
    _to_request(content)  # Refused as a whole if anything around the spans is wrong.
    piece: list[dict[str, Any]] = []
    room = span_count
    for resource, scope, spans in parts:
        at = 0
        while at < len(spans):
            piece.append({**resource, "scopeSpans": [{**scope, "spans": spans[at : at + room]}]})
            taken = min(room, len(spans) - at)
            at, room = at + taken, room - taken
            if not room:
                yield _to_request({"resourceSpans": piece})
                piece, room = [], span_count
    if piece:
        yield _to_request({"resourceSpans": piece})


def _load(text: bytes | bytearray | str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _not_otlp(error) from None
    if type(content) is not dict:
        raise _not_otlp(ValueError("it has to be an object"))  # A list would parse as an empty message.
    return content


def _to_request(content: dict[str, Any]) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    _change_ids(content, _to_base64)
    try:
        json_format.ParseDict(content, request, ignore_unknown_fields=True)
    except Exception as error:  # The class depends on what is wrong where.
        raise _not_otlp(error) from None
    return request


def format_request(request: ExportTraceServiceRequest) -> str:
    """Return a request as JSON on one line, without a line end."""
    return _encode(read_content(request))


def read_content(request: ExportTraceServiceRequest) -> dict[str, Any]:
    """Return a request as JSON values."""
    content: dict[str, Any] = json_format.MessageToDict(request, use_integers_for_enums=True)
    _change_ids(content, _to_hex)
    return content


def _change_ids(content: Any, change: Callable[[Any], str]) -> None:
    for resource in _items(content, *_RESOURCES):
        for scope in _items(resource, *_SCOPES):
            for span in _items(scope, "spans"):
                for field in _OF_SPAN:
                    if span.get(field) is not None:
                        span[field] = change(span[field])
                for link in _items(span, "links"):
                    for field in _OF_LINK:
                        if link.get(field) is not None:
                            link[field] = change(link[field])


def _items(content: Any, *names: str) -> Iterator[dict[str, Any]]:
    for name in names:
        items = content.get(name) if type(content) is dict else None
        if type(items) is list:
            yield from (item for item in items if type(item) is dict)


def _to_base64(value: Any) -> str:
    try:
        return binascii.b2a_base64(binascii.a2b_hex(value), newline=False).decode()
    except (ValueError, TypeError):
        return _NO_ID


def _to_hex(value: str) -> str:
    return binascii.a2b_base64(value).hex()


def _not_otlp(error: Exception) -> OtlpError:
    first_line = (str(error) or type(error).__name__).partition("\n")[0]
    return OtlpError(f"the body is not OTLP JSON: {first_line[:200]}")
