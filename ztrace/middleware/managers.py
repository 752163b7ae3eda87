"""Middleware for managers of the multiprocessing package: client and server spans of calls through proxies.

One idea: both ends send a pickle, and ``pickle.loads`` ignores what follows one. So the request's context and
the reply travel as trailers, which peers without ztrace do not notice. A connection gets another class, which
adds and reads them where the bytes pass: at the client during a call, at the server for its whole life. The
code of the package runs unchanged, and so do its tracebacks, which a server sends as text.

Calls of managers, as ``create`` and ``incref``, and those for the value of an object (``#GETVALUE``) are
internal, and not traced.

Source: managers.py and connection.py of CPython 3.11 to 3.13.
"""

import functools
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.managers import BaseProxy, RemoteError, Server
from typing import Any

from ztrace import diagnostics, spans
from ztrace.context import NEW, RUNS
from ztrace.exceptions import messages
from ztrace.exceptions.tracebacks import take_off_frame
from ztrace.fused.calls import end_call, start_call
from ztrace.fused.interrupted import fail
from ztrace.fused.serving import ServedSpan, end_served, start_served
from ztrace.lifecycle.recovery import insist
from ztrace.middleware.carriers import read_bytes
from ztrace.middleware.replies import DURATION_BYTES, reply_bytes, take_reply
from ztrace.middleware.trailers import MAX_TRAILER, make_trailer, read_trailer
from ztrace.native import thread_time_ns
from ztrace.process.sharing import shares_thread
from ztrace.spans import Span

#: Value of ``rpc.system.name``.
_SYSTEM = "multiprocessing"
#: Attributes of all server spans; a span that gets others copies them.
_SERVED: dict[str, Any] = {"rpc.system.name": _SYSTEM}

#: Bytes read from the end of a message, more than a trailer has. Python 3.12 may crash when it collects a
#: view of the buffer, which an exception would keep in a frame.
_MAX_TAIL = MAX_TRAILER + 16

#: Kinds of outcomes that are no errors.
_SUCCEEDED = ("#RETURN", "#PROXY")
#: Methods of a connection, which cost less this way than by `super`.
_plain: Any = Connection
_send, _recv = _plain.send, _plain.recv
_send_bytes, _recv_bytes = _plain._send_bytes, _plain._recv_bytes


class _Calling(Connection):  # type: ignore[type-arg,unused-ignore]
    """A client's connection during a call.

    Attributes:
        _ztrace_trailer: of the request.
        _ztrace_reply: text of the reply, once it has arrived.
    """

    _ztrace_trailer: bytes
    _ztrace_reply: bytes | None

    def _send_bytes(self, buf: Any) -> None:
        buf = b"".join((buf, self._ztrace_trailer))
        _send_bytes(self, buf)

    def _recv_bytes(self, maxsize: int | None = None) -> Any:
        received = _recv_bytes(self, maxsize)
        self._ztrace_reply = read_trailer(received.getvalue()[-_MAX_TAIL:])
        return received


class _Serving(Connection):  # type: ignore[type-arg,unused-ignore]
    """A server's connection to one client.

    Attributes:
        _ztrace_context: text of the request's context, None if the client sent none.
        _ztrace_error: exception that the request failed with.
        _ztrace_span: of the request; None between two requests.
    """

    _ztrace_context: bytes | None = None
    _ztrace_error: BaseException | None = None
    _ztrace_span: ServedSpan | None = None

    def recv(self) -> Any:
        """Receive a request, and start its span."""
        try:
            request = _recv(self)
            self._ztrace_begin(request)
            return request
        except BaseException as exception:
            take_off_frame(exception)
            raise

    def send(self, obj: Any) -> None:
        """Send the outcome of a request."""
        try:
            self._ztrace_note(obj)
            _send(self, obj)
        except BaseException as exception:
            take_off_frame(exception)
            raise

    def _recv_bytes(self, maxsize: int | None = None) -> Any:
        received = _recv_bytes(self, maxsize)
        self._ztrace_context = read_trailer(received.getvalue()[-_MAX_TAIL:])
        return received

    def _send_bytes(self, buf: Any) -> None:
        """Send an outcome that could be pickled; the span ends before, and the reply follows."""
        try:
            trailer = self._ztrace_end()
        except BaseException:
            del buf  # A view as well, as in `_MAX_TAIL`.
            raise
        if trailer:
            buf = b"".join((buf, trailer))
        _send_bytes(self, buf)

    def _ztrace_begin(self, request: Any) -> None:
        try:
            self._ztrace_error = None
            name: Any = request[1] if type(request) is tuple and len(request) == 4 else None
            # Names of the package's own methods begin with "#".
            if spans.publisher is not None and type(name) is str and name[:1] != "#":
                caller = read_bytes(self._ztrace_context)
                cpu_ns = None if shares_thread() else thread_time_ns()
                self._ztrace_span = span = ServedSpan()
                start_served(span, name, _SERVED, caller, cpu_ns)
        except Exception:
            diagnostics.contain("managers")

    def _ztrace_note(self, outcome: Any) -> None:
        """Note the exception in an outcome; a text about one that cannot be pickled is not another one."""
        try:
            kind, result = outcome
            if kind in _SUCCEEDED or self._ztrace_span is None:
                return
            if self._ztrace_error is None:
                self._ztrace_error = result if kind == "#ERROR" else _error_of(result)
        except Exception:
            diagnostics.contain("managers")

    def _ztrace_end(self) -> bytes:
        span, error = self._ztrace_span, self._ztrace_error
        if span is None or getattr(span, "_state", NEW) not in RUNS:
            return b""
        try:
            if error is None:
                reply = span.reply().to_bytes(DURATION_BYTES, "big")
                end_served(span)
            else:
                span.reply()  # Recording the exception is not part of the method's time.
                span.end(error)
                reply = reply_bytes(span, error)
            self._ztrace_span = self._ztrace_error = None
            return make_trailer(reply) if self._ztrace_context else b""
        except Exception:
            diagnostics.contain("managers")
            return b""


def _error_of(text: str) -> RemoteError:
    """Return an exception for one of which only the traceback is known, as text."""
    error = RemoteError(text)
    name, _, message = text.rstrip().rpartition("\n")[2].partition(": ")
    messages.describe_remote(error, name, message)
    return error


def install() -> None:
    """Patch proxies, and the servers that start to serve a client from now on, once."""
    _wrap_managers()


@functools.cache
def _wrap_managers() -> None:
    BaseProxy._callmethod = _wrap_call(BaseProxy._callmethod)  # type: ignore[method-assign]
    server: Any = Server
    server.serve_client = _wrap_serve(server.serve_client)


def _wrap_call(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def _callmethod(self: Any, methodname: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006 as it is
        span = connection = None
        try:
            try:
                if spans.publisher is not None and type(methodname) is str and methodname[:1] != "#":
                    span = Span()
                    attributes = self.__dict__.get("_ztrace_attributes") or _attributes_of(self)
                    context = start_call(span, methodname, attributes)
                    if context is not None:
                        connection = _connect(self)
                        if connection is not None:
                            connection._ztrace_trailer = make_trailer(context)
                            connection._ztrace_reply = None
                            connection.__class__ = _Calling
                result = original(self, methodname, args, kwds)
                if span is not None:
                    if connection is not None:
                        connection.__class__ = Connection
                        take_reply(span, connection._ztrace_reply)
                    end_call(span)
                return result
            except BaseException as exception:
                take_off_frame(exception)
                _fail(span, connection, exception)
                raise
        except BaseException as exception:
            insist(_fail, span, connection, exception)  # An exception may have arrived in the code above.
            raise

    return _callmethod


def _connect(proxy: Any) -> Any:
    """Return this thread's connection of a proxy; None if a call is under way or the form is another."""
    if not hasattr(proxy._tls, "connection"):
        proxy._connect()
    connection = proxy._tls.connection
    return connection if type(connection) is Connection else None


def _fail(span: Span | None, connection: Any, exception: BaseException) -> None:
    """End a call that an exception leaves, and give the connection its own class again."""
    if span is None:
        return
    try:
        if connection is not None and type(connection) is _Calling:
            connection.__class__ = Connection  # type: ignore[assignment]
            take_reply(span, connection._ztrace_reply, exception)
    except Exception:
        diagnostics.contain("managers")
    fail(span, exception)


def _attributes_of(proxy: Any) -> dict[str, Any]:
    """Return the attributes of a proxy's calls, all of which share the dictionary."""
    attributes: dict[str, Any] = {"rpc.system.name": _SYSTEM}
    try:
        token = proxy._token
        address = token.address
        if type(address) is tuple:
            attributes["server.address"], attributes["server.port"] = address
        elif type(address) is str:
            attributes["server.address"] = address
        attributes["multiprocessing.type"] = token.typeid
        proxy.__dict__["_ztrace_attributes"] = attributes
    except Exception:
        diagnostics.contain("managers")
    return attributes


def _wrap_serve(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def serve_client(self: Any, conn: Any) -> Any:
        try:
            if type(conn) is Connection:
                conn.__class__ = _Serving
            return original(self, conn)
        except BaseException as exception:
            take_off_frame(exception)
            span = getattr(conn, "_ztrace_span", None)
            if span is not None:  # The method has ended the thread.
                insist(fail, span, exception)
            raise

    return serve_client
