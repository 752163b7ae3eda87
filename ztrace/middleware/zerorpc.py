"""zerorpc: a client and a server span for every call, a producer and a consumer span for every message.

One idea: zerorpc's hooks see a call begin and see the header travel, but they do not see every end. So
the hooks carry context, and wrappers around the few functions that every call must leave through end the
spans:

    ClientBase.__call__, _process_response    whatever the caller's greenlet is hit by
    ReqStream.process_answer                  a stream read to its end, failed, abandoned or never read
    ReqRep/ReqStream.process_call             the server's side, lost remotes and unpackable replies included
    Pusher.__call__, Puller._receiver         messages without replies

Context travels as ``traceparent`` in the event header, which servers without ztrace ignore. Back comes, under
`REPLY_KEY`, the server's own duration and the origin of an exception. zerorpc's built-in
methods (``_zerorpc_*``) are not traced.

Source: zerorpc 0.6.3's core.py and patterns.py; docs/explanation/zerorpc.md tells what each wrapper is for.
"""

import functools
import weakref
from collections.abc import Callable, Generator, MutableMapping
from contextvars import ContextVar
from typing import Any

import zerorpc
import zmq

from ztrace import diagnostics, failure, spans
from ztrace.propagation import extract, inject
from ztrace.spans import Span, make_current

#: The key in a reply's header, of a map with "d": the server's duration in ns; and for an exception "o": the
#: trace and span id of its origin; and for one that the server itself got as a reply "m": its message, since
#: its ``str`` is a whole traceback by now.
REPLY_KEY = "ztrace"
#: Characters kept of the traceback that a server without ztrace sends: its end says what happened.
MAX_REMOTE_TRACEBACK = 4000

#: Client spans by their request's message id, from before_request to their end.
_open_calls: dict[Any, Span] = {}
#: Keeps the weak references alive that tell when a stream is thrown away unread, by message id.
_unread_streams: dict[Any, "weakref.ref[Any]"] = {}
#: The call this greenlet is about to send; before_request fills it in for the wrapper around it.
_calling: "ContextVar[_Calling | None]" = ContextVar("ztrace_zerorpc_calling", default=None)
#: The request this greenlet is serving, and its span.
_serving: "ContextVar[tuple[Any, Span] | None]" = ContextVar("ztrace_zerorpc_serving", default=None)


class _Calling:
    """A call on its way out: which client makes it, and its message id once it has one."""

    __slots__ = ("client", "message_id")

    def __init__(self, client: Any) -> None:
        self.client = client
        self.message_id: Any = None


def _guarded(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Keep a hook's failures from zerorpc, which would answer the caller with them, or not at all."""

    @functools.wraps(hook)
    def call(*args: Any) -> Any:
        try:
            return hook(*args)
        except Exception:
            diagnostics.count_failure("zerorpc")
            return {} if hook.__name__ == "get_task_context" else None

    return call


class ZerorpcMiddleware:
    """The hooks, for ``context.register_middleware(ZerorpcMiddleware())``.

    `ztrace.instrument` registers one with every context; this class is for tracing some of them only. All
    state is the module's, so registering twice traces once.
    """

    def __init__(self) -> None:
        _wrap_zerorpc()

    @_guarded
    def get_task_context(self) -> dict[str, str]:
        """Give a message, a reply or a forked task the current span; a request gets its own later."""
        header: dict[str, str] = {}
        if _calling.get() is None:
            inject(header)
        return header

    @_guarded
    def load_task_context(self, header: MutableMapping[str, Any]) -> None:
        """Make the sender's span current: what `zerorpc.fork_task_context` counts on."""
        make_current(extract(header))

    @_guarded
    def client_before_request(self, request: Any) -> None:
        """Start the client span and send its context along."""
        calling = _calling.get()
        if calling is None or calling.message_id is not None or _is_hidden(request.name):
            return
        span = Span(request.name, kind="client").start(activate=False)
        if not span.ended:
            inject(request.header, span)
            calling.message_id = request.header["message_id"]
            _open_calls[calling.message_id] = span
            span.attributes = _server_attributes(calling.client)

    @_guarded
    def client_after_request(self, request: Any, reply: Any, exception: BaseException | None = None) -> None:
        """Take what the server sent back; end the span unless an exception is about to be raised."""
        span = _open_calls.get(request.header["message_id"])
        if span is None:
            return
        answer = reply.header.get(REPLY_KEY) if reply is not None else None
        if not isinstance(answer, dict):
            answer = {}
        duration_ns = answer.get("d")
        if type(duration_ns) is int and duration_ns > 0:
            span.covered_ns += duration_ns
        if exception is None:
            _end_call(request.header["message_id"])
        elif isinstance(exception, zerorpc.RemoteError):
            message = answer.get("m")
            failure.describe(
                exception, message if isinstance(message, str) else f"{exception.name}: {exception.msg}"
            )
            origin = answer.get("o")
            if isinstance(origin, list) and [len(part) for part in origin] == [16, 8]:
                failure.mark_origin(exception, origin[0], origin[1])
            elif exception.traceback:
                span.set(**{"zerorpc.remote_traceback": exception.traceback[-MAX_REMOTE_TRACEBACK:]})

    @_guarded
    def server_before_exec(self, request: Any) -> None:
        """Start the consumer span of a pulled message; calls get theirs in ``process_call``."""
        if request.identity is None and spans.publisher is not None:
            _serve_message(request)

    @_guarded
    def server_after_exec(self, request: Any, reply: Any) -> None:
        """Send the server's duration back, or end the consumer span."""
        span = _span_of(request)
        if span is None:
            return
        if reply is None:
            _end_message(span, None)
        elif "traceparent" in request.header:
            reply.header[REPLY_KEY] = {"d": span.elapsed_ns()}

    @_guarded
    def server_inspect_exception(self, request: Any, reply: Any, context: Any, exc_info: Any) -> None:
        """Send the exception's origin back; record methods that do not exist, which nothing else sees."""
        exception = exc_info[1]
        span = _span_of(request)
        if span is None and not _is_hidden(request.name) and spans.publisher is not None:
            span = _serve_message(request) if reply is None else _serve_call(request)
            span.end(exception)
        if span is None:
            return
        if reply is None:
            _end_message(span, exception)
        elif "traceparent" in request.header:
            answer: dict[str, Any] = {"d": span.elapsed_ns()}
            origin = failure.origin_of(exception)
            if origin is not None:
                answer["o"] = list(origin)
            if isinstance(exception, zerorpc.RemoteError):
                answer["m"] = failure.message_of(exception)
            reply.header[REPLY_KEY] = answer


def install() -> None:
    """Register the middleware with every zerorpc context, those that exist and those to come."""
    _wrap_zerorpc()
    _wrap_contexts()
    if zerorpc.Context._instance is not None:
        _register(zerorpc.Context._instance)


@functools.cache
def _wrap_zerorpc() -> None:
    """Put the wrappers in place, once; they do nothing for contexts without the middleware."""
    from zerorpc import core, patterns

    core.ClientBase.__call__ = _wrap_call(core.ClientBase.__call__)
    core.ClientBase._process_response = _wrap_process_response(core.ClientBase._process_response)
    core.Pusher.__call__ = _wrap_push(core.Pusher.__call__)
    core.Puller._receiver = _wrap_receiver(core.Puller._receiver)
    patterns.ReqStream.process_answer = _wrap_process_answer(patterns.ReqStream.process_answer)
    for pattern in (patterns.ReqRep, patterns.ReqStream):
        pattern.process_call = _wrap_process_call(pattern.process_call)


@functools.cache
def _wrap_contexts() -> None:
    original = zerorpc.Context.__init__

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        _register(self)

    zerorpc.Context.__init__ = __init__


def _register(context: Any) -> None:
    if not _is_traced(context):
        context.register_middleware(ZerorpcMiddleware())


def _is_traced(context: Any) -> bool:
    return any(type(middleware) is ZerorpcMiddleware for middleware in context._middlewares)


def _is_hidden(name: object) -> bool:
    return isinstance(name, str) and name.startswith("_zerorpc_")


# The client's side.


def _wrap_call(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def __call__(self: Any, method: Any, *args: Any, **kargs: Any) -> Any:
        if spans.publisher is None or not _is_traced(self._context):
            return original(self, method, *args, **kargs)
        calling, before = _Calling(self), _calling.get()
        _calling.set(calling)
        try:
            return original(self, method, *args, **kargs)
        except BaseException as exception:
            _end_call(calling.message_id, exception)
            raise
        finally:
            _calling.set(before)

    return __call__


def _wrap_process_response(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def _process_response(self: Any, request: Any, channel: Any, timeout: Any) -> Any:
        try:
            return original(self, request, channel, timeout)
        except BaseException as exception:
            _end_call(request.header.get("message_id"), exception)
            raise

    return _process_response


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
        span.set(**{"zerorpc.stream": "abandoned"})
    _end_call(message_id)


def _end_call(message_id: Any, exception: BaseException | None = None) -> None:
    span = _open_calls.pop(message_id, None)
    _unread_streams.pop(message_id, None)
    if span is not None:
        span.end(exception)


def _server_attributes(client: Any) -> dict[str, Any]:
    """Name the callee before it has answered: by the address the client last connected or bound."""
    attributes: dict[str, Any] = {"rpc.system.name": "zerorpc"}
    endpoint = client._events._socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode("utf-8", "replace")
    transport, _, address = endpoint.partition("://")
    host, _, port = address.rpartition(":")
    if transport == "tcp" and port.isdigit():
        attributes["server.address"], attributes["server.port"] = host, int(port)
    elif address:
        attributes["server.address"] = address
    return attributes


# The server's side.


def _wrap_process_call(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def process_call(self: Any, context: Any, channel: Any, request: Any, functor: Any) -> Any:
        if spans.publisher is None or _is_hidden(request.name) or not _is_traced(context):
            return original(self, context, channel, request, functor)
        span = _serve_call(request)
        try:
            result = original(self, context, channel, request, functor)
        except BaseException as exception:
            span.end(exception)
            raise
        span.end()
        return result

    return process_call


def _serve_call(request: Any) -> Span:
    span = Span(request.name, kind="server", parent=extract(request.header)).start()
    span.attributes = {"rpc.system.name": "zerorpc"}
    _serving.set((request, span))
    return span


def _span_of(request: Any) -> Span | None:
    serving = _serving.get()
    return serving[1] if serving is not None and serving[0] is request else None


# Messages without replies.


def _wrap_push(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def __call__(self: Any, method: Any, *args: Any) -> Any:
        if spans.publisher is None or not _is_traced(self._context):
            return original(self, method, *args)
        with Span(method, kind="producer") as span:
            span.attributes = {"messaging.system": "zerorpc"}
            return original(self, method, *args)

    return __call__


def _wrap_receiver(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def _receiver(self: Any) -> Any:
        try:
            return original(self)
        except BaseException as exception:  # Killed, or timed out, while it served a message.
            serving = _serving.get()
            if serving is not None:
                _end_message(serving[1], exception)
            raise

    return _receiver


def _serve_message(request: Any) -> Span:
    """Start a consumer span below the producer's, and linked to it: the sender did not wait for it."""
    sender = extract(request.header)
    make_current(None)
    span = Span(
        request.name,
        kind="consumer",
        parent=sender,
        links=None if sender is None else (sender,),
    ).start()
    span.attributes = {"messaging.system": "zerorpc"}
    _serving.set((request, span))
    return span


def _end_message(span: Span, exception: BaseException | None) -> None:
    """End a consumer span, and leave nothing current for the message after it: one greenlet serves all."""
    span.end(exception)
    _serving.set(None)
    make_current(None)
