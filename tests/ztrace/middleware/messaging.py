"""ZeroMQ sockets of the tests, and what they do."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import zmq
from zmq.backend import Socket as BackendSocket

import ztrace
from tests.ztrace.recording import Recorder
from tests.ztrace.waiting import DEADLINE_S
from ztrace.middleware import zmq as middleware
from ztrace.records import KIND_NUMBERS, Span

middleware.install()
KINDS = {number: name for name, number in KIND_NUMBERS.items()}


class Sockets:
    """Sockets of one context, which are closed after the test."""

    def __init__(self) -> None:
        self.context: Any = zmq.Context()
        self.made: list[Any] = []

    def make(self, kind: int, cls: Any = zmq.Socket) -> Any:
        """Return a new socket that gives up waiting after the deadline."""
        socket = cls(self.context, kind)
        for option in (zmq.RCVTIMEO, zmq.SNDTIMEO):
            BackendSocket.set(socket, option, int(DEADLINE_S * 1000))
        BackendSocket.set(socket, zmq.LINGER, 0)
        self.made.append(socket)
        return socket

    def bind(self, kind: int, cls: Any = zmq.Socket, endpoint: str = "tcp://127.0.0.1:*") -> tuple[Any, str]:
        """Return a bound socket and its endpoint."""
        socket = self.make(kind, cls)
        socket.bind(endpoint)
        address: Any = BackendSocket.get(socket, zmq.LAST_ENDPOINT)
        return socket, address.rstrip(b"\0").decode()

    def connect(self, kind: int, endpoint: str, cls: Any = zmq.Socket) -> Any:
        """Return a connected socket."""
        socket = self.make(kind, cls)
        socket.connect(endpoint)
        return socket

    def pair(self, bound: int, connected: int, cls: Any = zmq.Socket) -> tuple[Any, Any]:
        """Return two sockets that are connected."""
        socket, endpoint = self.bind(bound, cls)
        return socket, self.connect(connected, endpoint, cls)

    def close(self) -> None:
        """Close all sockets and the context."""
        for socket in self.made:
            socket.close()
        self.context.term()


@contextmanager
def serving(serve: Callable[[], object], times: int = 1) -> Iterator[None]:
    """Serve in a thread so many times."""

    def run() -> None:
        for _ in range(times):
            serve()

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def of_kind(recorder: Recorder, kind: str) -> list[Span]:
    """Return the spans of a kind, in the order in which they ended."""
    return [span for span in recorder.spans if KINDS[span.kind] == kind]


def waited(span: Span) -> bool:
    """Return whether a span's own time is less than its duration."""
    return (span.self_ns or 0) < (span.duration_ns or 0)


def echo(rep: Any) -> None:
    """Serve one request, and reply with an error if it is bad."""
    message = rep.recv()
    with ztrace.span("work"):
        pass
    try:
        if message == b"bad":
            raise ValueError("no such word")
        rep.send(message)
    except ValueError:
        rep.send(b"error")


def receive_raw(socket: Any) -> list[bytes]:
    """Receive a message as an untraced program does."""
    frames = [BackendSocket.recv(socket)]
    while BackendSocket.get(socket, zmq.RCVMORE):
        frames.append(BackendSocket.recv(socket))
    return frames
