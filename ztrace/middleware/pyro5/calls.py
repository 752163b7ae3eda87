"""Client and producer spans of Pyro5, from the call to its reply, the end of its stream, or its loss."""

import functools
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any, Final

from Pyro5 import client, core, protocol
from Pyro5.callcontext import current_context

from ztrace import diagnostics, spans
from ztrace.context import HOLDS
from ztrace.exceptions import origins
from ztrace.exceptions.tracebacks import take_off_frame
from ztrace.fused.calls import end_call, start_call
from ztrace.fused.interrupted import fail, has_started
from ztrace.lifecycle.recovery import insist
from ztrace.middleware.carriers import write_bytes
from ztrace.middleware.kit import new_span
from ztrace.middleware.replies import take_reply
from ztrace.spans import PRODUCER, Span

#: Value of ``rpc.system.name`` and ``messaging.system``.
SYSTEM: Final = "pyro5"
#: Annotation with the caller's context in a request, and with the reply in a response.
KEY: Final = "ZTRC"
#: Method that Pyro5 calls for a batch, and those for properties, with the property as first argument.
_BATCH, _PROPERTIES = "<batch>", ("__getattr__", "__setattr__")
#: Characters kept of the traceback sent by a server without ztrace; its end is the informative part.
_MAX_REMOTE_TRACEBACK = 4000

#: Span of the stream whose next item this thread asks for.
_streaming: ContextVar[Span | None] = ContextVar("ztrace_pyro5_streaming", default=None)


class _Call:
    """A call in flight.

    Attributes:
        span: of the call, or of the stream that an internal call reads; None if there is none.
        is_item: whether the call reads a stream.
        annotations: the program's own, which are in place again after the call.
    """

    # Defaults of the class, and no __init__: each call has an instance.
    span: Span | None = None
    is_item = False
    annotations: Any = None


@functools.cache
def wrap_client() -> None:
    """Patch proxies, streams and batches, existing and future."""
    client.Proxy._pyroInvoke = _wrap_invoke(client.Proxy._pyroInvoke)
    stream = client._StreamResultIterator
    stream.__next__ = _wrap_next(stream.__next__)
    stream.close = _wrap_close(stream.close)
    core._ExceptionWrapper.raiseIt = _wrap_raise(core._ExceptionWrapper.raiseIt)


def _wrap_invoke(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Proxy._pyroInvoke``, through which every request of a proxy passes."""

    @functools.wraps(original)
    def _pyroInvoke(
        self: Any, methodname: Any, vargs: Any, kwargs: Any, flags: Any = 0, objectId: Any = None
    ) -> Any:
        call = None
        try:
            try:
                if spans.publisher is not None:
                    call = _Call()
                    _begin(call, self, methodname, vargs, flags, objectId)
                result = original(self, methodname, vargs, kwargs, flags, objectId)
            except BaseException as exception:
                take_off_frame(exception)
                _fail(call, exception)
                raise
            if call is not None and call.span is not None:
                _take_result(call, methodname, result)
            return result
        except BaseException as exception:
            insist(_fail, call, exception)  # An exception may have arrived in the code above.
            raise

    return _pyroInvoke


def _begin(call: _Call, proxy: Any, method: Any, vargs: Any, flags: Any, object_id: Any) -> None:
    """Start the span of a call, and add its context to the annotations that the program sends.

    Pyro5's requests to its daemon have a span only if they read a stream, which is the span of the stream.
    """
    try:
        if object_id == core.DAEMON_NAME:
            context = _find_stream(call)
        else:
            address = proxy.__dict__.get("_ztrace_address")
            if address is None or address[0] is not proxy._pyroUri:
                address = _address_of(proxy)
            if flags & protocol.FLAGS_ONEWAY or method in proxy._pyroOneway:
                context = _begin_message(call, method, vargs, address[1])
            else:
                attributes = address[1]
                if method in _PROPERTIES:
                    method = vargs[0]
                elif method == _BATCH:
                    attributes = {**attributes, "pyro5.batch": len(vargs)}
                call.span = span = Span()
                context = start_call(span, str(method), attributes)
        if context is not None:
            before = current_context.annotations
            current_context.annotations = {**before, KEY: context}
            call.annotations = before
    except Exception:
        diagnostics.contain("pyro5")


def _find_stream(call: _Call) -> bytes | None:
    stream = _streaming.get()
    if stream is None or stream.ended:
        return None
    call.span, call.is_item = stream, True
    return write_bytes(stream)


def _begin_message(call: _Call, method: Any, vargs: Any, attributes: dict[str, Any]) -> bytes | None:
    attributes = {**attributes, "messaging.system": SYSTEM}
    del attributes["rpc.system.name"]
    if method == _BATCH:
        attributes["pyro5.batch"] = len(vargs)
    name = vargs[0] if method in _PROPERTIES else method
    call.span = span = new_span(str(name), PRODUCER, attributes)
    return None if span.start(activate=False).ended else write_bytes(span)


def _address_of(proxy: Any) -> tuple[Any, dict[str, Any]]:
    """Return a proxy's URI, and the attributes of its calls, all of which share the dictionary."""
    uri = proxy._pyroUri
    attributes: dict[str, Any] = {"rpc.system.name": SYSTEM}
    if uri.protocol == "PYRO":
        attributes["server.address"] = uri.host or uri.sockname
        if uri.port:
            attributes["server.port"] = uri.port
    proxy.__dict__["_ztrace_address"] = uri, attributes
    return uri, attributes


def _end(call: _Call) -> None:
    """End a call that was answered, with its reply; a stream's span goes on."""
    if call.annotations is not None:
        current_context.annotations = call.annotations
        call.annotations = None
    span = call.span
    if span is None or span._state is not None:
        _fail(call, None)
        return
    reply = current_context.response_annotations.pop(KEY, None)
    if reply is not None:
        take_reply(span, reply)
    if not call.is_item:
        end_call(span)


def _fail(call: _Call | None, exception: BaseException | None) -> None:
    """End a call that an exception leaves, whatever its state; a stream's span goes on."""
    if call is None:
        return
    if call.annotations is not None:
        current_context.annotations = call.annotations
        call.annotations = None
    span = call.span
    if span is None or not has_started(span):
        return
    try:
        reply = _take_annotation()
        if not take_reply(span, reply, exception) and exception is not None and not call.is_item:
            _keep_traceback(span, exception)
    except Exception:
        diagnostics.contain("pyro5")
    if not call.is_item:
        fail(span, exception)


def _take_annotation() -> Any:
    """Remove the reply from the annotations of the response, which the program may read."""
    return current_context.response_annotations.pop(KEY, None)


def _keep_traceback(span: Span, exception: BaseException) -> None:
    """Keep the traceback that a server without ztrace has sent as text."""
    lines: Any = getattr(exception, "_pyroTraceback", None)
    if type(lines) in (list, tuple):
        text = "".join(line for line in lines if type(line) is str)
        if len(text) > _MAX_REMOTE_TRACEBACK:
            text = text[-_MAX_REMOTE_TRACEBACK:]
            text = text[text.find("\n") + 1 :]  # A truncated secret would not be recognized.
        span.set(**{"pyro5.remote_traceback": text})


def _take_result(call: _Call, method: Any, result: Any) -> None:
    """End a call that has returned, unless its result is a stream."""
    failed = None
    try:
        if type(result) is client._StreamResultIterator and call.span is not None and not call.span.ended:
            current_context.annotations = call.annotations
            call.annotations = None
            _take_annotation()
            result._ztrace_span = call.span
            return
        if method == _BATCH and type(result) is list and result:
            # The exception of a failed call ends the batch.
            failed = getattr(result[-1], "exception", None)
            failed = failed if isinstance(result[-1], core._ExceptionWrapper) else None
    except Exception:
        diagnostics.contain("pyro5")
    if failed is None:
        _end(call)
    else:
        _fail(call, failed)


def _set_streaming(span: Span | None) -> None:
    _held = copy_context() if HOLDS else None
    _streaming.set(span)


def _wrap_next(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def __next__(self: Any) -> Any:
        span = None
        try:
            try:
                span = self.__dict__.get("_ztrace_span")
                _set_streaming(span)
                return original(self)
            except BaseException as exception:
                take_off_frame(exception)
                if span is not None:
                    insist(span.end, None if type(exception) is StopIteration else exception)
                raise
        finally:
            insist(_set_streaming, None)

    return __next__


def _wrap_close(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``close`` of a stream, which is called for streams that are freed as well."""

    @functools.wraps(original)
    def close(self: Any) -> Any:
        try:
            return original(self)
        except BaseException as exception:
            take_off_frame(exception)
            raise
        finally:
            insist(_abandon, self.__dict__.get("_ztrace_span"))

    return close


def _abandon(span: Span | None) -> None:
    if span is not None and not span.ended:
        span.set(**{"pyro5.stream": "abandoned"})
        span.end()


def _wrap_raise(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``_ExceptionWrapper.raiseIt``, which raises a copy of the exception of a call in a batch."""

    @functools.wraps(original)
    def raiseIt(self: Any) -> Any:
        try:
            return original(self)
        except BaseException as exception:
            take_off_frame(exception)
            _copy_mark(self, exception)
            raise

    return raiseIt


def _copy_mark(wrapper: Any, exception: BaseException) -> None:
    try:
        origin = origins.origin_of(wrapper.exception)
        if origin is not None and origins.origin_of(exception) is None:
            origins.mark_origin(exception, *origin)
    except Exception:
        diagnostics.contain("pyro5")
