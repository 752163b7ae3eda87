"""Frames in and out of a ZeroMQ socket, by the methods that cost least.

The methods of pyzmq's own base class, without the checks and options around them, take a third less time, and
a frame that tells of the next saves a question to the socket.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import zmq

T = TypeVar("T")

#: Flags and options as plain integers: those of an enumeration are combined in Python code.
NOBLOCK: Final = int(zmq.NOBLOCK)
SNDMORE: Final = int(zmq.SNDMORE)
NOBLOCK_MORE: Final = NOBLOCK | SNDMORE
EVENTS: Final = int(zmq.EVENTS)
POLLIN: Final = int(zmq.POLLIN)
#: Messages after each of which a socket is asked for more, which takes 1.2 µs. An attempt to receive what is
#: not there raises, which takes 9 µs.
_ASKED: Final = 6
#: Bytes above which ZeroMQ takes a message without a copy.
COPY_BYTES: Final = 65_536


def make_receive(socket: "zmq.Socket[bytes]") -> Callable[[], list[bytes]]:
    """Return a function that receives a message, or raises `zmq.Again` if none has arrived."""
    receive: Callable[..., Any] = super(zmq.Socket, socket).recv
    # A ROUTER puts the identity before each message; of others the first frame may be the only one.
    has_identity = socket.type == zmq.ROUTER

    def receive_message() -> list[bytes]:
        if has_identity:
            frames, more = [receive(NOBLOCK)], True
        else:
            first = receive(NOBLOCK, False)
            frames, more = [first.bytes], first.more
        while more:
            frame = receive(NOBLOCK, False)
            frames.append(frame.bytes)
            more = frame.more
        return frames

    return receive_message


def make_send(socket: "zmq.Socket[bytes]") -> Callable[[Sequence[bytes]], None]:
    """Return a function that sends a message, or raises `zmq.Again` if the peer has no room."""
    send: Callable[..., Any] = super(zmq.Socket, socket).send

    def send_message(frames: Sequence[bytes]) -> None:
        for frame in frames[:-1]:
            send(frame, NOBLOCK_MORE)
        data = frames[-1]
        send(data, NOBLOCK, len(data) < COPY_BYTES)

    return send_message


def make_ask(socket: "zmq.Socket[bytes]") -> Callable[[int], Any]:
    """Return a function that returns the value of a socket's integer option."""
    ask: Callable[[int], Any] = super(zmq.Socket, socket).get
    return ask


def take_arrived(receive: Callable[[], T], ask: Callable[[int], Any], limit: int) -> list[T]:
    """Receive what has arrived, at most ``limit`` messages.

    Args:
        receive: function that receives a message, or raises `zmq.Again`.
        ask: function of the same socket, from `make_ask`.
        limit: number of messages, above which others wait.
    """
    received: list[T] = []
    try:
        for _ in range(_ASKED):
            received.append(receive())
            if not ask(EVENTS) & POLLIN:
                return received
        while len(received) < limit:
            received.append(receive())
    except zmq.Again:
        pass
    return received
