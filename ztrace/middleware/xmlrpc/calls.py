"""Client spans of xmlrpc: from the call to its answer, fault or error."""

import functools
import re
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from http.client import HTTPConnection
from typing import Any
from xmlrpc import client

from ztrace import diagnostics, spans
from ztrace.context import HOLDS, RUNS, SpanContext
from ztrace.exceptions import messages
from ztrace.exceptions.tracebacks import take_off_frame
from ztrace.fused.calls import end_call, start_call
from ztrace.fused.interrupted import fail, has_started
from ztrace.lifecycle.recovery import insist
from ztrace.middleware.replies import take_reply
from ztrace.propagation import format_traceparent
from ztrace.spans import Span

#: HTTP header of a response with the reply, and key of the same in the fault of one call of a multicall.
REPLY_KEY = "ztrace"
#: Method that carries several calls.
MULTICALL = "system.multicall"

#: Text of a fault that stands for an exception, as the standard library writes it.
_EXCEPTION = re.compile(r"<class '([\w.]+)'>:(.*)\Z", re.DOTALL)


class _Call:
    """A call in flight.

    Attributes:
        span: of the call, once that is made.
        reply: text of the reply, once that has arrived.
        is_open: false once the call has ended.
    """

    # Defaults of the class, and no __init__: each call has an instance.
    span: Span | None = None
    reply: str | None = None
    is_open = True


#: The standard library's way to send a header, which own connections may replace.
_PUTHEADER = HTTPConnection.putheader
#: Call that this thread or task has made last; it may have ended.
_calling: ContextVar[_Call | None] = ContextVar("ztrace_xmlrpc_calling", default=None)
#: Replies of the calls of the multicall that is being made, for its iterator.
_batch: ContextVar[list[str | None] | None] = ContextVar("ztrace_xmlrpc_batch", default=None)


def _set(variable: ContextVar[Any], value: object) -> None:
    _held = copy_context() if HOLDS else None
    variable.set(value)


@functools.cache
def wrap_client() -> None:
    """Patch proxies and transports, existing and future."""
    proxy: Any = client.ServerProxy
    proxy._ServerProxy__request = _wrap_request(proxy._ServerProxy__request)
    transport: Any = client.Transport
    transport.send_content = _wrap_send_content(transport.send_content)
    transport.parse_response = _wrap_parse_response(transport.parse_response)
    multicall: Any = client.MultiCall
    multicall.__call__ = _wrap_multicall(multicall.__call__)
    iterator: Any = client.MultiCallIterator
    iterator.__getitem__ = _wrap_getitem(iterator.__getitem__)


def _wrap_request(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``ServerProxy.__request``, through which every call and its outcome pass."""

    @functools.wraps(original)
    def request(self: Any, methodname: str, params: Any) -> Any:
        call = outer = None
        try:
            try:
                if spans.publisher is not None:
                    outer = _calling.get()
                    call = _Call()
                    _begin(call, self, methodname, params)
                    if HOLDS:
                        _held = copy_context()
                    _calling.set(call)
                response = original(self, methodname, params)
            except BaseException as exception:
                take_off_frame(exception)
                _fail(call, outer, exception)
                raise
            if call is not None:
                if methodname == MULTICALL:
                    _take_batch(response)
                if outer is not None and outer.is_open:
                    _set(_calling, outer)
                call.is_open = False
                span = call.span
                if span is not None:
                    if call.reply is not None:
                        take_reply(span, call.reply)
                    end_call(span)
            return response
        except BaseException as exception:
            insist(_fail, call, outer, exception)  # An exception may have arrived in the code above.
            raise

    return request


def _begin(call: _Call, proxy: Any, method: Any, params: Any) -> None:
    """Start the span of a call."""
    try:
        attributes = proxy.__dict__.get("_ztrace_attributes") or _attributes_of(proxy)
        if method == MULTICALL and type(params[0]) is list:
            attributes = {**attributes, "xmlrpc.batch": len(params[0])}
        call.span = span = Span()
        start_call(span, method, attributes)
    except Exception:
        diagnostics.contain("xmlrpc")


def _attributes_of(proxy: Any) -> dict[str, Any]:
    """Return attributes with a proxy's server; all spans of the proxy share the dictionary."""
    attributes: dict[str, Any] = {"rpc.system.name": "xmlrpc"}
    address = proxy._ServerProxy__host.rpartition("@")[2]  # Without a password.
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        attributes["server.address"], attributes["server.port"] = host.strip("[]"), int(port)
    else:
        attributes["server.address"] = address
    proxy.__dict__["_ztrace_attributes"] = attributes
    return attributes


def _fail(call: _Call | None, outer: _Call | None, exception: BaseException) -> None:
    """End a call that an exception leaves, and go back to the call around it.

    Arguments may make a call while they are written.
    """
    if call is None:
        return
    _set(_calling, outer)
    call.is_open = False
    span = call.span
    if span is not None and has_started(span):
        if not take_reply(span, call.reply, exception) and issubclass(type(exception), client.Fault):
            _describe(exception)
        fail(span, exception)


def _describe(fault: Any) -> None:
    """Record a fault of an untraced server under the type and message of the exception it stands for."""
    try:
        match = _EXCEPTION.match(fault.faultString)
        if match is not None:
            messages.describe_remote(fault, match[1], match[2])
    except Exception:
        diagnostics.contain("xmlrpc")


def _wrap_send_content(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Transport.send_content``, which sends the last headers; subclasses override ``send_headers``."""

    @functools.wraps(original)
    def send_content(self: Any, connection: Any, request_body: Any) -> Any:
        try:
            call = _calling.get()
            if call is not None and call.is_open and call.span is not None and call.span._state in RUNS:
                _send_context(connection, call.span)
            return original(self, connection, request_body)
        except BaseException as exception:
            take_off_frame(exception)
            raise

    return send_content


def _send_context(connection: Any, span: Span) -> None:
    try:
        traceparent = format_traceparent(span)
        if getattr(type(connection), "putheader", None) is _PUTHEADER:
            # As `putheader` does, without its checks: they take as long as starting the span.
            connection._output(f"traceparent: {traceparent}".encode("ascii"))
        else:
            connection.putheader("traceparent", traceparent)
        if span.w3c[1]:
            connection.putheader("tracestate", span.w3c[1])
    except Exception:
        diagnostics.contain("xmlrpc")


def _wrap_parse_response(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def parse_response(self: Any, response: Any) -> Any:
        try:
            call = _calling.get()
            if call is not None and call.is_open:
                _read_reply(response, call)
            return original(self, response)
        except BaseException as exception:
            take_off_frame(exception)
            raise

    return parse_response


def _read_reply(response: Any, call: _Call) -> None:
    try:
        headers = getattr(response, "headers", None)
        if headers is None:
            return  # A transport of the program's own has another kind of response.
        items = [*headers.raw_items()]
        if items and items[-1][0] == REPLY_KEY:  # As ztrace sends it.
            call.reply = items[-1][1]
        else:
            call.reply = read_headers(headers, REPLY_KEY).get(REPLY_KEY)
    except Exception:
        diagnostics.contain("xmlrpc")


def read_headers(headers: Any, key: str) -> dict[str, str]:
    """Return headers by name; ``get`` of a message would parse each header that it compares.

    Args:
        headers: of a request or response.
        key: name of the header that is wanted, which peers write in lower case. Where a proxy has changed
            that, all names are returned in lower case.
    """
    found: dict[str, str] = dict(headers.raw_items())
    return found if key in found else {name.lower(): text for name, text in found.items()}


def _take_batch(results: Any) -> None:
    """Remove the replies from the faults of a multicall, and keep them for its iterator."""
    try:
        replies = [item.pop(REPLY_KEY, None) if type(item) is dict else None for item in results]
        batch = _batch.get()
        if batch is not None:
            batch[:] = replies
    except Exception:
        diagnostics.contain("xmlrpc")


def _wrap_multicall(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def __call__(self: Any) -> Any:
        replies: list[str | None] = []
        try:
            try:
                _set(_batch, replies)
                iterator = original(self)
            except BaseException as exception:
                take_off_frame(exception)
                raise
            iterator._ztrace_replies = replies
            return iterator
        finally:
            insist(_set, _batch, None)

    return __call__


def _wrap_getitem(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``MultiCallIterator.__getitem__``, which raises the fault of one call."""

    @functools.wraps(original)
    def __getitem__(self: Any, i: Any) -> Any:
        try:
            return original(self, i)
        except client.Fault as fault:
            take_off_frame(fault)
            try:
                reply = self._ztrace_replies[i]
                if not take_reply(SpanContext(bytes(16), bytes(8)), reply, fault):
                    _describe(fault)
            except Exception:
                diagnostics.contain("xmlrpc")
            raise
        except BaseException as exception:
            take_off_frame(exception)
            raise

    return __getitem__
