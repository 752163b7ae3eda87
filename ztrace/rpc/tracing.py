"""Spans of calls: a client span around each call, and a server span around each served method.

Between peers of ztrace's own the trace context is 25 bytes, and the reply has the duration and the origin of
an exception as numbers and bytes. Peers of zerorpc get and send what the middleware for zerorpc does. Without
`ztrace.configure` none of this runs; the built-in methods are never traced.
"""

from typing import Any, Final

from ztrace import diagnostics, spans
from ztrace.context import SpanContext
from ztrace.exceptions import messages, origins
from ztrace.lifecycle.recovery import insist
from ztrace.middleware.kit import new_span, read_context
from ztrace.middleware.replies import reply_text, take_reply
from ztrace.propagation import parse_traceparent
from ztrace.rpc import wire
from ztrace.rpc.core.calling import Call
from ztrace.rpc.core.serving import DEADLINE, Served
from ztrace.rpc.errors import DeadlineExceeded, RemoteError
from ztrace.spans import CLIENT, INTERNAL, SERVER, Span

#: Attributes of every span here; a span that gets others copies them.
_ATTRIBUTES: Final = {"rpc.system.name": "ztrace"}
#: Bytes of a trace id, a span id and the flags.
_CONTEXT_BYTES: Final = 25
#: Bytes of a trace id and a span id.
_ORIGIN_BYTES: Final = 24
#: Ids that stand for "none".
_NO_TRACE_ID: Final = bytes(16)
_NO_SPAN_ID: Final = bytes(8)
#: Nanoseconds of the longest duration that is read: 31 years.
_MAX_NS: Final = 10**18
#: Prefixes of the methods that every server has.
_BUILT_IN: Final = ("_zerorpc_", "_zt_")
#: Reasons under which parts of messages are counted that cannot be read.
_BAD_CONTEXT: Final = "peer_context"
_BAD_REPLY: Final = "peer_reply"


def new_call(name: str) -> Span | None:
    """Create the span of a call, which the caller starts; None if calls are not traced."""
    if spans.publisher is None or (name[:1] == "_" and name.startswith(_BUILT_IN)):
        return None
    return new_span(name, CLIENT, _ATTRIBUTES)


def context_of(span: Span) -> tuple[bytes, str] | None:
    """Return the context of a call's span in the form of the wire, None if the span is not recorded."""
    flags, state = span.w3c
    trace_id = span.trace_id
    return (b"%b%b%c" % (trace_id, span.span_id, flags), state) if trace_id else None


def end_call(span: Span, call: Call, error: BaseException | None = None) -> None:
    """End the span of a call with its outcome, and take the server's duration and the error's origin.

    Args:
        span: of the call.
        call: that has ended.
        error: that is raised for it.
    """
    own = call.own
    if error is None and own is not None and span.attributes is span._given:
        # As most calls are.
        span.attributes = span._given = call.route.attributes
        duration_ns = own.get("ns")
        if type(duration_ns) is int and 0 <= duration_ns < _MAX_NS:
            span.covered_ns += duration_ns
        span.__exit__()
        return
    try:
        if call.route is not None:
            attributes = call.route.attributes
            if span.attributes is span._given:
                span.attributes = span._given = attributes
            else:
                span.set(**attributes)
        if own is not None:
            _take_own(span, own, error)
        elif call.reply is not None:
            if not take_reply(span, call.reply, error) and isinstance(error, RemoteError):  # type: ignore[arg-type]
                messages.describe_remote(error, error.type, error.text)
        elif isinstance(error, RemoteError):
            messages.describe_remote(error, error.type, error.text)
        if isinstance(error, DeadlineExceeded):
            span.set(**{"rpc.deadline_exceeded": True})
        elif error is not None and not isinstance(error, Exception):
            span.set(**{"rpc.cancelled": True})
    except Exception:
        diagnostics.contain("rpc")
    insist(span.__exit__, None, error)


def end_stream(span: Span, call: Call, error: BaseException | None, items: int) -> None:
    """End the span of a stream, with the number of items that were read."""
    attributes: dict[str, Any] = {"rpc.items": items}
    if error is None and not call.done:
        attributes["rpc.stream"] = "abandoned"
    span.set(**attributes)
    end_call(span, call, error)


def serve(call: Served, is_async: bool) -> None:
    """Start the span of a served call, in the context of its method, in which no span is current."""
    name = call.name
    if name[:1] == "_" and name.startswith(_BUILT_IN):
        return
    try:
        own, parent = call.own, None
        if own is not None and "tc" in own:
            parent = _read_own(own)
        elif "traceparent" in call.header:
            parent = read_context(call.header)
        span = new_span(name, SERVER, _ATTRIBUTES, parent)
        call.span = span
        if is_async:
            # A server span measures the time of its thread, which here works for other calls meanwhile.
            span.kind = INTERNAL
            span.start()
            span.kind = SERVER
        else:
            span.start()
    except Exception:
        diagnostics.contain("rpc")


def replied(call: Served) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Mark the moment of the answer; return ztrace's part of its header, and the part for other tracers."""
    span: Span = call.span
    if call.own is not None:
        return {"ns": span.reply()}, None
    if "traceparent" in call.header:
        return None, {wire.REPLY: reply_text(span)}
    return None, None


def end_served(call: Served, error: BaseException | None) -> None:
    """End the span of a served call: answered, failed, or cancelled for a reason."""
    span: Span = call.span
    call.span = None
    if error is None and not call.reason:
        span.__exit__()
        return
    if call.reason:
        span.set(**{"rpc.deadline_exceeded" if call.reason == DEADLINE else "rpc.cancelled": True})
    insist(span.__exit__, None, error)


def failed(
    call: Served, error: BaseException, details: dict[str, Any]
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """End the span of a served call that fails, and add the origin of the exception to its details.

    Returns:
        ztrace's part of the reply's header, and the part for other tracers.
    """
    span: Span = call.span
    duration_ns = span.reply()
    end_served(call, error)
    if call.own is not None:
        origin = origins.origin_of(error)
        if origin is not None:
            details["origin"] = origin[0] + origin[1]
        return {"ns": duration_ns}, None
    if "traceparent" in call.header:
        name = type(error).__name__
        return None, {wire.REPLY: reply_text(span, error, f"{name}: {messages.message_of(error)}")}
    return None, None


def _read_own(own: dict[str, Any]) -> SpanContext | None:
    data, state = own["tc"], own.get("ts")
    if type(data) is bytes and len(data) == _CONTEXT_BYTES:
        if state:
            header = wire.write_context(data, state)
            return parse_traceparent(header["traceparent"], state)
        trace_id, span_id = data[:16], data[16:24]
        if trace_id != _NO_TRACE_ID and span_id != _NO_SPAN_ID:
            return SpanContext(trace_id, span_id, (data[24] & 3, ""))
    diagnostics.count(_BAD_CONTEXT)
    return None


def _take_own(span: Span, own: dict[str, Any], error: BaseException | None) -> None:
    duration_ns = own.get("ns")
    if type(duration_ns) is int and 0 <= duration_ns < _MAX_NS:
        span.covered_ns += duration_ns
    elif duration_ns is not None:
        diagnostics.count(_BAD_REPLY)
    if error is None:
        return
    details = own.get("error")
    origin = details.get("origin") if type(details) is dict else None
    if type(origin) is bytes and len(origin) == _ORIGIN_BYTES and any(origin[:16]) and any(origin[16:]):
        origins.mark_origin(error, origin[:16], origin[16:], span)
    elif isinstance(error, RemoteError):
        messages.describe_remote(error, error.type, error.text)
