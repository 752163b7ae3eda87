"""Socket that publishers connect to: its address, and the messages received at a time.

One idea: libzmq receives in its own thread and takes turns between the connections, so a publisher that sends
a lot delays only itself; the collector takes from the socket as much as one transaction should hold.
"""

import math
import os
import socket
import stat
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Self

import zmq

from ztrace.addresses import DEFAULT_ENDPOINT, is_loopback, parse_port
from ztrace.errors import EndpointError, quote
from ztrace.wire import MAX_ACKS, MAX_FRAME_BYTES, TOPIC, pack_acks
from ztrace_collector.receiving.admission import Admission
from ztrace_collector.receiving.connections import HANDSHAKE_MS, Connections
from ztrace_collector.receiving.keys import KeyFolder
from ztrace_collector.refusals import Note

#: Maximum wait of a message for others that share its transaction.
GATHER_S = 0.05
#: Messages and bytes of a transaction, and one message beyond: enough to make its commit cheap, and few
#: enough that a quiet publisher beside busy ones has its turn within a second.
MAX_MESSAGES, MAX_BYTES = 512, 1 << 19
#: Messages of one connection in a transaction: its publisher has as many in flight, and waits for
#: acknowledgements then.
MAX_OF_ONE = 32
#: Time between two acknowledgements for each connection, and the longest. Every connection gets all
#: acknowledgements, which costs libzmq some microseconds each, so they take a few percent of a processor at
#: most. Publishers wait 5 seconds for one before they send again.
ACK_S, MAX_ACK_S = 0.0002, 0.2
#: Deadline for opening the port again after it was closed.
REOPEN_S = 5.0
#: Socket options; ``docs/adr`` has the measurements behind them.
_OPTIONS = (
    (zmq.RCVHWM, 16),
    (zmq.BACKLOG, 1024),
    (zmq.MAXMSGSIZE, MAX_FRAME_BYTES),
    (zmq.HANDSHAKE_IVL, HANDSHAKE_MS),
    (zmq.HEARTBEAT_IVL, 1000),
    (zmq.HEARTBEAT_TIMEOUT, 3000),
    (zmq.LINGER, 0),
)

_EXAMPLE = f"use an address like {DEFAULT_ENDPOINT}"


def check_endpoint(endpoint: str, *, keyed: bool = False) -> None:
    """Reject an endpoint that ZeroMQ would misread, or, without keys, that other machines could reach.

    Raises:
        EndpointError: the endpoint is rejected.
    """
    protocol, separator, address = endpoint.partition("://")
    if not separator or protocol not in ("tcp", "ipc", "inproc") or not address:
        raise EndpointError(f"{quote(endpoint)} is not an endpoint", hint=_EXAMPLE)
    if protocol != "tcp":
        return
    host, _, port = address.rpartition(":")
    try:
        if not host:
            raise ValueError("no host")
        if port != "*":
            parse_port(port)
    except ValueError as error:
        raise EndpointError(f"{quote(endpoint)} has no valid port", hint=_EXAMPLE) from error
    if not keyed and not is_loopback(host):
        raise EndpointError(
            f"{endpoint} could be reached from other machines, and there are no keys to keep others out",
            hint="make keys with 'ztrace keys init' and start with --keys ztrace.keys",
        )


class Receiver:
    """Socket that publishers connect to, listening from `__enter__` to `__exit__`.

    Attributes:
        socket: an XSUB; readable when messages are pending.
        connections: its connections.
    """

    def __init__(self, endpoint: str, keys: KeyFolder | None = None) -> None:
        """Validate the endpoint and read the collector's key; nothing is opened yet.

        Args:
            endpoint: the endpoint; port 0 picks a free one.
            keys: the keys of services that may send; without keys any program on this machine may send.

        Raises:
            EndpointError: the endpoint is invalid.
            SettingsError: the keys cannot be used.
        """
        check_endpoint(endpoint, keyed=keys is not None)
        self._wanted = endpoint
        self._admission = None if keys is None else Admission(keys)
        self._secret = None if keys is None else keys.server_pair()[1]
        #: Acknowledgements to be sent, and the time from which they may be.
        self._acks: dict[bytes, int] = {}
        self._ack_s = 0.0

    def __enter__(self) -> Self:
        """Bind the socket.

        Raises:
            EndpointError: the endpoint is in use, or not permitted.
        """
        _check_ipc(self._wanted)
        with ExitStack() as stack:
            context: zmq.Context[zmq.Socket[bytes]] = stack.enter_context(zmq.Context())
            self.socket = xsub = stack.enter_context(context.socket(zmq.XSUB))
            for option, value in _OPTIONS:
                xsub.setsockopt(option, value)
            if self._secret is not None:
                xsub.curve_server = True
                xsub.curve_secretkey = self._secret
            xsub.ipv6 = "[" in self._wanted
            self.connections = stack.enter_context(Connections(xsub, self._admission))
            try:
                xsub.bind(self._wanted)
            except zmq.ZMQError as error:
                raise _explain(error, self._wanted) from error
            xsub.send(b"\x01" + TOPIC)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def endpoint(self) -> str:
        """Endpoint of the socket, with the port that was picked."""
        return self.socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def gather(self, stopping: Callable[[], bool], note: Note) -> list[list[bytes]]:
        """Receive the messages of one transaction: those pending, and those that arrive within a moment.

        Args:
            stopping: returns True to skip the wait.
            note: counts the messages that are refused.
        """
        messages: list[list[bytes]] = []
        received = byte_count = 0
        taken: Counter[int] = Counter()
        deadline_s = time.monotonic() + GATHER_S
        while received < MAX_MESSAGES and byte_count < MAX_BYTES:
            try:
                frames, user, connection = self._receive()
            except zmq.Again:
                remaining_s = deadline_s - time.monotonic()
                if stopping() or remaining_s <= 0:
                    break
                self.socket.poll(max(1, int(1000 * remaining_s)))
                continue
            received += 1
            byte_count += sum(map(len, frames))
            if self._admission is None or self._admission.admit(user, frames, note):
                messages.append(frames)
            taken[connection] += 1
            if taken[connection] >= MAX_OF_ONE:
                break
        return messages

    def wait_s(self) -> float:
        """Return the time until acknowledgements are due, infinity if there are none."""
        return max(0.0, self._ack_s - time.monotonic()) if self._acks else math.inf

    def acknowledge(self, next_sequences: Mapping[bytes, int], *, at_once: bool = False) -> None:
        """Send publishers the next sequence number of each incarnation, once it is time to.

        Args:
            next_sequences: those of the last transaction; the latest of each incarnation counts.
            at_once: send what waits without delay.
        """
        self._acks.update(next_sequences)
        now_s = time.monotonic()
        if not self._acks or (now_s < self._ack_s and not at_once):
            return
        self._ack_s = now_s + min(MAX_ACK_S, ACK_S * self.connections.open_count)
        entries, self._acks = list(self._acks.items()), {}
        for first in range(0, len(entries), MAX_ACKS):
            self.socket.send(pack_acks(dict(entries[first : first + MAX_ACKS])))

    def broadcast(self, frame: bytes) -> None:
        """Send every publisher a frame."""
        self.socket.send(frame)

    def tend(self, note: Note, say: Callable[[str], None]) -> None:
        """Handle connections and changes of the keys; cheap if there are none.

        Args:
            note: counts the connections that are refused.
            say: called with a line for the user when keys cannot be read.

        Raises:
            EndpointError: the port had to be closed, and another program has taken it.
        """
        if self._admission is not None and self._admission.look(say):
            self._reopen(note)
        self.connections.tend(note)

    def _receive(self) -> tuple[list[bytes], str, int]:
        """Return a message, the key that it came under if there are keys, and its connection's descriptor.

        Raises:
            zmq.Again: no message is pending.
        """
        first = self.socket.recv(zmq.NOBLOCK, copy=False)
        frames = [first.bytes]
        if first.more:
            frames += self.socket.recv_multipart(zmq.NOBLOCK)
        connection = int(first.get(zmq.SRCFD))
        self.connections.scales.hear(connection)
        if self._admission is None:
            return frames, "", connection
        try:
            user = str(first.get("User-Id"))
        except zmq.ZMQError:
            user = ""  # Handled as an unknown key.
        return frames, user, connection

    def _reopen(self, note: Note) -> None:
        """Close the port with all its connections, and open it again; publishers with valid keys reconnect.

        Messages that were received and not stored are not acknowledged, so their publishers send them again.
        """
        endpoint = self.endpoint
        self.socket.unbind(endpoint)
        self.connections.reopened(note)
        deadline_s = time.monotonic() + REOPEN_S
        while True:
            try:
                self.socket.bind(endpoint)
                return
            except zmq.ZMQError as error:
                # libzmq closes the port in its own thread, a moment after `unbind` has returned.
                if error.errno != zmq.EADDRINUSE or time.monotonic() > deadline_s:
                    raise _explain(error, endpoint) from error
                time.sleep(0.001)


def _check_ipc(endpoint: str) -> None:
    """Reject the path of a socket that is in use: libzmq would replace it silently.

    Raises:
        EndpointError: the path is that of a file, or of a socket in use.
    """
    path = endpoint.removeprefix("ipc://")
    if path == endpoint or path.startswith(("@", "*")) or len(path.encode()) > zmq.IPC_PATH_MAX_LEN:
        return
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise EndpointError(f"{path} is a file, not a socket", hint="use another path")
    except OSError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return
    raise EndpointError(f"{endpoint} is in use", hint="stop the collector there, or use another path")


def _explain(error: zmq.ZMQError, endpoint: str) -> EndpointError:
    reason = f"cannot listen on {endpoint}"
    if error.errno == zmq.EADDRINUSE:
        port = "stop what uses the port, or choose another; with port 0 a free one is found"
        return EndpointError(f"{endpoint} is in use", hint=port)
    if error.errno in (1, 13):
        return EndpointError(
            f"{reason}: not permitted", hint="use a port above 1023, or a folder of your own"
        )
    if endpoint.startswith("ipc://") and error.errno == 2:
        return EndpointError(f"{reason}: there is no such folder", hint="make the socket's folder first")
    if endpoint.startswith("ipc://") and error.errno == 36:
        return EndpointError(f"{reason}: the path is too long", hint=f"{zmq.IPC_PATH_MAX_LEN} bytes at most")
    return EndpointError(f"{reason}: {os.strerror(error.errno or 0)}", hint=_EXAMPLE)
