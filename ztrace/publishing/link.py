"""The connection to the collector: one DEALER socket.

One idea: ZeroMQ's help with delivery is switched on (refuse rather than drop, send over established
connections alone, greet the collector over each, detect a silent peer), and none of it is relied on: only the
collector's acknowledgement counts, see `ztrace.publishing.delivery`.

Source: docs/adr/0002-delivery.md and the decision on acknowledgements beside it have what was measured.
"""

import select
from collections.abc import Callable, Sequence
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple, Protocol

import zmq

from ztrace.native import new_poll
from ztrace.process.connections import count_read
from ztrace.process.descriptors import OwnFile
from ztrace.process.probing import probe
from ztrace.publishing.intake import FOREIGN, Unwanted
from ztrace.wire import MAX_ACK_BYTES

if TYPE_CHECKING:
    from ztrace.enrolment import Enrolment

#: Socket options. A connection that hangs while it is made is given up and retried. There are no heartbeats:
#: libzmq aborts the process that reads one from a connection which was lost while its queue was full.
OPTIONS = (
    (zmq.IMMEDIATE, 1),
    # libzmq itself sends the hello, an empty message, over each connection that it makes.
    (zmq.PROBE_ROUTER, 1),
    (zmq.SNDHWM, 64),
    (zmq.LINGER, 0),
    # Acknowledgements alone come in. With the smallest buffer, the system takes 4 MB a second of a flood from
    # this machine, in place of 1 GB. A bound on messages would let a collector abort the program: libzmq does
    # that at a heartbeat behind those that wait, once the connection is reset.
    (zmq.RCVHWM, 0),
    (zmq.MAXMSGSIZE, MAX_ACK_BYTES),
    (zmq.RCVBUF, 1),
    (zmq.RECONNECT_IVL, 50),
    (zmq.RECONNECT_IVL_MAX, 1000),
    (zmq.CONNECT_TIMEOUT, 1000),
    (zmq.HANDSHAKE_IVL, 2000),
)
#: A plain number: pyzmq's enumerations cost more than the calls they are for. Its functions for polling are
#: avoided too, because they read the clock by a name that freezegun replaces.
_RCVMORE = int(zmq.RCVMORE)
#: Events of a monitor that show a connection or its refusal, and the head of each: number and value.
_WATCHED = int(zmq.EVENT_CONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
_EVENT = Struct("=hi")
#: Events read at once.
_MAX_EVENTS = 100


class Refusal(NamedTuple):
    """Refusal of a connection by the collector.

    Attributes:
        reason: the reason in a few words.
        advice: the reason and what to do, as a sentence.
    """

    reason: str
    advice: str


class Link(Protocol):
    """The part of a connection that `ztrace.publishing.worker` uses."""

    def send(self, frames: Sequence[bytes]) -> bool:
        """Send a message whole; return False, with nothing sent, if there is no room or no connection."""
        ...

    def receive(self) -> bytes | None:
        """Return the next frame that has arrived, or None.

        Raises:
            Unwanted: the message has more frames, or is too large.
        """
        ...

    def count_read(self) -> int:
        """Return the bytes read from the connection so far, 0 if that is unknown."""
        ...

    @property
    def is_answered(self) -> bool:
        """Whether the system of the collector's machine has accepted the connection."""
        ...

    @property
    def is_lost(self) -> bool:
        """Whether the connection that `settle` was called for is closed, and has to be renewed.

        libzmq would make the next one before its descriptor is known.
        """
        ...

    def is_readable(self) -> bool:
        """Return whether a frame has arrived; call it before each `wait`."""
        ...

    @property
    def wait(self) -> Callable[[int], object]:
        """Function of C that waits for a frame, at most for its timeout in ms."""
        ...

    def renew(self) -> None:
        """Replace the connection: libzmq does not retry where its key was rejected."""
        ...

    def close(self, linger_ms: int) -> None:
        """Close the connection, after the time given to sent messages to leave."""
        ...

    def refusal(self) -> Refusal | None:
        """Return why the collector has refused the connection, None if it has not."""
        ...

    def settle(self) -> None:
        """Note that the collector has accepted the connection."""
        ...


class SocketLink:
    """The link of a running program."""

    def __init__(self, endpoint: str, key: "Enrolment | None") -> None:
        """Start connecting, if libzmq has what it needs for that.

        Raises:
            OSError, RuntimeError: there are too few descriptors or threads now, or too little memory.
            zmq.ZMQError: the endpoint cannot be used.
        """
        probe()
        # Kept as attributes, so that in a forked child nothing closes the parent's.
        self._endpoint, self._key = endpoint, key
        self._context = zmq.Context()
        try:
            self._socket = self._connect()
        except Exception:
            self._context.term()
            raise

    def _connect(self) -> "zmq.Socket[bytes]":
        socket = self._context.socket(zmq.DEALER)
        try:
            socket.ipv6 = "[" in self._endpoint
            for option, value in OPTIONS:
                socket.setsockopt(option, value)
            if self._key is not None:
                socket.curve_serverkey = self._key.server_public
                socket.curve_publickey = self._key.public
                socket.curve_secretkey = self._key.secret
            poll = new_poll()
            poll.register(socket.getsockopt(zmq.FD), select.POLLIN)
            monitor = socket.get_monitor_socket(_WATCHED)
            socket.connect(self._endpoint)
        except Exception:
            _close(socket, 0)
            raise
        self.wait: Callable[[int], object] = poll.poll
        self._monitor: zmq.Socket[bytes] | None = monitor
        self._connection: OwnFile | None = None
        self._refusal: Refusal | None = None
        self._frame: bytes | None = None  # Read, since it has arrived, and not returned yet.
        return socket

    def renew(self) -> None:
        """Replace the connection; the old one stays if that fails."""
        before, self._socket = self._socket, self._connect()
        _close(before, 0)

    def send(self, frames: Sequence[bytes]) -> bool:
        """Send a message; see `Link`."""
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def receive(self) -> bytes | None:
        """Return the next frame; see `Link`."""
        if not self.is_readable():
            return None
        frame, self._frame = self._frame, None
        if self._socket.getsockopt(_RCVMORE):
            raise Unwanted(FOREIGN)
        return frame

    def count_read(self) -> int:
        """Return the bytes read from the connection; see `Link`."""
        self._hear_monitor()
        try:
            return 0 if self._connection is None else count_read(self._connection.fileno())
        except OSError:  # The I/O thread has closed it since the monitor was heard.
            return 0

    def is_readable(self) -> bool:
        """Return whether a frame has arrived; see `Link`."""
        if self._frame is None:
            try:
                self._frame = self._socket.recv(zmq.NOBLOCK)  # Without the interpreter's lock.
            except zmq.Again:
                return False
        return True

    @property
    def is_answered(self) -> bool:
        """Whether the connection is open; see `Link`."""
        self._hear_monitor()
        return self._connection is not None and self._connection.is_open

    @property
    def is_lost(self) -> bool:
        """Whether the settled connection is closed; see `Link`."""
        return self._monitor is None and self._connection is not None and not self._connection.is_open

    def close(self, linger_ms: int) -> None:
        """Close the socket and the context; left open, they would block the garbage collection."""
        _close(self._socket, linger_ms)
        self._context.term()

    def refusal(self) -> Refusal | None:
        """Return why the collector has refused the connection; see `Link`."""
        self._hear_monitor()
        refusal, self._refusal = self._refusal, None
        return refusal

    def _hear_monitor(self) -> None:
        """Read libzmq's events: the descriptor of a new connection, or why it has failed."""
        for _ in range(_MAX_EVENTS):
            if self._monitor is None:
                return
            try:
                event, _address = self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            number, value = _EVENT.unpack(event)
            if number == zmq.EVENT_CONNECTED:
                self._note_connection(value)
            else:
                self._refusal = self._read_failure(number, value) or self._refusal

    def _note_connection(self, descriptor: int) -> None:
        try:
            self._connection = OwnFile(descriptor)
        except OSError:  # Closed by now.
            self._connection = None

    def _read_failure(self, number: int, value: int) -> Refusal | None:
        if number == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return self._explain("key refused", "does not admit this service's key; see 'ztrace keys list'")
        if value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
            if self._key is None:
                return self._explain("no key", "admits keys only; set ZTRACE_KEY, see 'ztrace keys add'")
            return self._explain("key not wanted", "has no keys; start it with --keys, or unset ZTRACE_KEY")
        return None

    def _explain(self, reason: str, rest: str) -> Refusal:
        return Refusal(reason, f"{reason}: the collector at {self._endpoint} {rest}")

    def settle(self) -> None:
        """Close the monitor, which has served its purpose, and its descriptors; see `Link`."""
        if self._monitor is not None:
            self._hear_monitor()
            self._monitor = None
            _stop_monitor(self._socket)


def _close(socket: "zmq.Socket[bytes]", linger_ms: int) -> None:
    _stop_monitor(socket)
    socket.close(linger=linger_ms)


def _stop_monitor(socket: "zmq.Socket[bytes]") -> None:
    monitor = socket._monitor_socket
    if monitor is not None:
        socket.disable_monitor()
        monitor.close(linger=0)
