"""The collector at work: a socket in front of a store.

One idea: one thread. While a transaction is written, libzmq's own thread receives into its queue, and when
that is full the publishers keep what they have; a second thread of ours would only compete for the
interpreter. Messages are gathered for a moment, stored in one transaction, and acknowledged after its commit.
"""

import math
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import zmq

from ztrace_collector.adopting import Adopter
from ztrace_collector.keys import KeyFolder
from ztrace_collector.progress import Progress
from ztrace_collector.receiving import Receiver
from ztrace_collector.retention import NO_LIMITS, Limits
from ztrace_collector.writing import Writer

#: How long nothing must have come in after a stop before all is taken to be there, and how long that is
#: tried if publishers do not stop.
QUIET_MS, DRAIN_S = 20, 2.0
#: How long the last acknowledgements may take to leave: lost ones cost duplicates, not spans.
GOODBYE_MS = 500
#: How long the loop sleeps at most, so that the line of progress goes on while nothing comes in.
IDLE_MS = 500


@dataclass(frozen=True, slots=True)
class Options:
    """What a collector is to do.

    Attributes:
        bind: the endpoint that publishers connect to; port 0 takes a free one.
        database: the file, made if there is none.
        keys: who may send; without, whoever can reach the endpoint, which has to be on this machine.
        limits: what is kept in it.
        adopt: a spool folder on this machine: what dead processes left there is stored.
        progress: keep a line of progress on standard error if that is a terminal.
    """

    bind: str
    database: Path
    keys: KeyFolder | None = None
    limits: Limits = NO_LIMITS
    adopt: Path | None = None
    progress: bool = False


def collect(options: Options, *, ready: Callable[[str], None] | None = None) -> None:
    """Collect until SIGINT or SIGTERM, and then store what has been received.

    Args:
        options: what to do.
        ready: called with the endpoint once publishers can connect to it.

    Raises:
        EndpointError: it cannot be bound.
        SettingsError: the keys cannot be used.
        DatabaseError: the file cannot be used, or no longer.
    """
    collector = Collector(options, ready=ready)
    with _stopped_by_signals(collector):
        collector.run()


class Collector:
    """A collector that any thread can run, and any other thread or a signal handler can stop."""

    def __init__(self, options: Options, *, ready: Callable[[str], None] | None = None) -> None:
        self._options = options
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
        options = self._options
        with ExitStack() as stack:
            # A byte in here wakes the loop: a flag alone would be seen only with the next message.
            wakened, self._waker = (stack.enter_context(end) for end in socket.socketpair())
            self._waker.setblocking(False)
            # First: a port in use is no reason to leave a new, empty file behind.
            receiver = stack.enter_context(Receiver(options.bind, options.keys))
            line = stack.enter_context(Progress(shown=options.progress))
            writer = stack.enter_context(Writer(options.database, options.limits, say=line.say))
            if self._ready is not None:
                self._ready(receiver.endpoint)
            adopter = None
            if options.adopt is not None:
                adopter = stack.enter_context(
                    Adopter(options.adopt, writer.write, say=line.say, now_s=time.monotonic())
                )
            self._serve(receiver, wakened, writer, adopter, line)
            # Only what has been acknowledged is worth waiting for; after an error there is nothing to say.
            receiver.socket.linger = GOODBYE_MS

    def _serve(
        self,
        receiver: Receiver,
        wakened: socket.socket,
        writer: Writer,
        adopter: Adopter | None,
        line: Progress,
    ) -> None:
        def gather() -> list[list[bytes]]:
            return receiver.gather(self._stopping.is_set, writer.note_refusal)

        poller, holding = zmq.Poller(), zmq.Poller()
        poller.register(receiver.socket, zmq.POLLIN)
        for each in (poller, holding):
            for watched in (wakened, *receiver.connections.sockets):
                each.register(watched, zmq.POLLIN)
        adopting = False
        while not self._stopping.is_set():
            # While it holds nothing is taken from the socket: so publishers come to keep what they have.
            timeout_ms = 0 if adopting else math.ceil(min(IDLE_MS, 1000 * writer.wait_s()))
            ready = dict((holding if writer.holding else poller).poll(timeout_ms))
            receiver.tend(writer.note_refusal, line.say)
            messages = gather() if receiver.socket in ready else []
            receiver.acknowledge(writer.write(messages))
            writer.tend()
            adopting = adopter is not None and not writer.holding and adopter.step(time.monotonic())
            line.update(writer)
        deadline_s = time.monotonic() + DRAIN_S
        while not writer.holding and receiver.socket.poll(QUIET_MS) and time.monotonic() < deadline_s:
            receiver.acknowledge(writer.write(gather()))
        receiver.acknowledge(writer.finish())


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
