"""State of a ROUTER socket, which may have many requests at a time.

One idea: a REQ has one request at a time, so the identity of its connection is the key of the request. The
server span lasts until the ROUTER sends a message to the same identity, from whichever task. It is current
until the ROUTER receives the next message: what comes then belongs to another request.

Everything else is a message, as at other sockets: a DEALER does not tell which message answers which.
"""

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import zmq

from ztrace import spans
from ztrace.context import SpanContext, find_current, get_current, make_current
from ztrace.middleware.kit import new_span
from ztrace.middleware.zmq.frames import is_request, read_context
from ztrace.middleware.zmq.links import SERVED, UNANSWERED, Messages, Requests, answer
from ztrace.spans import SERVER, Span

#: Requests without a reply that a socket keeps: clients that are gone leave theirs behind.
MAX_OPEN = 1000


class Request(NamedTuple):
    """A request without a reply.

    Attributes:
        span: server span.
        handled: exception that was being handled when the request came.
    """

    span: Span
    handled: BaseException | None


class Routes(Messages):
    """State of a ROUTER socket: messages, and a server span for each request of a REQ."""

    routes = True

    def __init__(self, kind: int) -> None:
        super().__init__(kind)
        self._requests: dict[bytes, Request] = {}
        self._answering: bytes | None = None

    def before_send(self, socket: Any, frames: Sequence[Any]) -> bytes | None:
        """Mark the reply to a request as ready; any other message is one as at other sockets."""
        peer = _identity(self.addressee if self.addressee is not None or not frames else frames[0])
        request = self._requests.get(peer)
        if request is None or request.span.ended:
            return super().before_send(socket, frames)
        self._answering = peer
        return answer(*request, carried=True)

    def after_send(self, error: BaseException | None = None) -> None:
        """End the span of the request that was replied to, unless another reply is to be tried."""
        peer, self._answering, self.addressee = self._answering, None, None
        if peer is None:
            super().after_send(error)
        elif error is None:
            self._requests[peer].span.end()
            del self._requests[peer]

    def before_receive(self) -> None:
        """End the span of the last message; that of a request goes on, and is no longer current."""
        span = self._received
        if span is None or span.kind != SERVER:
            super().before_receive()
            return
        self._received = None
        if not span.ended:
            span.apart.cpu_ns = None  # The thread goes on with other requests.
            if get_current() is span:
                make_current(span.apart.before)

    def after_receive(self, frames: Sequence[Any], text: bytes | None) -> None:
        """Start the server span of a REQ's request, or the consumer span of a message."""
        if text is None or not is_request(text) or len(frames) < 2 or spans.publisher is None:
            super().after_receive(frames, text)
            return
        caller, name = read_context(text)
        if caller is None:
            return
        peer = _identity(frames[0])
        self._give_up(peer, None)  # A REQ sends again, with REQ_RELAXED.
        if len(self._requests) >= MAX_OPEN:
            self._give_up(next(iter(self._requests)), None)
        if not name:
            name = Requests.default_name if self.name is None else self.find_name(frames)
        span = new_span(name, SERVER, SERVED, SpanContext(*caller))
        self._requests[peer] = Request(span, sys.exception())
        current = find_current()
        if current is None or current.ended:
            self._received = span
            span.start()
        else:
            span.start(activate=False)

    def close(self, socket: Any) -> None:
        """End the spans of the requests that were not replied to."""
        if self._received is not None and self._received.kind == SERVER:
            self._received = None
        super().close(socket)
        for peer in list(self._requests):
            self._give_up(peer, sys.exception())

    def _give_up(self, peer: bytes, error: BaseException | None) -> None:
        request = self._requests.get(peer)
        if request is not None:
            if not request.span.ended:
                request.span.set(**{UNANSWERED: True})
                request.span.end(error)
            del self._requests[peer]


def _identity(frame: Any) -> bytes:
    """Return the first frame of a message of a ROUTER; empty if it is none, which the send then rejects."""
    if type(frame) is bytes:
        return frame
    if isinstance(frame, zmq.Frame):
        return frame.bytes
    return bytes(frame) if isinstance(frame, (bytearray, memoryview)) else b""
