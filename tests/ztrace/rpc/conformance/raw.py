"""Raw sockets of the conformance tests: frames in, frames out, and no library of RPC between."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgpack
import zmq

from tests.ztrace.waiting import DEADLINE_S

#: Names of events that only keep a channel alive; read where they are asked for.
HEARTBEAT = "_zpc_hb"


class Event(NamedTuple):
    """One event as received: the channel's id, the name and the arguments."""

    channel: object
    name: object
    args: object


def pack(header: Mapping[str, Any], name: object, args: object) -> bytes:
    """Return an event as zerorpc packs it."""
    packed: bytes = msgpack.packb([header, name, args], use_bin_type=True)
    return packed


def unpack(frame: bytes) -> tuple[dict[str, Any], Event]:
    """Return the header and the event of a frame; the traceback of an error is replaced by its last line."""
    header, name, args = msgpack.unpackb(frame, raw=False, strict_map_key=False)
    if name == "ERR" and len(args) > 2:
        lines = args[2].strip().splitlines()
        args = [*args[:2], lines[-1] if lines else ""]
    return header, Event(header.get("response_to"), name, args)


class RawClient:
    """DEALER that sends frames to a server, and reads what comes."""

    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.connect(endpoint)
        self._asked = 0
        #: Headers of the events read, by the order of reading.
        self.headers: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()
        self._context.term()

    def send(self, *frames: bytes) -> None:
        """Send the frames of one message."""
        self._socket.send_multipart(frames)

    def read(self, count: int, *, heartbeats: bool = False) -> list[Event]:
        """Read so many events.

        Args:
            count: events that are expected.
            heartbeats: read heartbeats as well, in place of skipping them.
        """
        events: list[Event] = []
        deadline_s = time.monotonic() + DEADLINE_S
        while len(events) < count:
            event = self._receive(deadline_s)
            assert event is not None, f"nothing comes after {events}"
            if event.name != HEARTBEAT or heartbeats:
                events.append(event)
        return events

    def read_rest(self) -> list[Event]:
        """Read the events that come before a further call is answered twice."""
        # The first answer may overtake another's.
        return self._ask() + self._ask()

    def _ask(self) -> list[Event]:
        deadline_s = time.monotonic() + DEADLINE_S
        self._asked += 1
        asked = f"asked-{self._asked}"
        self.send(b"", pack({"message_id": asked, "v": 3}, "echo", ["still there"]))
        events: list[Event] = []
        while True:
            event = self._receive(deadline_s)
            assert event is not None, f"the server is deaf after {events}"
            if event.channel == asked:
                assert event == (asked, "OK", ["still there"])
                self.headers.pop()
                return events
            if event.name != HEARTBEAT:
                events.append(event)

    def _receive(self, deadline_s: float) -> Event | None:
        if not self._socket.poll(int(max(0.0, deadline_s - time.monotonic()) * 1000)):
            return None
        *envelope, frame = self._socket.recv_multipart()
        assert not any(envelope)
        header, event = unpack(frame)
        self.headers.append(header)
        return event
