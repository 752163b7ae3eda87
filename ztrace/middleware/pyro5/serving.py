"""Server and consumer spans of Pyro5, from the method's call to the response, or to the end of a stream."""

import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar, copy_context
from types import MethodType
from typing import Any

from Pyro5 import config, protocol, server
from Pyro5.callcontext import current_context

from ztrace import diagnostics, spans
from ztrace.context import HOLDS, SpanContext, make_current
from ztrace.exceptions import origins
from ztrace.exceptions.tracebacks import take_off_frame
from ztrace.fused.interrupted import fail, has_started
from ztrace.fused.serving import ServedSpan, end_served, start_served
from ztrace.lifecycle.recovery import insist
from ztrace.middleware.carriers import read_bytes
from ztrace.middleware.kit import new_span
from ztrace.middleware.pyro5.calls import KEY, SYSTEM
from ztrace.middleware.replies import DURATION_BYTES, reply_bytes, reply_text
from ztrace.middleware.streams import watch_stream
from ztrace.native import thread_time_ns
from ztrace.process.sharing import shares_thread
from ztrace.propagation import Caller
from ztrace.spans import CONSUMER, SERVER, Span

#: Attributes of all server spans; a span that gets others copies them.
_SERVED: dict[str, Any] = {"rpc.system.name": SYSTEM}


class _Request:
    """Request that is being served.

    Attributes:
        is_read: whether the annotations have been looked at.
        caller: span of the caller, None if the caller is not traced.
        span: of the call, until its response has been sent.
        reply: to the failed call.
        duration_ns: of the calls of a batch so far.
    """

    # Defaults of the class, and no __init__: each request has an instance.
    is_read = False
    caller: Caller | None = None
    span: ServedSpan | None = None
    reply: bytes | None = None
    duration_ns = 0

    def read_caller(self) -> Caller | None:
        """Return the caller's span, which is removed from the annotations that the method may read."""
        if not self.is_read:
            self.is_read = True
            try:
                self.caller = read_bytes(current_context.annotations.pop(KEY, None))
            except Exception:
                diagnostics.contain("pyro5")
        return self.caller


_serving: ContextVar[_Request | None] = ContextVar("ztrace_pyro5_serving", default=None)


@functools.cache
def wrap_server() -> None:
    """Patch daemons, existing and future, and the functions that find methods and properties for them."""
    daemon = server.Daemon
    daemon.handleRequest = _wrap_handle(daemon.handleRequest)
    daemon._streamResponse = _wrap_stream(daemon._streamResponse)
    daemon._sendExceptionResponse = _wrap_send_exception(daemon._sendExceptionResponse)
    server._get_attribute = _wrap_find(server._get_attribute)
    server._get_exposed_property_value = _wrap_property(server._get_exposed_property_value)
    server._set_exposed_property_value = _wrap_property(server._set_exposed_property_value)


def _set_serving(request: _Request | None) -> None:
    _held = copy_context() if HOLDS else None
    _serving.set(request)


def _wrap_handle(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Daemon.handleRequest``, which reads a request, serves it, and sends the response."""

    @functools.wraps(original)
    def handleRequest(self: Any, conn: Any) -> Any:
        if spans.publisher is None:
            return original(self, conn)
        request = _Request()
        try:
            try:
                _set_serving(request)
                result = original(self, conn)
            except BaseException as exception:
                take_off_frame(exception)
                _fail(request, exception)
                raise
            if request.span is not None:
                end_served(request.span)
                request.span = None
            _set_serving(None)
            return result
        except BaseException as exception:  # One may have arrived in the code above.
            try:
                insist(_fail, request, exception)
            finally:
                insist(_set_serving, None)
            raise

    return handleRequest


def _fail(request: _Request, exception: BaseException) -> None:
    fail(request.span, exception)
    request.span = None


class _Method(functools.partial[Any]):
    """A method that Pyro5 is about to call, through `_serve`; all else of it is the program's method."""

    #: Mark of a callback, for which Pyro5 asks before each call: most methods have none, and `__getattr__`
    #: would take as long as a span to raise for these.
    _pyroCallback: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.args[-1], name)

    def __repr__(self) -> str:
        return repr(self.args[-1])


def _serve(request: _Request, name: str, function: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Call a function within the span of a request; the span of a single call ends with the response."""
    span = None
    flags = current_context.msg_flags
    is_last = not flags & (protocol.FLAGS_ONEWAY | protocol.FLAGS_BATCH)
    try:
        try:
            if flags & protocol.FLAGS_ONEWAY:
                span = _new_span(request, name, flags)
                if span is not None:
                    span.start()
            else:
                caller = request.read_caller()
                cpu_ns = None if shares_thread() else thread_time_ns()
                span = served = ServedSpan()
                start_served(served, name, _SERVED, caller, cpu_ns)
                if is_last:
                    request.span = served
            result = function(*args, **kwargs)
        except BaseException as exception:
            take_off_frame(exception)
            if span is not None and has_started(span):
                span.reply()  # Recording the exception is not part of the method's time.
                span.end(exception)
                _reply(request, span, flags, exception)
            raise
        if span is not None:
            _reply(request, span, flags)
            if not is_last:
                span.end()
        return result
    except BaseException as exception:
        take_off_frame(exception)
        insist(fail, span, exception)  # An exception may have arrived in the code above.
        raise


def _new_span(request: _Request, name: str, flags: int) -> Span | None:
    """Create the span of a oneway call, linked to the caller's, or of a call of an unknown method."""
    try:
        caller = request.read_caller()
        parent = None if caller is None else SpanContext(*caller)
        if flags & protocol.FLAGS_ONEWAY:
            make_current(None)
            links = (parent,) if parent else None
            return new_span(name, CONSUMER, {"messaging.system": SYSTEM}, parent, links)
        return new_span(name, SERVER, _SERVED, parent)
    except Exception:
        diagnostics.contain("pyro5")
        return None


def _reply(request: _Request, span: Span, flags: int, exception: BaseException | None = None) -> None:
    """Add the reply to the response; that of a batch has the duration of all calls so far."""
    try:
        if flags & protocol.FLAGS_ONEWAY:
            return
        duration_ns = span.reply()
        if request.caller is None:
            return
        if flags & protocol.FLAGS_BATCH:
            request.duration_ns = duration_ns = request.duration_ns + duration_ns
        if exception is None:
            reply = duration_ns.to_bytes(DURATION_BYTES, "big")
        elif flags & protocol.FLAGS_BATCH:
            text = reply_text(span, exception)
            reply = ";".join((f"d={duration_ns}", *text.split(";")[1:])).encode("ascii")
        else:
            request.reply = reply_bytes(span, exception)
            return
        before = current_context.response_annotations
        current_context.response_annotations = {**before, KEY: reply}
    except Exception:
        diagnostics.contain("pyro5")


def _wrap_find(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``_get_attribute``, which returns the method that a request names."""

    @functools.wraps(original)
    def _get_attribute(obj: Any, attr: Any) -> Any:
        request = None if isinstance(obj, server.DaemonObject) else _serving.get()
        try:
            if request is None:
                return original(obj, attr)
            found = original(obj, attr)
            method = _Method(_serve, request, str(attr), found)
            # A bound method has the attributes of its function, which says sooner that it has none.
            function = found.__func__ if type(found) is MethodType else found
            method._pyroCallback = getattr(function, "_pyroCallback", False)
            return method
        except BaseException as exception:
            take_off_frame(exception)
            if request is not None:
                _record_unknown(request, str(attr), exception)
            raise

    return _get_attribute


def _record_unknown(request: _Request, name: str, exception: BaseException) -> None:
    """Record a call of a method that is unknown or not exposed, and so is not called."""
    span = None
    try:
        flags = current_context.msg_flags
        span = _new_span(request, name, flags)
        if span is not None:
            span.start(activate=False)
            span.reply()
            span.end(exception)
            _reply(request, span, flags & ~protocol.FLAGS_BATCH, exception)
    except BaseException:
        if span is not None:
            insist(span.end, exception)
        diagnostics.contain("pyro5")


def _wrap_property(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the functions that get and set a property for a request."""

    @functools.wraps(original)
    def access_property(obj: Any, propname: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            request = _serving.get()
            if request is None:
                return original(obj, propname, *args, **kwargs)
            return _serve(request, str(propname), original, obj, propname, *args, **kwargs)
        except BaseException as exception:
            take_off_frame(exception)
            raise

    return access_property


def _wrap_stream(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Daemon._streamResponse``, which keeps the iterator that a method has returned."""

    @functools.wraps(original)
    def _streamResponse(self: Any, data: Any, client: Any) -> Any:
        try:
            if hasattr(type(data), "__next__") and config.ITER_STREAMING:
                request = _serving.get()
                if request is not None and request.span is not None:
                    data = _watch(request, data)
            return original(self, data, client)
        except BaseException as exception:
            take_off_frame(exception)
            raise

    return _streamResponse


def _watch(request: _Request, data: Any) -> Any:
    """Return the data; of an iterator, one that ends the span of the request with its items."""
    try:
        span = request.span
        if span is None or not isinstance(data, Iterator):
            return data
        stream = watch_stream(data, span, SYSTEM)
        request.span = None
        current_context.response_annotations.pop(KEY, None)
        return stream
    except Exception:
        diagnostics.contain("pyro5")
        return data


def _wrap_send_exception(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Daemon._sendExceptionResponse``, which drops the annotations of a response."""

    @functools.wraps(original)
    def _sendExceptionResponse(
        self: Any,
        connection: Any,
        seq: Any,
        serializer_id: Any,
        exc_value: Any,
        tbinfo: Any,
        flags: Any = 0,
        annotations: Any = None,
    ) -> Any:
        try:
            request = _serving.get()
            if request is not None and not flags & protocol.FLAGS_ITEMSTREAMRESULT:
                annotations = _annotate(request, exc_value, annotations)
            return original(self, connection, seq, serializer_id, exc_value, tbinfo, flags, annotations)
        except BaseException as exception:
            take_off_frame(exception)
            raise

    return _sendExceptionResponse


def _annotate(request: _Request, exception: BaseException, annotations: Any) -> Any:
    """Return the annotations of an error response, with the reply that names the exception's origin."""
    try:
        span, reply = request.span, request.reply
        if span is not None:  # The result could not be sent.
            fail(span, exception)
            request.span = None
            reply = reply_bytes(span, exception)
        elif reply is None:
            origin = origins.origin_of(exception)  # Of an item of a stream.
            reply = None if origin is None else f"o={origin[0].hex()}-{origin[1].hex()}".encode("ascii")
        if reply is None or request.read_caller() is None:
            return annotations
        return {**(annotations or {}), KEY: reply}
    except Exception:
        diagnostics.contain("pyro5")
        return annotations
