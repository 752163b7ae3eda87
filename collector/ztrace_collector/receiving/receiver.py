"""Socket that publishers connect to: its address, the messages received at a time, and their answers.

One idea: libzmq receives in its own thread and takes turns between the connections, so a publisher that sends
a lot delays only itself; the collector takes from the socket as much as one transaction should hold. Each
incarnation is answered over the connection that it was last heard on, and nothing waits for a peer that does
not read: libzmq drops what it has no room for, and the publisher's next message is answered again.
"""

import os
import socket
import stat
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import ExitStack
from typing import Self

import zmq

from ztrace.addresses import DEFAULT_ENDPOINT, is_loopback, parse_port
from ztrace.errors import EndpointError, quote
from ztrace.wire import MAX_ACKS, MAX_FRAME_BYTES, WELCOME, find_incarnation, is_goodbye, pack_acks
from ztrace_collector.receiving.admission import Admission
from ztrace_collector.receiving.connections import HANDSHAKE_MS, Connections
from ztrace_collector.receiving.keys import KeyFolder
from ztrace_collector.refusals import Note

#: Maximum wait of a message for others that share its transaction, of a few messages and within a stream of
#: them; and the bytes a second from which they are a stream. Each transaction costs a millisecond of CPU.
GATHER_S, MAX_GATHER_S, STREAM_BYTES_PER_S = 0.05, 0.25, 128 << 10
#: Messages and bytes of a transaction, and one message beyond: enough to make its commit cheap, and few
#: enough that a quiet publisher beside busy ones has its turn within a second.
MAX_MESSAGES, MAX_BYTES = 512, 1 << 20
#: Messages of one connection in a transaction: its publisher has as many in flight, and waits for
#: acknowledgements then.
MAX_OF_ONE = 32
#: Messages of one connection in a transaction up to which later ones of a stream may wait in libzmq's queue,
#: so that the loop is not woken for each.
FEW_OF_ONE = 8
#: Maximum of incarnations whose connections are known; those heard least recently are forgotten.
MAX_ROUTES = 1 << 14
#: Socket options; ``docs/adr`` has the measurements behind them.
_OPTIONS = (
    (zmq.RCVHWM, 16),
    # Of answers that a peer does not read, libzmq keeps so many and the system so many bytes; each replaces
    # those before.
    (zmq.SNDHWM, 16),
    (zmq.SNDBUF, 64 << 10),
    (zmq.BACKLOG, 1024),
    (zmq.MAXMSGSIZE, MAX_FRAME_BYTES),
    # No heartbeats: libzmq aborts the process when one is due on a connection that was reset while its queue
    # was full. `Connections` closes those that are silent.
    (zmq.HANDSHAKE_IVL, HANDSHAKE_MS),
    (zmq.LINGER, 0),
)

#: Message that libzmq sends for a publisher over each new connection.
_HELLO = [b""]

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
        socket: a ROUTER; readable when messages are pending.
        connections: its connections.
        poller: waits for the socket and for work on its connections, and for what a caller registers.
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
        #: Id of the connection that each incarnation was last heard on.
        self._routes: dict[bytes, bytes] = {}
        #: Time until which messages are gathered, if they are a stream.
        self._gather_s = 0.0

    def __enter__(self) -> Self:
        """Bind the socket.

        Raises:
            EndpointError: the endpoint is in use, or not permitted.
        """
        _check_ipc(self._wanted)
        with ExitStack() as stack:
            context: zmq.Context[zmq.Socket[bytes]] = stack.enter_context(zmq.Context())
            self.socket = router = stack.enter_context(context.socket(zmq.ROUTER))
            for option, value in _OPTIONS:
                router.setsockopt(option, value)
            if self._secret is not None:
                router.curve_server = True
                router.curve_secretkey = self._secret
            router.ipv6 = "[" in self._wanted
            self.connections = stack.enter_context(Connections(router, self._admission))
            try:
                router.bind(self._wanted)
            except zmq.ZMQError as error:
                raise _explain(error, self._wanted) from error
            _ignore_chosen_ids(router)
            self._own = {router, *self.connections.sockets}
            self.poller = zmq.Poller()
            for watched in self._own:
                self.poller.register(watched, zmq.POLLIN)
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

        Within a stream of messages the moment is longer, and messages are received a few times in it.
        Connections are tended meanwhile, and it ends with anything else that `poller` waits for.

        Args:
            stopping: returns True to skip the wait.
            note: counts the messages that are refused.
        """
        messages: list[list[bytes]] = []
        received = byte_count = 0
        taken: Counter[int] = Counter()
        short_s = tend_s = time.monotonic() + GATHER_S
        deadline_s = max(short_s, self._gather_s)
        while received < MAX_MESSAGES and byte_count < MAX_BYTES:
            try:
                frames, user, connection, route = self._receive()
            except zmq.Again:
                now_s = time.monotonic()
                # After a hello alone nothing follows before the answer, and other connections wait meanwhile.
                if (received and not messages) or stopping() or now_s >= deadline_s:
                    break
                is_slow = deadline_s > short_s and max(taken.values(), default=0) <= FEW_OF_ONE
                if now_s < short_s:
                    if is_slow:
                        time.sleep(short_s - now_s)
                    else:
                        self.socket.poll(_milliseconds(short_s - now_s))
                    continue
                if now_s >= tend_s:
                    self.connections.tend(note)
                    tend_s = now_s + GATHER_S
                ready = self._wait(min(deadline_s, tend_s) - now_s, for_messages=not is_slow)
                if ready - self._own:
                    break
                if ready - {self.socket}:
                    tend_s = now_s
                continue
            received += 1
            byte_count += sum(map(len, frames))
            if frames == _HELLO:
                self._send(route, WELCOME)
            elif self._admission is None or self._admission.admit(user, frames, note):
                messages.append(frames)
                self._note_route(frames, route)
                if len(frames) == 3 and is_goodbye(frames[1]):
                    deadline_s = short_s  # Its process waits for the answer.
            taken[connection] += 1
            if taken[connection] >= MAX_OF_ONE:
                break
        if messages:
            wait_s = min(MAX_GATHER_S, byte_count / STREAM_BYTES_PER_S)
            self._gather_s = time.monotonic() + wait_s
        return messages

    def acknowledge(self, next_sequences: Mapping[bytes, int]) -> None:
        """Send the next sequence number of each incarnation over the connection that it was last heard on."""
        numbers: defaultdict[bytes, list[tuple[bytes, int]]] = defaultdict(list)
        for incarnation, number in next_sequences.items():
            if incarnation in self._routes:
                numbers[self._routes[incarnation]].append((incarnation, number))
        for route, entries in numbers.items():
            for first in range(0, len(entries), MAX_ACKS):
                self._send(route, pack_acks(dict(entries[first : first + MAX_ACKS])))

    def broadcast(self, frame: bytes) -> None:
        """Send every publisher that is connected a frame."""
        for route in self.connections.routes:
            self._send(route, frame)

    def tend(self, note: Note, say: Callable[[str], None]) -> None:
        """Handle connections and changes of the keys; cheap if there are none.

        Args:
            note: counts the connections that are refused.
            say: called with a line for the user when keys cannot be read.
        """
        if self._admission is not None and self._admission.look(say):
            # Publishers with valid keys connect again at once, and send again what was not acknowledged.
            self.connections.cut_all(note)
        self.connections.tend(note)

    def _wait(self, wait_s: float, *, for_messages: bool) -> Set[object]:
        """Wait for what `poller` has, with or without messages, and return what is ready."""
        if not for_messages:
            self.poller.unregister(self.socket)
        try:
            return dict(self.poller.poll(_milliseconds(wait_s))).keys()
        finally:
            if not for_messages:
                self.poller.register(self.socket, zmq.POLLIN)

    def _receive(self) -> tuple[list[bytes], str, int, bytes]:
        """Return a message, its key if there are keys, and its connection's descriptor and id.

        Raises:
            zmq.Again: no message is pending.
        """
        first = self.socket.recv(zmq.NOBLOCK, copy=False)
        frames = self.socket.recv_multipart(zmq.NOBLOCK)
        connection, route = int(first.get(zmq.SRCFD)), first.bytes
        self.connections.hear(connection, route)
        if self._admission is None:
            return frames, "", connection, route
        try:
            user = str(first.get("User-Id"))
        except zmq.ZMQError:
            user = ""  # Handled as an unknown key.
        return frames, user, connection, route

    def _note_route(self, frames: Sequence[bytes], route: bytes) -> None:
        incarnation = find_incarnation(frames[1]) if len(frames) == 3 else None
        if incarnation is not None:
            self._routes.pop(incarnation, None)  # The order is that of the latest messages.
            self._routes[incarnation] = route
            if len(self._routes) > MAX_ROUTES:
                del self._routes[next(iter(self._routes))]

    def _send(self, route: bytes, frame: bytes) -> None:
        """Send a frame over a connection; libzmq drops the frame if the connection is closed or full."""
        self.socket.send_multipart((route, frame), zmq.NOBLOCK)


def _milliseconds(wait_s: float) -> int:
    return max(1, int(1000 * wait_s))


def _ignore_chosen_ids(router: "zmq.Socket[bytes]") -> None:
    """Make libzmq number the connections of a bound socket, instead of taking the ids that peers ask for.

    Otherwise a peer that asks for the number of the next connection ends the process by an assertion of
    libzmq, and one that asks for another's id keeps that peer out. The socket's ports are bound already and
    go on speaking ZeroMQ's protocol; the option alone would also let empty frames close connections.
    """
    router.setsockopt(zmq.ROUTER_RAW, 1)
    router.setsockopt(zmq.ROUTER_RAW, 0)


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
