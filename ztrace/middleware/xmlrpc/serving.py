"""Server spans of xmlrpc, from the request's arguments to the response as bytes."""

import functools
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any
from xmlrpc import client, server

from ztrace import diagnostics, spans
from ztrace.context import HOLDS, NEW, RUNS
from ztrace.exceptions import messages
from ztrace.exceptions.recording import type_name
from ztrace.exceptions.tracebacks import take_off_frame
from ztrace.fused.serving import ServedSpan, end_served, start_served
from ztrace.lifecycle.recovery import insist
from ztrace.middleware.carriers import UNREADABLE
from ztrace.middleware.kit import new_span
from ztrace.middleware.replies import reply_text
from ztrace.middleware.xmlrpc.calls import REPLY_KEY, read_headers
from ztrace.native import thread_time_ns
from ztrace.process.sharing import shares_thread
from ztrace.propagation import Caller, parse_caller
from ztrace.spans import SERVER

#: Attributes of all server spans; a span that gets others copies them.
_SERVED_ATTRIBUTES: dict[str, Any] = {"rpc.system.name": "xmlrpc"}

#: Start of a response with a fault: what comes before is at most the declaration of an encoding.
_MAX_HEAD = 200


class _Request:
    """HTTP request that is being served.

    Attributes:
        caller: span of the caller, None if there is none that can be read.
        is_joined: whether the caller has sent a trace context, and so takes a reply.
        reply: header of the response, once it is known.
    """

    # Defaults of the class, and no __init__: each request has an instance.
    caller: Caller | None = None
    is_joined = False
    reply: str | None = None


#: Request that this thread or task has served last, without its caller once that is over.
_serving: ContextVar[_Request | None] = ContextVar("ztrace_xmlrpc_serving", default=None)


@functools.cache
def wrap_server() -> None:
    """Patch request handlers and dispatchers, existing and future."""
    handler: Any = server.SimpleXMLRPCRequestHandler
    handler.do_POST = _wrap_post(handler.do_POST)
    handler.end_headers = _wrap_end_headers(handler.end_headers)
    dispatcher: Any = server.SimpleXMLRPCDispatcher
    dispatcher._marshaled_dispatch = _wrap_dispatch(dispatcher._marshaled_dispatch)
    dispatcher.system_multicall = _wrap_multicall(dispatcher.system_multicall)


def _wrap_post(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def do_POST(self: Any) -> Any:
        request = None
        try:
            if spans.publisher is not None:
                request = _Request()
                _read_context(request, self.headers)
                _set_serving(request)
            result = original(self)
            if request is not None:
                request.caller = request.reply = None
                request.is_joined = False
            return result
        except BaseException as exception:
            take_off_frame(exception)
            insist(_set_serving, None)
            raise

    return do_POST


def _set_serving(request: _Request | None) -> None:
    _held = copy_context() if HOLDS else None
    _serving.set(request)


def _read_context(request: _Request, headers: Any) -> None:
    try:
        found = read_headers(headers, "traceparent")
        traceparent = found.get("traceparent")
        if traceparent is not None:
            request.is_joined = True
            request.caller = parse_caller(traceparent, found.get("tracestate"))
            if request.caller is None and traceparent:
                diagnostics.count(UNREADABLE)
    except Exception:
        diagnostics.contain("xmlrpc")


def _wrap_end_headers(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def end_headers(self: Any) -> Any:
        try:
            request = _serving.get()
            if request is not None and request.reply is not None:
                self.send_header(REPLY_KEY, request.reply)
                request.reply = None
            return original(self)
        except BaseException as exception:
            take_off_frame(exception)
            raise

    return end_headers


class _Served:
    """A call that is being served: its span, and the exception that the method has failed with."""

    span: ServedSpan | None = None
    exception: BaseException | None = None


def _wrap_dispatch(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``_marshaled_dispatch``, which dispatches through the function that it is given.

    Results that cannot be written become faults in it, so the span ends behind it.
    """

    @functools.wraps(original)
    def _marshaled_dispatch(self: Any, data: Any, dispatch_method: Any = None, path: Any = None) -> Any:
        served = _Served()

        def dispatch(method: Any, params: Any) -> Any:
            try:
                _begin(served, method)
                return (self._dispatch if dispatch_method is None else dispatch_method)(method, params)
            except BaseException as exception:
                take_off_frame(exception)
                served.exception = exception
                raise

        try:
            try:
                if spans.publisher is None:
                    return original(self, data, dispatch_method, path)
                response = original(self, data, dispatch, path)
            except BaseException as exception:
                take_off_frame(exception)
                _end(served, exception)
                raise
            _end(served, served.exception or _find_fault(served, response))
            return response
        except BaseException as exception:
            insist(_end, served, exception)  # An exception may have arrived in the code above.
            raise

    return _marshaled_dispatch


def _begin(served: _Served, method: Any) -> None:
    try:
        request = _serving.get()
        caller = None if request is None else request.caller
        cpu_ns = None if shares_thread() else thread_time_ns()
        served.span = span = ServedSpan()
        start_served(span, str(method), _SERVED_ATTRIBUTES, caller, cpu_ns)
    except Exception:
        diagnostics.contain("xmlrpc")


def _find_fault(served: _Served, response: bytes) -> BaseException | None:
    """Return an exception for a fault in a response that the method has not raised."""
    if served.span is None or b"<fault>" not in response[:_MAX_HEAD]:
        return None
    try:
        client.loads(response)
    except client.Fault as fault:
        name, _, message = fault.faultString.removeprefix("<class '").partition("'>:")
        messages.describe_remote(fault, name, message)
        return fault.with_traceback(None)
    except Exception:
        diagnostics.contain("xmlrpc")
    return None


def _end(served: _Served, exception: BaseException | None) -> None:
    """End the span of a call, and leave the reply for the response's headers."""
    span, served.exception = served.span, None
    if span is None or getattr(span, "_state", NEW) not in RUNS:
        return
    try:
        request = _serving.get()
        if exception is None:
            text = reply_text(span)
            end_served(span)
        else:
            span.reply()  # Recording the exception is not part of the method's time.
            span.end(exception)
            text = reply_text(span, exception, _message_of(exception))
        if request is not None and request.is_joined:
            request.reply = text
    except Exception:
        diagnostics.contain("xmlrpc")


def _message_of(exception: BaseException) -> str | None:
    """Return the message for the caller's fault, whose own text names the type as ``repr`` does."""
    if issubclass(type(exception), client.Fault):
        return None
    return f"{type_name(exception)}: {messages.message_of(exception)}"


class _Batch:
    """Dispatcher as a multicall sees it, which dispatches each call within a span."""

    def __init__(self, dispatcher: Any) -> None:
        self._dispatcher = dispatcher
        #: Replies of failed calls by their place.
        self.replies: dict[int, str] = {}
        self._place = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dispatcher, name)

    def _dispatch(self, method: Any, params: Any) -> Any:
        span = None
        try:
            try:
                span = new_span(str(method), SERVER, _SERVED_ATTRIBUTES)
                span.start()
                result = self._dispatcher._dispatch(method, params)
            except BaseException as exception:
                take_off_frame(exception)
                if span is not None:
                    span.reply()
                    span.end(exception)
                    self.replies[self._place] = reply_text(span, exception, _message_of(exception))
                raise
            span.end()
            return result
        except BaseException as exception:
            if span is not None:  # An exception may have arrived in the code above.
                insist(span.end, exception)
            raise
        finally:
            self._place += 1


def _wrap_multicall(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``system_multicall``, which catches the exception of each call, and returns faults."""

    @functools.wraps(original)
    def system_multicall(self: Any, call_list: Any) -> Any:
        try:
            if spans.publisher is None:
                return original(self, call_list)
            batch = _Batch(self)
            results = original(batch, call_list)
            _add_replies(results, batch.replies)
            return results
        except BaseException as exception:
            take_off_frame(exception)
            raise

    return system_multicall


def _add_replies(results: Any, replies: dict[int, str]) -> None:
    """Add the replies to the faults of a caller that has sent a trace context, and so takes them off."""
    try:
        request = _serving.get()
        if request is not None and request.is_joined:
            for place, reply in replies.items():
                results[place][REPLY_KEY] = reply
    except Exception:
        diagnostics.contain("xmlrpc")
