"""State of each traced socket: its open spans, and when to send context.

An exception may arrive anywhere, so a span is kept before it is started, and forgotten once it has ended.

REQ and REP are calls, with client and server spans; all other sockets have messages, with producer and
consumer spans, and send context only where the program has asked for it with `ztrace.carry`, or where the
peer of a DEALER is known to be traced. A ROUTER has both (`ztrace.middleware.zmq.routers`).
"""

import sys
from collections.abc import Sequence
from typing import Any

import zmq

from ztrace import diagnostics, spans
from ztrace.context import NEW, RUNS, SpanContext, find_current
from ztrace.fused.calls import end_call, start_call
from ztrace.fused.interrupted import fail, has_started
from ztrace.fused.serving import ServedSpan, end_served, start_served
from ztrace.libraries import LIBRARIES, PEER_NOT_KNOWN
from ztrace.lifecycle.recovery import insist
from ztrace.middleware.carriers import write_bytes
from ztrace.middleware.kit import new_span
from ztrace.middleware.replies import DURATION_BYTES, reply_bytes, take_reply
from ztrace.middleware.zmq.endpoints import Name, is_listed, name_at
from ztrace.middleware.zmq.frames import (
    DURATION,
    MESSAGE,
    REQUEST,
    context_frame,
    read_context,
    read_reply,
    reply_frame,
)
from ztrace.middleware.zmq.peers import Peer
from ztrace.native import thread_time_ns
from ztrace.process.sharing import shares_thread
from ztrace.spans import CONSUMER, PRODUCER, Span

#: Value of ``rpc.system.name`` and ``messaging.system``.
SYSTEM = "zeromq"
#: Attribute of a request without context, with the reason.
UNJOINED = LIBRARIES["zmq"].unjoined
#: Attribute of a request that has no reply.
UNANSWERED = "zeromq.unanswered"
#: Attributes of all server spans; a span that gets others copies them.
SERVED: dict[str, Any] = {"rpc.system.name": SYSTEM}


class Link:
    """State of one socket, and what happens before and after it sends and receives.

    Attributes:
        sending: whether a send is under way, which has to be left alone: it is ztrace's, or within another.
        receiving: likewise.
        more: whether the message that is being sent frame by frame has begun.
        pushed_back: frames that were received to look at them.
        found: text of a frame that was received while a frame of the program's is still to come.
        asynchronous: whether the socket is an asyncio socket's, whose future ends the receive.
        received: message of an asyncio socket, until it is awaited.
        leads: whether the frame of ztrace's comes first.
        ends: whether a span may end with a send that succeeds.
        consumes: whether a message may have a span, until the next one.
        routes: whether the first frame of a message is the identity of its peer.
        addressee: that frame of a message that is being sent frame by frame.
        envelopes: whether a message may begin with an envelope, for a REP or REQ.
        publishes: whether subscriptions are compared with the first frame.
        subscribes: whether the frame of ztrace's may be the last.
        carrying: whether the program has asked for context to be sent.
        name: of calls or messages, as the program has given it.
    """

    # Not the socket itself: it is closed when the program releases it, and a cycle would keep it alive.
    leads = announced = consumes = routes = False
    ends = True
    default_name = "message"

    def __init__(self, kind: int) -> None:
        self.sending = self.receiving = self.more = self.asynchronous = False
        self.carrying = self._named = False
        self._listed = True
        self.name: Name = None
        self.pushed_back: list[Any] = []
        self.found: bytes | None = None
        self.received: tuple[Sequence[Any], bytes | None] | None = None
        self.addressee: Any = None
        self.envelopes = kind in (zmq.DEALER, zmq.ROUTER)
        self.publishes = kind in (zmq.PUB, zmq.XPUB)
        self.subscribes = kind in (zmq.SUB, zmq.XSUB)
        self.peer = Peer(kind in (zmq.REQ, zmq.DEALER))

    def carry(self, name: Name) -> None:
        """Send context with every message, as the program asks."""
        self._named = self.carrying = True
        self.name = name

    def open(self, endpoint: str | bytes) -> None:
        """Send context if all endpoints of the socket are listed."""
        self._listed = self._listed and is_listed(endpoint)
        if not self._named:
            self.carrying = self._listed
            self.name = name_at(endpoint) if self._listed else None

    def before_send(self, socket: Any, frames: Sequence[Any]) -> bytes | None:
        """Return the frame to send with a message, None if there is none."""
        return None

    def after_send(self, error: BaseException | None = None) -> None:
        """End what ends with the send, or does not begin because of an error."""

    def before_receive(self) -> None:
        """End what ends where the next message is asked for."""

    def after_receive(self, frames: Sequence[Any], text: bytes | None) -> None:
        """Begin or end what a message begins or ends."""

    def close(self, socket: Any) -> None:
        """End all spans of the socket, which is being closed."""
        self.peer.close(socket)

    def find_name(self, frames: Sequence[Any]) -> str:
        """Return the name that the program gives a call or message, by default that of all."""
        name = self.name
        if name is None:
            return self.default_name
        if isinstance(name, str):
            return name
        try:
            return str(name(frames))
        except Exception:
            diagnostics.contain("zmq")
            return self.default_name


class Requests(Link):
    """State of a REQ socket: one client span from each request to its reply."""

    leads = True
    ends = False
    default_name = "request"

    def __init__(self, kind: int) -> None:
        super().__init__(kind)
        self._span: Span | None = None
        #: Shared by all spans; attributes are added to a copy.
        self._attributes: dict[str, Any] | None = None

    def before_send(self, socket: Any, frames: Sequence[Any]) -> bytes | None:
        """Start the client span, and return its context if the peer takes it."""
        if self._span is not None:  # Sent again, with REQ_RELAXED.
            self._give_up(None)
        if spans.publisher is None:
            return None
        joined = self.peer.before_send(socket) or self.carrying
        if self._attributes is None:
            self._attributes = _describe_peer(socket)
        attributes = self._attributes
        if not joined:
            reason = "peer not traced" if self.peer.traced is False else PEER_NOT_KNOWN
            attributes = {**attributes, UNJOINED: reason}
        name = self.default_name if self.name is None else self.find_name(frames)
        self._span = span = Span()
        context = start_call(span, name, attributes)
        if context is None or not joined:
            return None
        return REQUEST + context if self.name is None else context_frame(REQUEST, context, name)

    def after_send(self, error: BaseException | None = None) -> None:
        """End the span of a request that could not be sent."""
        if error is not None and self._span is not None:
            insist(fail, self._span, error)
            self._span = None

    def after_receive(self, frames: Sequence[Any], text: bytes | None) -> None:
        """End the span with its reply."""
        span = self._span
        if span is not None:
            if text is not None:
                take_reply(span, read_reply(text))
            end_call(span)
            self._span = None

    def close(self, socket: Any) -> None:
        """End the span of a request that no reply has come to, with the exception that is being handled."""
        super().close(socket)
        if self._span is not None:
            self._give_up(sys.exception())

    def _give_up(self, error: BaseException | None) -> None:
        span = self._span
        if span is not None and has_started(span):
            span.set(**{UNANSWERED: True})
            span.end(error)
        self._span = None


class Replies(Link):
    """State of a REP socket: one server span from each request to its reply."""

    leads = True
    default_name = "request"

    def __init__(self, kind: int) -> None:
        super().__init__(kind)
        self._span: ServedSpan | None = None
        self._serving = self._carried = False
        #: Exception that was being handled when the request came: the reply's error is another one.
        self._handled: BaseException | None = None

    def before_send(self, socket: Any, frames: Sequence[Any]) -> bytes | None:
        """Mark the reply as ready, and end the span if the reply is sent for an exception."""
        span = self._span
        if span is None or getattr(span, "_state", NEW) not in RUNS:
            return None
        return answer(span, self._handled, self._carried)

    def after_send(self, error: BaseException | None = None) -> None:
        """End the span, unless another reply is to be tried."""
        if error is None:
            if self._span is not None:
                end_served(self._span)
            self._span, self._serving, self._handled = None, False, None

    def after_receive(self, frames: Sequence[Any], text: bytes | None) -> None:
        """Start the server span, which is current until the reply."""
        if self._serving or spans.publisher is None:
            return  # Another frame of the same request.
        caller, name = (None, "") if text is None else read_context(text)
        self._serving, self._carried = True, caller is not None
        self._handled = sys.exception()
        if not name:
            name = self.default_name if self.name is None else self.find_name(frames)
        cpu_ns = None if shares_thread() else thread_time_ns()
        self._span = span = ServedSpan()
        start_served(span, name, SERVED, caller, cpu_ns)

    def close(self, socket: Any) -> None:
        """End the span of a request that was not replied to."""
        super().close(socket)
        span = self._span
        if span is not None and has_started(span):
            span.set(**{UNANSWERED: True})
            span.end(sys.exception())
        self._span, self._serving, self._handled = None, False, None


class Messages(Link):
    """State of any other socket: a producer span for each message sent, a consumer span for each received."""

    consumes = True

    def __init__(self, kind: int) -> None:
        super().__init__(kind)
        self._sent: Span | None = None
        self._received: Span | None = None

    def before_send(self, socket: Any, frames: Sequence[Any]) -> bytes | None:
        """Start the producer span of a message with context."""
        if spans.publisher is None or not (self.carrying or self.peer.before_send(socket)):
            return None
        name = self.find_name(frames)
        self._sent = span = new_span(name, PRODUCER, {"messaging.system": SYSTEM})
        if span.start(activate=False).ended:
            return None
        return context_frame(MESSAGE, write_bytes(span), name if self.name is not None else "")

    def after_send(self, error: BaseException | None = None) -> None:
        """End the producer span."""
        if self._sent is not None:
            self._sent.end(error)
            self._sent = None

    def before_receive(self) -> None:
        """End the span of the message that was received last: its work is done."""
        if self._received is not None:
            self._received.end()
            self._received = None

    def after_receive(self, frames: Sequence[Any], text: bytes | None) -> None:
        """Start the consumer span, which is current until the next message is asked for.

        A message that is received within another span does not become current: that span goes on.
        """
        if text is None or read_reply(text) is not None or spans.publisher is None:
            return
        caller, name = read_context(text)
        if caller is None:
            return
        context = SpanContext(*caller)
        current = find_current()
        name = name or self.find_name(frames)
        span = new_span(name, CONSUMER, {"messaging.system": SYSTEM}, context, (context,))
        if current is not None and not current.ended:
            span.start(activate=False).end()
            return
        self._received = span
        span.start()

    def close(self, socket: Any) -> None:
        """End the span of the last message."""
        super().close(socket)
        if self._received is not None:
            self._received.end(sys.exception())
            self._received = None


def answer(span: Span, handled: BaseException | None, carried: bool) -> bytes | None:
    """Mark the reply of a server span as ready, and end the span if the reply is sent for an exception.

    Args:
        span: of the request; it runs.
        handled: exception that was being handled when the request came: the reply's error is another one.
        carried: whether the request had context.

    Returns:
        The frame for a request that had context.
    """
    error = sys.exception()
    duration_ns = span.reply()
    if error is None or error is handled:
        return DURATION + duration_ns.to_bytes(DURATION_BYTES, "big") if carried else None
    span.end(error)
    return reply_frame(reply_bytes(span, error)) if carried else None


def _describe_peer(socket: Any) -> dict[str, Any]:
    """Return the attributes of requests: the address that the socket last connected to or bound."""
    attributes: dict[str, Any] = {"rpc.system.name": SYSTEM}
    endpoint = socket.get(zmq.LAST_ENDPOINT).rstrip(b"\0").decode("utf-8", "replace")
    transport, _, address = endpoint.partition("://")
    host, _, port = address.rpartition(":")
    if transport == "tcp" and port.isdigit():
        attributes["server.address"], attributes["server.port"] = host, int(port)
    elif address:
        attributes["server.address"] = address
    return attributes
