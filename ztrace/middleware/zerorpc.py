"""zerorpc: a client and a server span for every call, a producer and a consumer span for every message.

One idea: zerorpc's hooks see a call begin and see the header travel, but they do not see every end. So the
hooks start spans and carry context, and wrappers around the few functions that every call must leave through
end them:

    ClientBase.__call__                whatever the caller's greenlet is hit by; async calls
    ReqStream.process_answer           a stream read to its end, failed, abandoned or never read
    ReqRep/ReqStream.process_call      the server's side, lost remotes and unpackable replies included
    Pusher.__call__, Puller._receiver  messages without replies

Context travels as ``traceparent`` in the event header, which servers without ztrace ignore. Back comes, under
`REPLY_KEY`, the server's own duration and the origin of an exception. zerorpc's built-in methods
(``_zerorpc_*``) are not traced.

Between two calls a process does other things, and this code is cold when it runs: what counts is how much of
it runs at all, which is why hooks are short and nothing is done twice.

Source: zerorpc 0.6.3's core.py and patterns.py; docs/explanation/zerorpc.md tells what each wrapper is for.
"""

import functools
import sys
import weakref
from collections.abc import Callable, Generator, MutableMapping
from contextvars import ContextVar
from typing import Any

import zerorpc
import zmq
from gevent import GreenletExit
from gevent.event import AsyncResult
from zerorpc import core, patterns

from ztrace import diagnostics, failure, spans
from ztrace.propagation import extract, inject, parse_traceparent
from ztrace.spans import CLIENT, CONSUMER, PRODUCER, SERVER, Span, make_current, start_span

#: The key in a reply's header, of a map with "d": the server's duration in ns; and for an exception "o": the
#: trace and span id of its origin; and for one that the server itself got as a reply "m": its message, since
#: its ``str`` is a whole traceback by now.
REPLY_KEY = "ztrace"
#: Characters kept of the traceback that a server without ztrace sends: its end says what happened.
MAX_REMOTE_TRACEBACK = 4000

#: Client spans by their request's message id, from before_request on: the reply may come to another greenlet.
_open_calls: dict[Any, Span] = {}
#: Keeps the weak references alive that tell when a stream is thrown away unread, by message id.
_unread_streams: dict[Any, "weakref.ref[Any]"] = {}
#: The call that this greenlet made last, for before_request to send its context along.
_calling: "ContextVar[_Call | None]" = ContextVar("ztrace_zerorpc_calling", default=None)
#: The request this greenlet is serving, and its span.
_serving: ContextVar[tuple[Any, Span | None]] = ContextVar("ztrace_zerorpc_serving", default=(None, None))

#: Where zerorpc asks for a task context that is not needed: a request gets its own span's in before_request,
#: and a reply tells its caller nothing new.
#: A tuple: code objects are quick to tell apart, and slow to hash.
_NEEDS_NO_CONTEXT = (
    core.ClientBase.__call__.__code__,
    patterns.ReqRep.process_call.__code__,
    patterns.ReqStream.process_call.__code__,
    core.ServerBase._async_task.__code__,
)


class _Call:
    """A call on its way: its span, and the message id of its request once it has one."""

    __slots__ = ("message_id", "span")

    span: Span
    message_id: Any


class ZerorpcMiddleware:
    """The hooks, for ``context.register_middleware(ZerorpcMiddleware())``.

    `ztrace.instrument` registers one with every context; this class is for tracing some of them only. All
    state is the module's, so registering twice traces once. No hook raises: zerorpc would answer the caller
    with that, or not at all.
    """

    def __init__(self) -> None:
        _wrap_zerorpc()

    def get_task_context(self) -> dict[str, str]:
        """Give a message or a forked task the current span."""
        header: dict[str, str] = {}
        try:
            # This hook, hook_get_task_context, and who called that.
            if spans.publisher is not None and sys._getframe(2).f_code not in _NEEDS_NO_CONTEXT:
                inject(header)
        except Exception:
            diagnostics.count_failure("zerorpc")
        return header

    def load_task_context(self, header: MutableMapping[str, Any]) -> None:
        """Make the sender's span current in a task that `zerorpc.fork_task_context` began.

        A request's header comes here too; its span is started, and made current, before the method runs.
        """
        if spans.publisher is not None and "message_id" not in header:
            make_current(extract(header))

    def client_before_request(self, request: Any) -> None:
        """Send the context of the call's span along."""
        if spans.publisher is None:
            return
        try:
            call = _calling.get()
            if call is not None and not call.span.ended:
                span, header = call.span, request.header
                flags, state = span.w3c
                header["traceparent"] = f"00-{span.trace_id.hex()}-{span.span_id.hex()}-{flags:02x}"
                if state:
                    header["tracestate"] = state
                call.message_id = message_id = header["message_id"]
                _open_calls[message_id] = span
        except Exception:
            diagnostics.count_failure("zerorpc")

    def client_after_request(self, request: Any, reply: Any, exception: BaseException | None = None) -> None:
        """Take what the server sent back; end the span unless an exception is about to be raised."""
        try:
            message_id = request.header["message_id"]
            span = _open_calls.get(message_id)
            if span is None:
                return
            answer = reply.header.get(REPLY_KEY) if reply is not None else None
            if type(answer) is not dict:
                answer = {}
            elif type(duration_ns := answer.get("d")) is int and duration_ns > 0:
                span.covered_ns += duration_ns
            if exception is not None:
                if reply is not None:
                    _take_remote_error(span, exception, answer)
                return
            del _open_calls[message_id]
            if _unread_streams:
                _unread_streams.pop(message_id, None)
            span.__exit__()
        except Exception:
            diagnostics.count_failure("zerorpc")

    def server_before_exec(self, request: Any) -> None:
        """Start the consumer span of a message; a call's server span is started around this."""
        if request.identity is None and spans.publisher is not None:
            _serve(request)

    def server_after_exec(self, request: Any, reply: Any) -> None:
        """Send the server's duration back; end a consumer span."""
        served, span = _serving.get()
        if served is not request or span is None:
            return
        if reply is None:
            _end_message(span)
        elif "traceparent" in request.header:
            reply.header[REPLY_KEY] = {"d": span.reply()}
        else:
            span.reply()

    def server_inspect_exception(self, request: Any, reply: Any, context: Any, exc_info: Any) -> None:
        """Send the exception's origin back; record methods that do not exist, which nothing else sees."""
        if spans.publisher is None:
            return
        try:
            exception = exc_info[1]
            served, span = _serving.get()
            if served is not request:  # An unknown method: nothing was called.
                span = _serve(request)
            if span is None:
                return
            if reply is not None:
                span.reply()
            span.end(exception)
            if reply is None:
                _end_message(span)
            elif "traceparent" in request.header:
                reply.header[REPLY_KEY] = _describe_error(span, exception)
        except Exception:
            diagnostics.count_failure("zerorpc")


def install() -> None:
    """Register the middleware with every zerorpc context, those that exist and those to come."""
    _wrap_contexts()
    if zerorpc.Context._instance is not None:
        _register(zerorpc.Context._instance)


def _is_traced(context: Any) -> bool:
    traced = any(type(middleware) is ZerorpcMiddleware for middleware in context._middlewares)
    if traced:
        context.__dict__["_ztrace"] = True  # What every call asks first; a middleware is never removed.
    return traced


def _register(context: Any) -> None:
    if not _is_traced(context):
        context.register_middleware(ZerorpcMiddleware())


@functools.cache
def _wrap_contexts() -> None:
    original = zerorpc.Context.__init__

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        _register(self)

    zerorpc.Context.__init__ = __init__


@functools.cache
def _wrap_zerorpc() -> None:
    """Put the wrappers in place, once; they find nothing to end for contexts without the middleware."""
    core.ClientBase.__call__ = _wrap_call(core.ClientBase.__call__)
    core.SocketBase.connect = _wrap_connect(core.SocketBase.connect)
    core.SocketBase.bind = _wrap_connect(core.SocketBase.bind)
    core.Pusher.__call__ = _wrap_push(core.Pusher.__call__)
    core.Puller._receiver = _wrap_receiver(core.Puller._receiver)
    patterns.ReqStream.process_answer = _wrap_process_answer(patterns.ReqStream.process_answer)
    patterns.ReqStream.process_call = _wrap_process_call(patterns.ReqStream.process_call)
    patterns.ReqRep.process_call = _wrap_process_call(patterns.ReqRep.process_call)


# The client's side.


def _wrap_call(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def __call__(self: Any, method: Any, *args: Any, **kargs: Any) -> Any:
        if spans.publisher is None or not (
            self._context.__dict__.get("_ztrace") or _is_traced(self._context)
        ):
            return original(self, method, *args, **kargs)
        name = method if type(method) is str else _name_of(method)
        if name[:9] == "_zerorpc_":
            _calling.set(None)
            return original(self, method, *args, **kargs)
        attributes = self.__dict__.get("_ztrace_attributes") or _call_attributes(self)
        call = _Call()
        call.message_id = None
        call.span = span = start_span(name, CLIENT, attributes, None, None, False)
        _calling.set(call)
        try:
            result = original(self, method, *args, **kargs)
        except BaseException as exception:
            _open_calls.pop(call.message_id, None)
            span.__exit__(None, exception)
            raise
        if not span.ended:
            _await_result(call, result)
        return result

    return __call__


def _name_of(method: object) -> str:
    return (
        bytes(method).decode("utf-8", "replace")
        if isinstance(method, bytes)
        else f"<{type(method).__name__}>"
    )


def _await_result(call: _Call, result: Any) -> None:
    """See to the end of a span whose call has returned: without a reply so far, or with a stream."""
    try:
        message_id = call.message_id
        if isinstance(result, AsyncResult):
            result.rawlink(lambda done: _end_async(message_id, done))
        elif message_id not in _unread_streams:
            _open_calls.pop(message_id, None)
            call.span.end()
    except Exception:
        diagnostics.count_failure("zerorpc")


def _end_async(message_id: Any, result: AsyncResult) -> None:
    """End the span of an async call that failed, or was killed; a reply has ended it, a stream goes on."""
    if message_id not in _unread_streams:
        killed = result.value if isinstance(result.value, GreenletExit) else None
        _end_call(message_id, result.exception or killed)


def _wrap_process_answer(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def process_answer(
        self: Any, context: Any, channel: Any, request: Any, reply: Any, handle_remote_error: Any
    ) -> Any:
        stream = original(self, context, channel, request, reply, handle_remote_error)
        message_id = request.header.get("message_id")
        if message_id not in _open_calls:
            return stream
        watched = _watch_stream(stream, message_id)
        # A generator that was never started runs nothing when it goes: only a weak reference tells.
        _unread_streams[message_id] = weakref.ref(watched, lambda _: _abandon_stream(message_id))
        return watched

    return process_answer


def _watch_stream(stream: Generator[Any, Any, Any], message_id: Any) -> Generator[Any, Any, Any]:
    try:
        return (yield from stream)
    except GeneratorExit:
        _abandon_stream(message_id)
        raise
    except BaseException as exception:
        _end_call(message_id, exception)
        raise


def _abandon_stream(message_id: Any) -> None:
    span = _open_calls.get(message_id)
    if span is not None:
        span.attributes = {**span.attributes, "zerorpc.stream": "abandoned"}
    _end_call(message_id)


def _end_call(message_id: Any, exception: BaseException | None = None) -> None:
    span = _open_calls.pop(message_id, None)
    if span is not None:
        span.end(exception)
        if _unread_streams:
            _unread_streams.pop(message_id, None)


def _take_remote_error(span: Span, exception: Any, answer: dict[str, Any]) -> None:
    """Remember where the remote exception was first raised, or what a server without ztrace says of it."""
    is_original = isinstance(exception, zerorpc.RemoteError)  # And not what another middleware made of it.
    if is_original:
        message = answer.get("m")
        failure.describe(exception, message if type(message) is str else f"{exception.name}: {exception.msg}")
    origin = answer.get("o")
    if isinstance(origin, list) and [len(part) for part in origin] == [16, 8]:
        failure.mark_origin(exception, origin[0], origin[1])
    elif is_original and exception.traceback:
        text = exception.traceback[-MAX_REMOTE_TRACEBACK:]
        span.attributes = {**span.attributes, "zerorpc.remote_traceback": text}


def _wrap_connect(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def connect(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.__dict__.pop("_ztrace_attributes", None)
        return original(self, *args, **kwargs)

    return connect


def _call_attributes(client: Any) -> dict[str, Any]:
    """Name the callee before it has answered: by the address the client last connected or bound.

    All spans of a client share the dictionary; what is added to one of them is added to a copy.
    """
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
        diagnostics.count_failure("zerorpc")
    return attributes


# The server's side.


def _wrap_process_call(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def process_call(self: Any, context: Any, channel: Any, request: Any, functor: Any) -> Any:
        if spans.publisher is None or not (context.__dict__.get("_ztrace") or _is_traced(context)):
            return original(self, context, channel, request, functor)
        span = _serve(request)
        try:
            result = original(self, context, channel, request, functor)
        except BaseException as exception:
            if span is not None:
                span.reply()  # Before the exception is recorded, which is none of the method's time.
                span.__exit__(None, exception)
            raise
        if span is not None:
            span.__exit__()
        return result

    return process_call


def _serve(request: Any) -> Span | None:
    """Start the span of a request: a call's is the caller's child.

    A pulled or published message's is below the sender's and linked to it, since the sender did not wait.
    Its events have no identity, and one greenlet serves them all.
    """
    span = None
    try:
        name, header = request.name, request.header
        if name[:9] != "_zerorpc_":
            traceparent = header.get("traceparent")
            parent = parse_traceparent(traceparent, header.get("tracestate")) if traceparent else None
            if request.identity is not None:
                span = start_span(name, SERVER, {"rpc.system.name": "zerorpc"}, parent)
            else:
                make_current(None)
                links = (parent,) if parent else None
                span = start_span(name, CONSUMER, {"messaging.system": "zerorpc"}, parent, links)
            if span.ended:
                span = None  # It could not be started: nothing is to be asked of it.
    except Exception:
        diagnostics.count_failure("zerorpc")
    _serving.set((request, span))
    return span


def _describe_error(span: Span, exception: BaseException) -> dict[str, Any]:
    answer: dict[str, Any] = {"d": span.reply()}
    origin = failure.origin_of(exception)
    if origin is not None:
        answer["o"] = list(origin)
    if isinstance(exception, zerorpc.RemoteError):
        answer["m"] = failure.message_of(exception)
    return answer


# Messages without replies.


def _wrap_push(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def __call__(self: Any, method: Any, *args: Any) -> Any:
        if spans.publisher is None or not _is_traced(self._context):
            return original(self, method, *args)
        span = start_span(method, PRODUCER, {"messaging.system": "zerorpc"})
        try:
            original(self, method, *args)
        except BaseException as exception:
            span.end(exception)
            raise
        span.end()

    return __call__


def _wrap_receiver(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def _receiver(self: Any) -> Any:
        try:
            return original(self)
        except BaseException as exception:  # Killed, or timed out, while it served a message.
            span = _serving.get()[1]
            if span is not None:
                _end_message(span, exception)
            raise

    return _receiver


def _end_message(span: Span, exception: BaseException | None = None) -> None:
    """End a consumer span, and leave nothing current for the message after it."""
    span.end(exception)
    _serving.set((None, None))
    make_current(None)
