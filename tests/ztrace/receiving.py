"""Minimal collector that keeps messages in memory, and acknowledges them on request."""

import threading
from collections import deque
from types import TracebackType
from typing import Any, Self

import msgpack
import zmq

from tests.ztrace.waiting import DEADLINE_S, wait_for
from ztrace.records import Span
from ztrace.wire import (
    DATA,
    OPEN,
    PROFILE,
    REFUSED,
    TOMBSTONE,
    TOPIC,
    WELCOME,
    Header,
    pack_acks,
    unpack_header,
    unpack_stretch,
)


class Receiver:
    """Bound socket served by a thread; it can be stopped and restarted on the same port.

    Attributes:
        messages: all messages received, including duplicates.
        spans: the stored spans: in order per incarnation, each once, and only while acknowledging.
        open_spans: the spans received before they ended.
        stretches: the time ranges of the tombstones received.
        profiles: the headers and bodies of the stored profiles, as the spans.
        acknowledging: whether to store and acknowledge.
        refusing: whether to refuse every incarnation.
    """

    def __init__(self, endpoint: str = "tcp://127.0.0.1:0", acknowledging: bool = True) -> None:
        self.endpoint = endpoint
        self.acknowledging = acknowledging
        self.refusing = False
        self.messages: list[tuple[Header, list[Span]]] = []
        self.spans: list[Span] = []
        self.open_spans: list[Span] = []
        self.stretches: list[tuple[int, int]] = []
        self.profiles: list[tuple[Header, bytes]] = []
        self.next_sequences: dict[bytes, int] = {}
        self._to_send: deque[bytes] = deque()
        self._routes: list[bytes] = []
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Bind the socket and start receiving."""
        self._stopping.clear()
        context = zmq.Context()
        socket = context.socket(zmq.ROUTER)
        socket.linger = 0
        socket.ipv6 = "[" in self.endpoint
        try:
            socket.bind(self.endpoint)
        except BaseException:
            socket.close()
            context.term()
            raise
        self.endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._routes = []
        self._thread = threading.Thread(target=self._run, args=(context, socket))
        self._thread.start()

    def stop(self) -> None:
        """Close the socket; the received messages are kept."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(DEADLINE_S)
            assert not self._thread.is_alive()
            self._thread = None

    def send(self, frame: bytes) -> None:
        """Send a frame to all publishers."""
        self._to_send.append(frame)
        wait_for(lambda: not self._to_send)

    def headers(self, kind: int) -> list[Header]:
        """Return the headers of one kind, in order of arrival."""
        return [header for header, _ in list(self.messages) if header.kind == kind]

    def names(self) -> list[str]:
        """Return the names of the stored spans."""
        return [span.name for span in list(self.spans)]

    def _run(self, context: "zmq.Context[Any]", socket: "zmq.Socket[bytes]") -> None:
        try:
            while not self._stopping.is_set():
                if self._to_send:
                    for route in self._routes:
                        socket.send_multipart([route, self._to_send[0]])
                    self._to_send.popleft()
                if not socket.poll(5):
                    continue
                route, *frames = socket.recv_multipart()
                if frames == [b""]:
                    self._routes.append(route)
                    socket.send_multipart([route, WELCOME])
                elif len(frames) != 3 or frames[0] != TOPIC:
                    continue  # A client of the port's former owner has sent it.
                elif (answer := self._take(*frames)) is not None:
                    socket.send_multipart([route, answer])
        finally:
            # The linger delivers the last acknowledgement, unless the publisher has disconnected.
            socket.close(linger=100)
            context.term()

    def _take(self, topic: bytes, packed: bytes, body: bytes) -> bytes | None:
        """Store a message, and return its acknowledgement, or None while not acknowledging."""
        header = unpack_header(packed)
        spans = []
        if header.kind in (DATA, OPEN):
            spans = [Span(*fields) for fields in msgpack.unpackb(body)]
        elif header.kind == TOMBSTONE:
            stretch = unpack_stretch(body)
            assert stretch is not None
            self.stretches.append(stretch)
        self.messages.append((header, spans))
        if header.kind == OPEN:
            self.open_spans += spans
        if self.refusing:
            return pack_acks({header.incarnation: REFUSED})
        if not self.acknowledging:
            return None
        expected = max(self.next_sequences.get(header.incarnation, 0), header.floor)
        if header.covered and header.sequence == expected:
            self.spans += spans
            if header.kind == PROFILE:
                self.profiles.append((header, body))
            expected += header.covered
        self.next_sequences[header.incarnation] = expected
        return pack_acks({header.incarnation: expected})
