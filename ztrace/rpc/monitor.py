"""State of a client's connection, from the events of ZeroMQ's socket monitor."""

from typing import Final

import zmq
from zmq.utils.monitor import parse_monitor_message

from ztrace.rpc.frames import EVENTS, POLLIN, make_ask

#: Events after which a connection is open, or gone.
_UP: Final = zmq.EVENT_HANDSHAKE_SUCCEEDED
_DOWN: Final = zmq.EVENT_DISCONNECTED
_FAILED: Final = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


class Monitor:
    """Monitor of one client socket; `close` it before the socket.

    Attributes:
        socket: PAIR on which events arrive.
        fd: descriptor that is readable when events have arrived.
        problem: why the last handshake failed, "" if it did not.
    """

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self._watched = socket
        self.socket: zmq.Socket[bytes] = socket.get_monitor_socket(_UP | _DOWN | _FAILED)
        self._ask = make_ask(self.socket)
        self.fd: int = self._ask(zmq.FD)
        self.problem = ""

    def read(self) -> list[bool]:
        """Return the changes since the last call: True for an open connection, False for a lost one."""
        changes: list[bool] = []
        while self._ask(EVENTS) & POLLIN:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.ZMQError:
                break
            event = parse_monitor_message(frames)["event"]
            if event == _UP:
                self.problem = ""
            elif event & _FAILED:
                self.problem = "the server refuses the key, or has keys and the client none"
                continue
            changes.append(event == _UP)
        return changes

    def close(self) -> None:
        """Stop the events and close their socket."""
        self._watched.disable_monitor()
        self.socket.close(0)
