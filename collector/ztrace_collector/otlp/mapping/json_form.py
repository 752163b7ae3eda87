"""OTLP as JSON, both ways: what is sent with ``application/json``, and a line of a file of OTLP JSON lines.

One idea: it is protobuf's own JSON but for the ids, which are hex and not base64. So protobuf's `json_format`
does it, and here only the ids are changed, in the four places where there are any.

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

#: The ids of a span and of a link, as senders may spell the fields: protobuf takes both.
_OF_SPAN = ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id")
_OF_LINK = ("traceId", "spanId", "trace_id", "span_id")
#: What stands for an id that is not hex: a byte, which is no id either, so that the one span is refused.
_NO_ID = base64.b64encode(b"?").decode()

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def parse_request(text: bytes | str) -> ExportTraceServiceRequest:
    """Return the request, which is a line of a file of OTLP JSON as well.

    Raises:
        OtlpError: it is not OTLP JSON.
    """
    request = ExportTraceServiceRequest()
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _not_otlp(error) from None
    if type(content) is not dict:
        raise _not_otlp(ValueError("it has to be an object"))  # A list would parse as an empty message.
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
    """Return what JSON has of a request, before it is text."""
    content: dict[str, Any] = json_format.MessageToDict(request, use_integers_for_enums=True)
    _change_ids(content, _to_hex)
    return content


def _change_ids(content: Any, change: Callable[[Any], str]) -> None:
    for resource in _items(content, "resourceSpans", "resource_spans"):
        for scope in _items(resource, "scopeSpans", "scope_spans"):
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
    return OtlpError(f"the body is no OTLP JSON: {first_line[:200]}")
