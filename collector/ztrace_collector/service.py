"""The collector at work: a socket in front of a store.

One idea: one thread. While a transaction is written, libzmq's own thread receives into its queue, and when
that is full the publishers keep what they have; a second thread of ours would only compete for the
interpreter. Messages are gathered for a moment, stored in one transaction, and acknowledged after its commit.
"""

import os
import re
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import zmq

from ztrace.errors import EndpointError
from ztrace.wire import MAX_FRAME_BYTES, TOPIC, pack_acks
from ztrace_collector.progress import Progress
from ztrace_collector.store import Store

#: What a message waits at most for others to share its transaction.
GATHER_S = 0.05
#: What a transaction holds at most: enough to make its commit cheap, and few enough that a busy
#: publisher, which has 32 messages on the way, hears of some before it has to wait.
MAX_MESSAGES, MAX_BYTES = 32, 1 << 20
#: How long nothing must have come in after a stop before all is taken to be there, and how long that is
#: tried if publishers do not stop.
QUIET_MS, DRAIN_S = 20, 2.0
#: How long the last acknowledgements may take to leave: lost ones cost duplicates, not spans.
GOODBYE_MS = 500
#: How long the loop sleeps at most, so that the line of progress goes on while nothing comes in.
IDLE_MS = 500

#: Of one connection; see ``docs/adr`` for what each setting is worth.
_OPTIONS = (
    (zmq.RCVHWM, 64),
    (zmq.MAXMSGSIZE, MAX_FRAME_BYTES),
    (zmq.HANDSHAKE_IVL, 2000),
    (zmq.HEARTBEAT_IVL, 1000),
    (zmq.HEARTBEAT_TIMEOUT, 3000),
    (zmq.LINGER, 0),
)

_LOOPBACK = re.compile(r"127\.\d{1,3}\.\d{1,3}\.\d{1,3}|localhost|\[::1\]")
_EXAMPLE = "use an address like tcp://127.0.0.1:4710"


def collect(
    bind: str, database: Path, *, progress: bool = False, ready: Callable[[str], None] | None = None
) -> None:
    """Collect until SIGINT or SIGTERM, and then store what has been received.

    Args:
        bind: the endpoint that publishers connect to; port 0 takes a free one.
        database: the file, made if there is none.
        progress: keep a line of progress on standard error if that is a terminal.
        ready: called with the endpoint once publishers can connect to it.

    Raises:
        EndpointError: it cannot be bound.
        DatabaseError: the file cannot be used, or no longer.
    """
    collector = Collector(bind, database, progress=progress, ready=ready)
    with _stopped_by_signals(collector):
        collector.run()


class Collector:
    """A collector that any thread can run, and any other thread or a signal handler can stop."""

    def __init__(
        self,
        bind: str,
        database: Path,
        *,
        progress: bool = False,
        ready: Callable[[str], None] | None = None,
    ) -> None:
        self._bind = bind
        self._database = database
        self._progress = progress
        self._ready = ready
        self._stopping = threading.Event()
        self._waker: socket.socket | None = None

    def stop(self) -> None:
        """Ask `run` to store what has been received and to return; it can be called at any time."""
        self._stopping.set()
        if self._waker is not None:
            try:
                self._waker.send(b"\0")
            except OSError:
                pass  # It has ended already, or has been told often enough.

    def run(self) -> None:
        """Be the collector, once, until `stop`."""
        with ExitStack() as stack:
            # A byte in here wakes the loop: a flag alone would be seen only with the next message.
            wakened, self._waker = (stack.enter_context(end) for end in socket.socketpair())
            self._waker.setblocking(False)
            check_endpoint(self._bind)
            # First: a port in use is no reason to leave a new, empty file behind.
            xsub = stack.enter_context(_bound(self._bind))
            store = stack.enter_context(Store(self._database))
            line = stack.enter_context(Progress(store, shown=self._progress))
            if self._ready is not None:
                self._ready(xsub.getsockopt_string(zmq.LAST_ENDPOINT))
            self._serve(xsub, wakened, store, line)
            # Only what has been acknowledged is worth waiting for; after an error there is nothing to say.
            xsub.linger = GOODBYE_MS

    def _serve(self, xsub: "zmq.Socket[bytes]", wakened: socket.socket, store: Store, line: Progress) -> None:
        poller = zmq.Poller()
        poller.register(xsub, zmq.POLLIN)
        poller.register(wakened, zmq.POLLIN)
        while not self._stopping.is_set():
            if dict(poller.poll(IDLE_MS)).get(xsub):
                _pass_on(self._gather(xsub), store, xsub)
            line.update()
        deadline_s = time.monotonic() + DRAIN_S
        while xsub.poll(QUIET_MS) and time.monotonic() < deadline_s:
            _pass_on(self._gather(xsub), store, xsub)

    def _gather(self, xsub: "zmq.Socket[bytes]") -> list[list[bytes]]:
        """Receive one transaction's messages: what is there, and what comes in within a moment."""
        messages: list[list[bytes]] = []
        byte_count = 0
        deadline_s = time.monotonic() + GATHER_S
        while len(messages) < MAX_MESSAGES and byte_count < MAX_BYTES:
            try:
                frames = xsub.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                remaining_s = deadline_s - time.monotonic()
                if self._stopping.is_set() or remaining_s <= 0:
                    break
                xsub.poll(max(1, int(1000 * remaining_s)))
                continue
            messages.append(frames)
            byte_count += sum(map(len, frames))
        return messages


def check_endpoint(endpoint: str) -> None:
    """Refuse an endpoint that other machines could reach, or that ZeroMQ would misread.

    Raises:
        EndpointError: with what is wrong with it.
    """
    protocol, separator, address = endpoint.partition("://")
    if not separator or protocol not in ("tcp", "ipc", "inproc") or not address:
        raise EndpointError(f"{endpoint!r} is not an endpoint", hint=_EXAMPLE)
    if protocol != "tcp":
        return
    host, _, port = address.rpartition(":")
    if not host or not (port == "*" or (port.isascii() and port.isdigit() and int(port) < 1 << 16)):
        raise EndpointError(f"{endpoint!r} has no valid port", hint=_EXAMPLE)
    if not _LOOPBACK.fullmatch(host):
        raise EndpointError(
            f"{endpoint} could be reached from other machines, and there are no keys yet to keep others out",
            hint=f"{_EXAMPLE}, and a tunnel such as 'ssh -R' for other machines",
        )


@contextmanager
def _bound(endpoint: str) -> Iterator["zmq.Socket[bytes]"]:
    """Yield a socket that listens there and has subscribed."""
    _check_ipc(endpoint)
    with zmq.Context() as context, context.socket(zmq.XSUB) as xsub:
        for option, value in _OPTIONS:
            xsub.setsockopt(option, value)
        xsub.ipv6 = "[" in endpoint
        try:
            xsub.bind(endpoint)
        except zmq.ZMQError as error:
            raise _explain(error, endpoint) from error
        xsub.send(b"\x01" + TOPIC)
        yield xsub


def _check_ipc(endpoint: str) -> None:
    """Refuse the path of a socket that somebody listens on: libzmq would take it away without a word."""
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


def _pass_on(messages: Sequence[Sequence[bytes]], store: Store, xsub: "zmq.Socket[bytes]") -> None:
    if not messages:
        return
    acknowledgements = store.store(messages)
    if acknowledgements:
        xsub.send(pack_acks(acknowledgements))


@contextmanager
def _stopped_by_signals(collector: Collector) -> Iterator[None]:
    """Let SIGINT and SIGTERM stop the collector; only the main thread can ask for signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        collector.stop()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
