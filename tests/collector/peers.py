"""Publishers' sockets, for tests of the collector's socket."""

from typing import Any, Protocol

import zmq

from tests.collector.messages import Sender
from tests.ztrace.waiting import wait_for
from ztrace.wire import ACK, WELCOME, unpack_acks

#: Longer than any condition takes: only a failing test reaches it.
DEADLINE_S = 60


class Peer:
    """Publisher's socket and account, as in an agent."""

    def __init__(
        self, context: "zmq.Context[Any]", endpoint: str, number: int = 0, *, lasting: bool = False
    ) -> None:
        """Start connecting.

        Args:
            context: the context of the socket.
            endpoint: the collector's endpoint.
            number: the number of the sender.
            lasting: also receive what has arrived before the end of the first connection, and never reconnect
                with a hello.
        """
        self.sender = Sender(number)
        self.acknowledged = 0
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.ipv6 = "[" in endpoint
        self.socket.setsockopt(zmq.IMMEDIATE, not lasting)
        self.socket.setsockopt(zmq.PROBE_ROUTER, 1)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 20)
        self.socket.connect(endpoint)

    def wait_for_welcome(self) -> None:
        """Wait until the collector has answered the connection."""
        wait_for(lambda: self.socket.poll(50) and self.socket.recv() == WELCOME)

    def send(self, *messages: list[bytes]) -> None:
        """Send messages to the collector."""
        for message in messages:
            self.socket.send_multipart(message)

    def wait_for_ack(self, sequence: int) -> None:
        """Wait until all sequence numbers below the given one are acknowledged."""

        def acknowledged() -> bool:
            while self.socket.poll(20):
                frame = self.socket.recv()
                if frame.startswith(ACK):
                    self.acknowledged = unpack_acks(frame).get(self.sender.incarnation, self.acknowledged)
            return self.acknowledged >= sequence

        wait_for(acknowledged)


class Connect(Protocol):
    """Factory of publishers that connect to an endpoint."""

    def __call__(self, endpoint: str, number: int = 0, *, lasting: bool = False) -> Peer:
        """Return a new publisher, which may not have connected yet."""
        ...
