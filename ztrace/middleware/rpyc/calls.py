"""Client spans of rpyc: from a call to its reply, error, timeout or loss of the connection."""

import functools
from collections.abc import Callable
from typing import Any

from rpyc.core import consts, vinegar
from rpyc.core.async_ import AsyncResult

from ztrace import diagnostics, spans
from ztrace.context import find_current
from ztrace.exceptions import messages
from ztrace.exceptions.locals import name_class
from ztrace.exceptions.program import call_program
from ztrace.exceptions.tracebacks import take_off_frame
from ztrace.fused.calls import end_call, start_call
from ztrace.fused.interrupted import fail
from ztrace.lifecycle.recovery import insist
from ztrace.middleware.carriers import write_bytes
from ztrace.middleware.replies import take_reply
from ztrace.middleware.rpyc.messages import Answering, Request, make_request
from ztrace.middleware.rpyc.names import name_called, remember_name
from ztrace.spans import Span

#: Requests that run nothing of the program's: the release of an object, within a finalizer, among them.
_BARE = frozenset((consts.HANDLE_DEL, consts.HANDLE_CLOSE, consts.HANDLE_PING, consts.HANDLE_GETROOT))
#: Keys in a connection's ``__dict__``: its attributes, and the spans of its asynchronous calls by the
#: address of their result, which the connection keeps alive until the reply.
_ATTRIBUTES, _OPEN = "_ztrace_attributes", "_ztrace_calls"
#: Characters kept of the traceback sent by a server without ztrace; its end is the informative part.
_MAX_REMOTE_TRACEBACK = 4000


def wrap_sync_request(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Connection.sync_request``, through which every exception of a synchronous call leaves."""

    @functools.wraps(original)
    def sync_request(self: Any, handler: int, *args: Any) -> Any:
        span = None
        try:
            try:
                if spans.publisher is not None and handler not in _BARE:
                    name = _name_called(self, handler, args)
                    if name is None:
                        handler = _carry(handler)
                    else:
                        span = Span()
                        attributes = self.__dict__.get(_ATTRIBUTES) or _describe_peer(self)
                        context = start_call(span, name, attributes)
                        if context is not None:
                            handler = make_request(handler, context, span)
                result = original(self, handler, *args)
                if span is not None:
                    end_call(span)
                elif handler == consts.HANDLE_GETATTR:
                    remember_name(self, result, args[1])
                return result
            except BaseException as exception:
                take_off_frame(exception)
                fail(span, exception)
                raise
        except BaseException as exception:
            insist(fail, span, exception)  # An exception may have arrived in the code above.
            raise

    return sync_request


def wrap_async_request(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Connection.async_request``, which returns before the reply has come."""

    @functools.wraps(original)
    def async_request(self: Any, handler: int, *args: Any, **kwargs: Any) -> Any:
        if type(handler) is Request or spans.publisher is None or handler in _BARE:
            return original(self, handler, *args, **kwargs)
        span = None
        try:
            name = _name_called(self, handler, args)
            if name is None:
                handler = _carry(handler)
            else:
                span = Span()
                context = start_call(span, name, self.__dict__.get(_ATTRIBUTES) or _describe_peer(self))
                if context is not None:
                    handler = make_request(handler, context, span, asynchronous=True)
            result = original(self, handler, *args, **kwargs)
            if span is not None and type(result) is AsyncResult:
                result.__class__ = Result
            return result
        except BaseException as exception:
            take_off_frame(exception)
            insist(fail, span, exception)
            raise

    return async_request


def _name_called(connection: Any, handler: int, args: tuple[Any, ...]) -> str | None:
    """Return the name of a call; other requests have none, and no span."""
    try:
        return name_called(connection, handler, args)
    except Exception:
        diagnostics.contain("rpyc")
    return None


def _carry(handler: int) -> int:
    """Return a request's handler with the current context, which is the parent of whatever it runs."""
    current = find_current()
    if current is None or not current.trace_id:
        return handler
    return make_request(handler, write_bytes(current), None)


def _describe_peer(connection: Any) -> dict[str, Any]:
    """Return the attributes of calls, with the address that the connection leads to.

    All spans of a connection share the dictionary; attributes are added to a copy.
    """
    attributes: dict[str, Any] = {"rpc.system.name": "rpyc"}
    try:
        peer = connection._channel.stream.sock.getpeername()
        if isinstance(peer, tuple):
            attributes["server.address"], attributes["server.port"] = peer[0], peer[1]
        elif peer:
            attributes["server.address"] = peer if isinstance(peer, str) else repr(peer)
    except (AttributeError, OSError):  # Pipes, or a connection that is lost already.
        pass
    connection.__dict__[_ATTRIBUTES] = attributes
    return attributes


def wrap_request(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Connection._async_request``, which registers the callback of every request."""

    @functools.wraps(original)
    def _async_request(self: Any, handler: int, args: Any = (), callback: Any = lambda a, b: None) -> Any:
        if type(handler) is Request:
            if handler.asynchronous:
                self.__dict__.setdefault(_OPEN, {})[id(callback)] = handler.span
            callback = Answer(self, handler, callback)
        return original(self, handler, args, callback)

    return _async_request


class Answer(Answering):
    """Callback of a request, in front of rpyc's: what the reply says of the span and of the exception."""

    __slots__ = ("_callback", "_connection", "_request")

    def __init__(self, connection: Any, request: Request, callback: Callable[[bool, Any], Any]) -> None:
        self.text = None
        self._connection = connection
        self._request = request
        self._callback = callback

    def __call__(self, is_exc: bool, obj: Any) -> Any:
        """Read the reply, then go on with it."""
        error = obj if is_exc and issubclass(type(obj), BaseException) else None
        try:
            span = self._request.span
            marked = True
            if span is not None and (self.text is not None or error is not None):
                marked = take_reply(span, self.text, error)
            if error is not None:
                _describe_error(error, None if marked else span)
        except Exception:
            diagnostics.contain("rpyc")
        finally:
            if self._request.asynchronous:
                insist(self._end, error)
        return self._callback(is_exc, obj)

    def _end(self, error: BaseException | None) -> None:
        fail(self._request.span, error)
        self._connection.__dict__.get(_OPEN, {}).pop(id(self._callback), None)


def _describe_error(error: BaseException, untraced: Span | None = None) -> None:
    """Record a remote exception under its own class and message.

    rpyc raises an instance of a class made for it, whose text has the remote traceback too.

    Args:
        error: as rpyc is about to raise it.
        untraced: span of the call, if the server has not told the origin.
    """
    base = type(error).__bases__[0]
    name = base.__name__ if issubclass(base, vinegar.GenericException) else name_class(base)
    message = call_program(_text_of, error, "<no message: __str__ failed>")
    messages.describe(error, message, name)
    if untraced is not None:
        messages.describe_remote(error, name, message)
        text = vars(error).get("_remote_tb")
        if isinstance(text, str):
            kept = text[-_MAX_REMOTE_TRACEBACK:]
            if len(kept) < len(text):
                kept = kept[kept.find("\n") + 1 :]  # A truncated secret would not be recognized.
            untraced.set(**{"rpyc.remote_traceback": kept})


def _text_of(error: BaseException) -> str:
    base: Any = type(error).__bases__[0]
    return str(base.__str__(error))


class Result(AsyncResult):  # type: ignore[misc]
    """Result of an asynchronous call that has a span, which ends if the result expires."""

    __slots__ = ()

    def wait(self) -> None:
        """Wait for the reply, as rpyc's class does."""
        try:
            AsyncResult.wait(self)
        except BaseException as exception:
            take_off_frame(exception)
            calls = self._conn.__dict__.get(_OPEN)
            span = calls.get(id(self)) if calls else None
            if span is not None:
                span.end(exception)
                calls.pop(id(self), None)
            raise


def wrap_cleanup(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Connection._cleanup``, after which no reply comes."""

    @functools.wraps(original)
    def _cleanup(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls = self.__dict__.pop(_OPEN, None)
        for span in list(calls.values()) if calls else ():
            span.end(EOFError("connection closed"))
        return original(self, *args, **kwargs)

    return _cleanup
