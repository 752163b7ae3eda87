"""Negotiation: whether the one peer of a socket takes the frames of ztrace's out.

One idea: a frame is sent only to a peer that is known to remove it. Sockets announce themselves by a property
of ZMTP's handshake, and a REQ or DEALER socket looks at the property with the first message from its peer.
A ROUTER or DEALER may belong to a proxy, behind which is anything, so only a peer of type REP counts. A
socket monitor tells when the connection ends: the peer that comes back on the same endpoint is asked again.

Source: ZMTP 3.1, RFC 37, properties of READY; zmq_setsockopt(3), ZMQ_METADATA; zmq_socket_monitor(3).
"""

import os
import select
from collections.abc import Callable
from itertools import count
from types import BuiltinFunctionType
from typing import Any, Final

import zmq
from zmq.backend import Socket as BackendSocket

#: Option that adds a property to the handshake; pyzmq has no name for it.
_METADATA: Final = 95
#: An option and a flag as plain numbers: those of pyzmq are enums, and slow.
_EVENTS, _POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)
#: The property, and its value.
_PROPERTY, _VALUE = "X-ztrace", "1"
#: Type of the peer that is the other end, and no proxy.
_END = "REP"
#: Most monitors in a process: each takes two sockets of the program's context, which has 1,023.
MAX_MONITORS = 100

_numbers = count()
_monitored = 0


def announce(socket: Any) -> None:
    """Tell all future peers of a socket that its frames of ztrace's are taken out."""
    BackendSocket.set(socket, _METADATA, f"{_PROPERTY}:{_VALUE}".encode())


class _Monitor(BackendSocket):
    """Reading end of a socket's monitor, closed when it is freed: an open one would hold up the end of the
    program's context.
    """

    def __del__(self) -> None:
        self.close(0)


class Peer:
    """Knowledge about the one peer of a socket.

    Attributes:
        traced: whether the peer takes out frames; None if that is unknown.
        asking: whether the next message is to be looked at, with `learn`.
    """

    __slots__ = ("_connections", "_monitor", "_pid", "_poll", "_usable", "asking", "traced")

    def __init__(self, usable: bool) -> None:
        self.traced: bool | None = None
        self.asking = False
        self._usable = usable
        self._connections = 0
        self._monitor: Any = None
        self._poll: Callable[[int], object] | None = None
        self._pid = 0

    def add(self, socket: Any, connects: bool) -> None:
        """Note that the socket connects or binds; with several peers nothing is known of the next one."""
        self._connections += 1
        if self._connections > 1 or not connects:
            self.give_up(socket)

    def give_up(self, socket: Any) -> None:
        """Negotiate no longer: the socket has several peers, or the program monitors it itself."""
        self._usable = self.asking = False
        self.traced = None
        self.close(socket)

    def before_send(self, socket: Any) -> bool:
        """Return whether the peer is known to be traced, at this moment."""
        if not self._usable:
            return False
        if self._monitor is None:
            self._watch(socket)
        elif self._poll is None or self._poll(0):
            while self._monitor.get(_EVENTS) & _POLLIN:
                self._monitor.recv(zmq.NOBLOCK)  # A frame of an event.
                self.traced, self.asking = None, True
        return self.traced is True

    def learn(self, frame: zmq.Frame) -> None:
        """Read the peer's properties from a frame of a message of its."""
        self.asking = False
        try:
            self.traced = frame.get(_PROPERTY) == _VALUE and frame.get("Socket-Type") == _END
        except zmq.ZMQError:  # There is no such property, or no handshake, as over inproc.
            self.traced = False

    def close(self, socket: Any) -> None:
        """Stop and close the monitor, before its socket is closed."""
        global _monitored
        if self._monitor is not None and self._pid != os.getpid():
            self._monitor = (
                None  # In a forked child, whose sockets are the parent's: pyzmq leaves them alone.
            )
        if self._monitor is not None:
            try:
                # First: without a reader, an event would block the I/O thread of the program's context.
                BackendSocket.monitor(socket, None, 0)
            except zmq.ZMQError:  # Closed already.
                pass
            self._monitor.close(0)
            self._monitor = None
            _monitored -= 1

    def _watch(self, socket: Any) -> None:
        """Start a monitor, before the first message from the peer can arrive."""
        global _monitored
        # The program's own monitor would be replaced.
        if _monitored >= MAX_MONITORS or socket._monitor_socket is not None:
            self.give_up(socket)
            return
        _monitored += 1
        self._pid = os.getpid()
        self._monitor = monitor = _Monitor(socket.context, zmq.PAIR)
        monitor.set(zmq.RCVHWM, 0)  # A full queue would block the I/O thread as well.
        address = f"inproc://ztrace-{os.getpid()}-{next(_numbers)}"
        monitor.connect(address)  # Before there is anything to connect to, and any event.
        BackendSocket.monitor(socket, address, zmq.EVENT_DISCONNECTED)
        # A system call on the descriptor, which is readable when the monitor has something to do, is faster
        # than asking for its events. gevent's function in place of the original would switch greenlets.
        if type(select.poll) is BuiltinFunctionType:
            poll = select.poll()
            poll.register(int(monitor.get(zmq.FD)), select.POLLIN)
            self._poll = poll.poll
        self.asking = True
