"""Messages of rpyc with trailers: how one is added to a message to send, and found in one that has come."""

import functools
import sys
from collections.abc import Callable
from typing import Any

from rpyc.core import brine, consts

from ztrace import diagnostics
from ztrace.exceptions.tracebacks import take_off_frame
from ztrace.middleware.replies import DURATION_BYTES, reply_bytes
from ztrace.middleware.trailers import make_trailer, read_trailer
from ztrace.spans import Span

#: Key of the served requests in a connection's ``__dict__``: by the number of the request its span, and
#: whether the caller is traced.
SERVED = "_ztrace_served"

#: Key of the texts of requests' trailers in a connection's ``__dict__``, by the number of the request, while
#: the request is dispatched.
ARRIVED = "_ztrace_arrived"
#: First byte of a message behind its kind: a tuple of two, of which the first is the request's number.
_PAIR = brine.TAG_TUP2[0]
#: Codes of numbers that are one byte, and what is subtracted from the byte.
_SMALL, _ZERO = range(0x20, 0xF0), 0x50
#: Code of a number with up to 255 digits.
_DIGITS = brine.TAG_INT_L1[0]
#: Digits of a request's number that no connection reaches.
_MAX_DIGITS = 20


class Request(int):
    """Number of a request's handler, with the context to send; it is a plain number in the message."""

    context: bytes
    #: Client span of the request; None if another span is current, whose context is sent.
    span: Span | None = None
    #: Whether the span ends with the reply, and not with the call.
    asynchronous = False


def make_request(handler: int, context: bytes, span: Span | None, asynchronous: bool = False) -> Request:
    """Return the number of a handler with a context."""
    request = Request(handler)
    request.context, request.span = context, span
    if asynchronous:
        request.asynchronous = True
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
                    args = Trailing((int(request), *args[1:]), make_trailer(request.context))
            else:
                served = self.__dict__.get(SERVED)
                if served and seq in served:
                    span, carried = served[seq]
                    if msg == consts.MSG_EXCEPTION:
                        error = sys.exception()
                        span.reply()
                        span.end(error)
                        reply = reply_bytes(span, error)
                    else:
                        reply = span.reply().to_bytes(DURATION_BYTES, "big")
                    if carried:
                        args = Trailing(args, make_trailer(reply))
        except Exception:
            diagnostics.contain("rpyc")
        return original(self, msg, seq, args)

    return _send


class Answering:
    """Callback of a request to which a traced peer replies.

    Attributes:
        text: of the reply's trailer, once it has come.
    """

    __slots__ = ("text",)

    def __init__(self) -> None:
        self.text: bytes | None = None


def wrap_dispatch(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Connection._dispatch``, which gets every message."""

    @functools.wraps(original)
    def _dispatch(self: Any, data: bytes) -> Any:
        arrived = seq = None
        try:
            text = read_trailer(data)
            if text is not None:
                seq = _read_number(data)
                if data[0] == consts.MSG_REQUEST:
                    arrived = self.__dict__.setdefault(ARRIVED, {})
                    arrived[seq] = text
                else:
                    answer = self._request_callbacks.get(seq)
                    if isinstance(answer, Answering):
                        answer.text = text
            return original(self, data)
        except BaseException as exception:
            take_off_frame(exception)
            raise
        finally:
            if arrived:
                arrived.pop(seq, None)  # Of a request that could not be decoded.

    return _dispatch


def _read_number(data: bytes) -> int | None:
    """Return the number of a message's request, which brine writes first; None if it is written otherwise."""
    if data[1] != _PAIR:
        return None
    code = data[2]
    if code == _DIGITS:
        digits = data[4 : 4 + data[3]]
        return int(digits) if digits.isdigit() and len(digits) < _MAX_DIGITS else None
    return code - _ZERO if code in _SMALL else None
