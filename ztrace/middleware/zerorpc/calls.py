"""Client spans of zerorpc: from the call to its reply, error, timeout or loss.

The reply may arrive in another greenlet than the caller's, and a stream may end in any, so open spans are
looked up by the message id of their request.
"""

import functools
import weakref
from collections.abc import Callable, Generator
from contextvars import ContextVar, copy_context
from typing import Any

import zerorpc
import zmq
from gevent import GreenletExit
from gevent.event import AsyncResult

from ztrace import diagnostics, spans
from ztrace.context import HOLDS, NEW, RUNS
from ztrace.exceptions import messages
from ztrace.exceptions.tracebacks import take_off_frame
from ztrace.fused.calls import start_call
from ztrace.fused.interrupted import fail
from ztrace.lifecycle.recovery import insist
from ztrace.middleware.replies import take_reply
from ztrace.middleware.zerorpc.contexts import is_traced
from ztrace.spans import Span

#: Characters kept of the traceback sent by a server without ztrace; its end is the informative part.
MAX_REMOTE_TRACEBACK = 4000

#: Key of the reply in a reply's header: the duration, or a text of `ztrace.middleware.replies`.
REPLY_KEY = "ztrace"

#: Client spans by the message id of their request, from before_request on.
open_calls: dict[Any, Span] = {}
#: Weak references, by message id, whose callbacks report streams that are discarded unread.
unread_streams: dict[Any, "weakref.ref[Any]"] = {}
#: Span of the call that this greenlet has made last; before_request sends its context if it is not sent yet.
calling: "ContextVar[CallSpan | None]" = ContextVar("ztrace_zerorpc_calling", default=None)


def set_calling(span: "CallSpan | None") -> None:
    """Remember the call that this greenlet makes."""
    _held = copy_context() if HOLDS else None
    calling.set(span)


class CallSpan(Span):
    """Span of a call in flight.

    Attributes:
        is_unsent: whether before_request has still to send the span's context.
        message_id: of the request, once that is known.
    """

    __slots__ = ("is_unsent", "message_id")

    is_unsent: bool
    message_id: Any


def wrap_call(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``ClientBase.__call__``, through which every exception of a call leaves."""

    @functools.wraps(original)
    def __call__(self: Any, method: Any, *args: Any, **kargs: Any) -> Any:
        # Little comes before the call: gevent reads the line of each frame for each greenlet that the call
        # spawns, and Python counts it from the start of the function.
        span = outer = None
        try:
            try:
                if spans.publisher is not None:
                    outer = calling.get()
                    span = CallSpan()
                    _begin(span, self, method)
                result = original(self, method, *args, **kargs)
                if outer is not None and outer.is_unsent:
                    set_calling(outer)  # A hook of another middleware has made this call within that one.
            except BaseException as exception:
                take_off_frame(exception)
                _fail_call(span, outer, exception)
                raise
            if span is not None and span._state in RUNS:
                _await_result(span, result)
            return result
        except BaseException as exception:
            insist(_fail_call, span, outer, exception)  # An exception may have arrived in the code above.
            raise

    return __call__


def _begin(span: CallSpan, client: Any, method: Any) -> None:
    """Start the span of a call, which `calling` has from then on; not if the client is not traced."""
    span._state = NEW
    span.is_unsent = False
    span.message_id = None
    # Only clients of a traced context have any.
    attributes = client.__dict__.get("_ztrace_attributes") or _call_attributes(client)
    if attributes is None:
        return
    name = method if type(method) is str else _name_of(method)
    if name[:9] == "_zerorpc_":  # The built-in methods have no span.
        set_calling(None)
        return
    span.is_unsent = start_call(span, name, attributes) is not None
    if HOLDS:
        _held = copy_context()
    calling.set(span)


def _fail_call(span: CallSpan | None, outer: CallSpan | None, exception: BaseException) -> None:
    """End the span of a call that an exception leaves, and go back to the call around it."""
    if span is None:
        return
    set_calling(outer)
    fail(span, exception)
    message_id = getattr(span, "message_id", None)  # Unset if the exception arrived as the span was made.
    open_calls.pop(message_id, None)
    unread_streams.pop(message_id, None)


def _name_of(method: object) -> str:
    return (
        bytes(method).decode("utf-8", "replace")
        if isinstance(method, bytes)
        else f"<{type(method).__name__}>"
    )


def _await_result(span: CallSpan, result: Any) -> None:
    """Arrange the end of a span whose call has returned an async result or a stream."""
    try:
        message_id = span.message_id
        if isinstance(result, AsyncResult):
            result.rawlink(functools.partial(insist, _end_async, message_id))
        elif message_id not in unread_streams:
            span.end()
            open_calls.pop(message_id, None)
    except Exception:
        diagnostics.contain("zerorpc")


def _end_async(message_id: Any, result: AsyncResult) -> None:
    """End the span of an async call that failed or was killed; streams go on, and replies have ended it."""
    if message_id not in unread_streams:
        killed = result.value if isinstance(result.value, GreenletExit) else None
        _end_call(message_id, result.exception or killed)


def wrap_process_answer(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``ReqStream.process_answer``, which returns the stream to the caller."""

    @functools.wraps(original)
    def process_answer(
        self: Any, context: Any, channel: Any, req_event: Any, *args: Any, **kwargs: Any
    ) -> Any:
        stream = original(self, context, channel, req_event, *args, **kwargs)
        message_id = req_event.header.get("message_id")
        if message_id not in open_calls:
            return stream
        watched = _watch_stream(stream, message_id)
        # Discarding a generator that was never started runs none of its code, but clears weak references.
        abandon = functools.partial(insist, _abandon_stream, message_id)
        unread_streams[message_id] = weakref.ref(watched, abandon)
        return watched

    return process_answer


def _watch_stream(stream: Generator[Any, Any, Any], message_id: Any) -> Generator[Any, Any, Any]:
    try:
        try:
            return (yield from stream)
        except GeneratorExit:
            _abandon_stream(message_id)
            raise
        except BaseException as exception:
            take_off_frame(exception)
            _end_call(message_id, exception)
            raise
    except BaseException as exception:
        insist(_end_call, message_id, exception)  # An exception may have arrived in the code above.
        raise


def _abandon_stream(message_id: Any, _reference: object = None) -> None:
    span = open_calls.get(message_id)
    if span is not None:
        span.attributes = {**span.attributes, "zerorpc.stream": "abandoned"}
    _end_call(message_id)


def _end_call(message_id: Any, exception: BaseException | None = None) -> None:
    span = open_calls.get(message_id)
    if span is not None:
        span.end(exception)
        if unread_streams:
            unread_streams.pop(message_id, None)
        open_calls.pop(message_id, None)


def wrap_handle_remote_error(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``ClientBase._handle_remote_error``: a hook may raise instead of returning an exception."""

    @functools.wraps(original)
    def _handle_remote_error(self: Any, event: Any) -> Any:
        try:
            return original(self, event)
        except BaseException as exception:
            take_off_frame(exception)
            try:
                span = open_calls.get(event.header.get("response_to"))
                if span is not None:
                    before = span.covered_ns  # The duration is subtracted with the reply.
                    take_remote_error(span, exception, event.header.get(REPLY_KEY))
                    span.covered_ns = before
            except Exception:
                diagnostics.contain("zerorpc")
            raise

    return _handle_remote_error


def take_remote_error(span: Span, exception: Any, answer: Any) -> None:
    """Record the origin of a remote exception, or the text that a server without ztrace sent."""
    is_original = issubclass(type(exception), zerorpc.RemoteError)  # Other middleware may have replaced it.
    if is_original:
        messages.describe(exception, f"{exception.name}: {exception.msg}")
    if take_reply(span, answer, exception):
        return
    # A server that relays an error names the class RemoteError, which says nothing.
    if is_original and exception.name != zerorpc.RemoteError.__name__:
        messages.describe_remote(exception, exception.name, exception.msg)
    if is_original and exception.traceback:
        text = exception.traceback[-MAX_REMOTE_TRACEBACK:]
        if len(text) < len(exception.traceback):
            text = text[text.find("\n") + 1 :]  # A truncated secret would not be recognized.
        span.attributes = {**span.attributes, "zerorpc.remote_traceback": text}


def wrap_connect(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``SocketBase.connect`` and ``bind``, which change the address in a client's attributes."""

    @functools.wraps(original)
    def connect(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.__dict__.pop("_ztrace_attributes", None)
        return original(self, *args, **kwargs)

    return connect


def _call_attributes(client: Any) -> dict[str, Any] | None:
    """Return attributes with the address that the client last connected to or bound.

    All spans of a client share the dictionary; attributes are added to a copy. None if it is not traced.
    """
    if not is_traced(client._context):
        return None
    attributes: dict[str, Any] = {"rpc.system.name": "zerorpc"}
    try:
        endpoint = client._events._socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0")
        transport, _, address = endpoint.decode("utf-8", "replace").partition("://")
        host, _, port = address.rpartition(":")
        if transport == "tcp" and port.isdigit():
            attributes["server.address"], attributes["server.port"] = host, int(port)
        elif address:
            attributes["server.address"] = address
        client.__dict__["_ztrace_attributes"] = attributes
    except Exception:
        diagnostics.contain("zerorpc")
    return attributes
