"""Origins of exceptions in HTTP responses, through the hooks of OpenTelemetry's instrumentations.

One idea: an HTTP error is the end of an exception at the server and the start of another at the client. The
server's response names the origin in one header; the client marks its span, and the exception that
``raise_for_status`` raises, with that origin. The header holds ids only, and only goes to a client that has
sent its trace context. A client accepts only origins in its own trace.

The origin is the latest that has come up through the request's span: of an exception that is being handled or
was handled by the application or its framework, or of an HTTP error of a service further down. Without any, a
server error is the failure of the request's span itself, which also records the exception that a framework
hands over after its response.
"""

import re
import sys
from collections import deque
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.context.context import Context
from opentelemetry.trace import StatusCode

from ztrace import diagnostics
from ztrace.context import ForeignSpan, LocalContext, find_current, outward
from ztrace.exceptions import origins
from ztrace.otel.context import HOW, ORIGIN_SPAN_ID, ORIGIN_TRACE_ID
from ztrace.records import PASSED

#: Response header with the trace id and span id of an exception's origin, and its form.
HEADER = "ztrace"
_ORIGIN = re.compile(r"o=([0-9a-f]{32})-([0-9a-f]{16})\Z")

#: Lowest HTTP status that is an error.
_ERROR = 400
#: Attributes with the status, by the present conventions and by those of before.
_STATUS = ("http.response.status_code", "http.status_code")

#: Origins in the latest responses to requests of this process, with the ids of the spans around each request.
_lately: deque[tuple[set[bytes], tuple[bytes, bytes]]] = deque(maxlen=1000)


def find_origin(context: Context | None = None, failed: bool = False) -> str | None:
    """Return the header for the latest failure that came up through the request's span.

    Args:
        context: of the request; by default the current one.
        failed: whether the response is a server error; otherwise the span's status says so.
    """
    span = _find_request(context)
    if span is None:
        return None
    if 0 < _find_status(span) < _ERROR:
        return None
    ids = span.get_span_context()
    span_id = ids.span_id.to_bytes(8)
    handled = sys.exception()
    origin = None if handled is None else origins.origin_of(handled)
    if origin is None:
        origin = origins.find_passed(span_id) or _find_answered(span_id)
    if origin is None:
        status = getattr(span, "status", None)
        if not failed and (status is None or status.status_code is not StatusCode.ERROR):
            return None
        origin = ids.trace_id.to_bytes(16), span_id
    return write_origin(origin)


def _find_status(span: trace.Span) -> int:
    """Return the HTTP status in a span's attributes, 0 if the instrumentation has set none yet."""
    attributes = getattr(span, "attributes", None) or {}
    status = next((attributes[name] for name in _STATUS if name in attributes), 0)
    return status if type(status) is int else 0


def write_origin(origin: tuple[bytes, bytes]) -> str:
    """Return the header of an origin."""
    return f"o={origin[0].hex()}-{origin[1].hex()}"


def _find_request(context: Context | None) -> trace.Span | None:
    """Return the span with a remote parent that is current, or around the current spans."""
    span: object = trace.get_current_span(context)
    current = find_current()
    while True:
        parent = getattr(span, "parent", None)  # An attribute of the SDK's spans.
        if parent is not None and parent.is_remote:
            return span if isinstance(span, trace.Span) else None
        if not isinstance(current, LocalContext):
            return None
        span = current.source if isinstance(current, ForeignSpan) else None
        current = outward(current)


def _find_answered(span_id: bytes) -> tuple[bytes, bytes] | None:
    """Return the origin in the latest HTTP error that a request within a span has got."""
    return next((origin for around, origin in reversed(_lately) if span_id in around), None)


def read_origin(headers: Mapping[str, Any] | None, trace_id: bytes | None) -> tuple[bytes, bytes] | None:
    """Return the origin in a response's headers, None unless there is one in the given trace."""
    text = None if headers is None else headers.get(HEADER)
    match = _ORIGIN.match(text) if type(text) is str else None
    if match is None:
        return None
    origin = bytes.fromhex(match[1]), bytes.fromhex(match[2])
    return origin if trace_id is None or origin[0] == trace_id else None


def take_response(span: trace.Span, status: int, headers: Mapping[str, Any] | None) -> None:
    """Record in a client's span that an HTTP error ends an exception with an origin further down."""
    try:
        if status < _ERROR or not span.is_recording():
            return
        origin = read_origin(headers, span.get_span_context().trace_id.to_bytes(16))
        if origin is not None:
            _lately.append((origins.find_ancestors(find_current()), origin))
            span.add_event("exception", {"exception.type": f"HTTP {status}", "exception.message": ""})
            span.set_attributes(
                {HOW: PASSED, ORIGIN_TRACE_ID: origin[0].hex(), ORIGIN_SPAN_ID: origin[1].hex()}
            )
    except Exception:
        diagnostics.contain("otel_answer")
