"""Spans of calls: a client span around each call, and a server span around each served method.

Between peers of ztrace's own the trace context is 25 bytes, and the reply has the duration and the origin of
an exception as numbers and bytes. Peers of zerorpc get and send what the middleware for zerorpc does. Without
`ztrace.configure` none of this runs; the built-in methods are never traced.
"""

from struct import Struct
from typing import Any, Final

from ztrace import diagnostics
from ztrace.context import NEW, RUNNING
from ztrace.exceptions import messages, origins
from ztrace.fused import calls, serving
from ztrace.fused.interrupted import fail, has_started
from ztrace.fused.serving import ServedSpan
from ztrace.lifecycle.recovery import insist
from ztrace.middleware.kit import read_caller
from ztrace.middleware.replies import reply_text, take_reply
from ztrace.native import thread_time_ns
from ztrace.process.sharing import shares_thread
from ztrace.propagation import Caller, parse_caller
from ztrace.rpc import wire
from ztrace.rpc.core.calling import Call
from ztrace.rpc.core.serving import DEADLINE, Served
from ztrace.rpc.errors import DeadlineExceeded, RemoteError
from ztrace.spans import Span

#: Attributes of every span, shared by all: a span that gets others copies them.
_ATTRIBUTES: Final[dict[str, Any]] = {"rpc.system.name": "ztrace"}
#: Trace id, span id and flags in the bytes of a context, and their number.
_split_context: Final = Struct("16s8sB").unpack
_CONTEXT_BYTES: Final = 25
#: Bytes of a trace id and a span id.
_ORIGIN_BYTES: Final = 24
#: Ids that stand for "none".
_NO_TRACE_ID: Final = bytes(16)
_NO_SPAN_ID: Final = bytes(8)
#: Flags and state of a trace by the flags that are kept.
_W3C: Final = [(flags, "") for flags in range(4)]
#: Nanoseconds of the longest duration that is read: 31 years.
_MAX_NS: Final = 10**18
#: Prefixes of the methods that every server has.
_BUILT_IN: Final = ("_zerorpc_", "_zt_")
#: Reasons under which parts of messages are counted that cannot be read.
_BAD_CONTEXT: Final = "peer_context"
_BAD_REPLY: Final = "peer_reply"


def start_call(call: Call) -> tuple[bytes, str] | None:
    """Start the span of a call, as ``call.span``, unless it is of a built-in method.

    Returns:
        The span's context in the form of the wire; None if the span is not recorded.
    """
    name = call.name
    if name < "a" and name.startswith(_BUILT_IN):
        return None
    try:
        call.span = span = Span()
        context = calls.start_call(span, name, _ATTRIBUTES)
        if context is not None:
            state = span.w3c[1]
            return context[:_CONTEXT_BYTES] if state else context, state
        call.span = None
        return None
    except BaseException:
        _forget_unstarted(call)
        raise


def _forget_unstarted(call: Any) -> None:
    """Release the span of a call that an exception has left before the span has started."""
    if call.span is not None and not has_started(call.span):
        call.span = None


def end_call(call: Call) -> None:
    """End the span of a call that was answered, and take the server's duration."""
    span, own = call.span, call.own
    if own is not None and span._state is RUNNING:
        # As most calls are.
        duration_ns = own.get("ns", 0)
        if type(duration_ns) is not int or not 0 <= duration_ns < _MAX_NS:
            diagnostics.count(_BAD_REPLY)
            duration_ns = 0
        span.covered_ns = duration_ns
        span.attributes = call.route.attributes
        calls.end_call(span)
    else:
        fail_call(call, None)


def fail_call(call: Call, error: BaseException | None) -> None:
    """End the span of a call with its outcome, and take the server's duration and the error's origin.

    Args:
        call: that has ended.
        error: that is raised for it; None if there is none.
    """
    span: Span = call.span
    own = call.own
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
    insist(fail, span, error)


def end_stream(call: Call, error: BaseException | None, items: int) -> None:
    """End the span of a stream, with the number of items that were read."""
    attributes: dict[str, Any] = {"rpc.items": items}
    if error is None and not call.done:
        attributes["rpc.stream"] = "abandoned"
    span: Span = call.span
    span.set(**attributes)
    fail_call(call, error)
    call.span = None


def serve(call: Served, in_loop: bool) -> None:
    """Start the span of a served call, in the context of its method, in which no span is current.

    Args:
        call: that is served.
        in_loop: the method runs in the event loop, and not in the pool.
    """
    name = call.name
    if name < "a" and name.startswith(_BUILT_IN):
        return
    try:
        caller = None
        own = call.own
        if own is not None:
            context = own.get("tc")
            if type(context) is bytes and len(context) == _CONTEXT_BYTES and "ts" not in own:
                trace_id, span_id, flags = _split_context(context)
                if trace_id != _NO_TRACE_ID and span_id != _NO_SPAN_ID:
                    caller = trace_id, span_id, _W3C[flags & 3]
        call.span = span = ServedSpan()
        cpu_ns = None if in_loop or shares_thread() else thread_time_ns()
        serving.start_served(span, name, _ATTRIBUTES, caller or _read_caller(call), cpu_ns)
        if span._state == NEW:
            call.span = None
    except BaseException:
        _forget_unstarted(call)
        diagnostics.contain("rpc")


def replied(call: Served) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Mark the moment of the answer; return ztrace's part of its header, and the part for other tracers."""
    if call.own is not None:
        return {"ns": call.span.reply()}, None
    if "traceparent" in call.header:
        return None, {wire.REPLY: reply_text(call.span)}
    return None, None


def end_served(call: Served, error: BaseException | None) -> None:
    """End the span of a served call: answered, failed, or cancelled for a reason."""
    span: ServedSpan = call.span
    call.span = None
    if error is None and not call.reason:
        serving.end_served(span, restore=False)
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
    ended: Span = call.span
    duration_ns = ended.reply()
    end_served(call, error)
    if call.own is not None:
        origin = origins.origin_of(error)
        if origin is not None:
            details["origin"] = origin[0] + origin[1]
        return {"ns": duration_ns}, None
    if "traceparent" in call.header:
        name = type(error).__name__
        return None, {wire.REPLY: reply_text(ended, error, f"{name}: {messages.message_of(error)}")}
    return None, None


def _read_caller(call: Served) -> Caller | None:
    """Return the caller's span, from a context of whatever form, None if there is none that can be read."""
    own = call.own
    if own is None or "tc" not in own:
        return read_caller(call.header) if "traceparent" in call.header else None
    data, state = own["tc"], own.get("ts")
    if type(data) is bytes and len(data) == _CONTEXT_BYTES and state:
        header = wire.write_context(data, state)
        return parse_caller(header["traceparent"], state)
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
