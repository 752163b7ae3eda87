"""Messages of rpyc with trailers: how one is added to a message to send, and found in one that has come."""

import functools
import sys
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any

from rpyc.core import brine, consts

from ztrace import diagnostics
from ztrace.context import HOLDS, Context
from ztrace.exceptions.tracebacks import take_off_frame
from ztrace.middleware.carriers import context_text
from ztrace.middleware.replies import reply_text
from ztrace.middleware.trailers import make_trailer, read_trailer
from ztrace.spans import Span

#: Key of the served requests in a connection's ``__dict__``: by the number of the request its span, and
#: whether the caller is traced.
SERVED = "_ztrace_served"

#: Text of the trailer of the message that is being dispatched.
arrived: ContextVar[bytes | None] = ContextVar("ztrace_rpyc_arrived", default=None)


def set_arrived(text: bytes | None) -> None:
    """Remember the trailer of a message while the message is dispatched."""
    _held = copy_context() if HOLDS else None
    arrived.set(text)


class Request(int):
    """Number of a request's handler, with the context to send; it is a plain number in the message."""

    context: Context
    #: Whether the context is a client span's that ends with the reply, and not with the call.
    asynchronous: bool
    #: Whether the context is the client span of the request, and not another span that is current.
    called: bool


def make_request(handler: int, context: Context, called: bool, asynchronous: bool = False) -> Request:
    """Return the number of a handler with a context."""
    request = Request(handler)
    request.context, request.called, request.asynchronous = context, called, asynchronous
    return request


class Trailing:
    """Arguments of a message, with a trailer: they are its last part."""

    __slots__ = ("arguments", "trailer")

    def __init__(self, arguments: Any, trailer: bytes) -> None:
        self.arguments = arguments
        self.trailer = trailer


def dump_trailing(trailing: Trailing, stream: list[bytes]) -> None:
    """Encode arguments and their trailer, as a function of brine's registry."""
    brine._dump(trailing.arguments, stream)
    stream.append(trailing.trailer)


def wrap_send(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Connection._send``, which encodes every message."""

    @functools.wraps(original)
    def _send(self: Any, msg: int, seq: int, args: Any) -> Any:
        try:
            if msg == consts.MSG_REQUEST:
                request = args[0]
                if type(request) is Request:
                    args = Trailing((int(request), *args[1:]), make_trailer(context_text(request.context)))
            else:
                served = self.__dict__.get(SERVED)
                if served and seq in served:
                    span, carried = served[seq]
                    text = _reply(span, carried, sys.exception() if msg == consts.MSG_EXCEPTION else None)
                    args = args if text is None else Trailing(args, make_trailer(text.encode("ascii")))
        except Exception:
            diagnostics.contain("rpyc")
        return original(self, msg, seq, args)

    return _send


def _reply(span: Span, carried: bool, error: BaseException | None) -> str | None:
    """End the span of a failed request, and return the reply's text for a caller that is traced."""
    if error is not None:
        span.reply()
        span.end(error)
    elif not carried:
        span.reply()
    return reply_text(span, error) if carried else None


def wrap_dispatch(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Connection._dispatch``, which gets every message."""

    @functools.wraps(original)
    def _dispatch(self: Any, data: bytes) -> Any:
        before, text = arrived.get(), read_trailer(data)
        try:
            if text is before:
                return original(self, data)
            set_arrived(text)
            try:
                return original(self, data)
            finally:
                set_arrived(before)
        except BaseException as exception:
            take_off_frame(exception)
            raise

    return _dispatch
