"""The running collector: a socket in front of a store.

One idea: a single thread receives and stores. While a transaction is written, libzmq's own thread receives
into its queue, and when that is full the publishers keep their spans; a second thread here would only compete
for the interpreter. Messages are gathered for a moment, stored in one transaction, and acknowledged after its
commit.
"""

import logging
import math
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import zmq

from ztrace.diagnostics import make_harmless
from ztrace_collector.clickhouse.address import ClickHouseAddress
from ztrace_collector.clickhouse.journal import ClickHouseSending, retire
from ztrace_collector.forwarding.forwarder import Forwarders, Sending
from ztrace_collector.otlp.forwarding.rows import retire_all
from ztrace_collector.otlp.forwarding.spans import SpanSending
from ztrace_collector.otlp.listening.servers import Servers
from ztrace_collector.otlp.sending.destinations import Destination, check_not_own
from ztrace_collector.receiving.adopting import Adopter
from ztrace_collector.receiving.inbox import Companion, Inbox
from ztrace_collector.receiving.keys import KeyFolder
from ztrace_collector.receiving.receiver import Receiver
from ztrace_collector.receiving.requesting import Requests
from ztrace_collector.settling.spare_time import AGAIN_S, SpareTime
from ztrace_collector.storing.defects import DefectFiles, contained
from ztrace_collector.storing.places import OWN_MODE
from ztrace_collector.storing.retention import NO_LIMITS, Limits
from ztrace_collector.storing.writer import Writer

#: Silence after a stop that ends receiving, and the deadline if publishers keep sending.
QUIET_MS, DRAIN_S = 20, 2.0
#: Time for the last acknowledgements to leave: lost ones cost duplicates, not spans.
GOODBYE_MS = 500
#: Longest sleep of the loop, so that a display of progress is redrawn while nothing arrives.
IDLE_S = 0.5
#: Pause after a turn with an internal error.
PAUSE_S = 0.1
#: Time for settling what is left at a stop.
SETTLE_S = 1.0
#: Bytes read at a time from the loop's wake-up socket: one turn serves any number of wake-ups.
WAKE_BYTES = 4096

_log = logging.getLogger(__name__)


class Counts(Protocol):
    """Figures of a running collector; a display reads them when it is redrawn."""

    @property
    def span_count(self) -> int:
        """Number of spans stored."""
        ...

    @property
    def refused_count(self) -> int:
        """Number of messages and spans refused or corrected."""
        ...

    @property
    def publishers(self) -> Mapping[str, int]:
        """Number of publishers that are connected now, by services that were heard lately."""
        ...

    @property
    def holding(self) -> bool:
        """True while nothing can be stored."""
        ...


class Progress(Protocol):
    """Display of a running collector, passed in by a command line, which also opens and closes it."""

    def update(self, counts: Counts) -> None:
        """Redraw the figures if it is time to; the loop calls this each turn, at least twice a second."""
        ...

    def say(self, line: str) -> None:
        """Print a line for the user; thread-safe, and never raises."""
        ...


class Lines:
    """Default progress: lines on standard error, and no figures."""

    def update(self, counts: Counts) -> None:
        """Draw nothing."""

    def say(self, line: str) -> None:
        """Print a line."""
        with suppress(OSError):  # The collector continues when its terminal has been closed.
            print(f"ztrace: {make_harmless(line)}", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of a collector.

    Attributes:
        bind: the endpoint that publishers connect to; port 0 picks a free one.
        database: the database file, created if missing.
        keys: the keys of services that may send; without keys any program that reaches the endpoint may send,
            and the endpoint must be on this machine.
        limits: limits on age and size of what is stored.
        thin: share of the ordinary traces to keep, in ClickHouse if all are sent there; None to keep all.
        adopt: a spool folder on this machine, from which the spans of dead processes are stored.
        progress: display of figures and of lines for the user.
        companions: factories of servers that run beside the collector; each is called with the inbox and a
            thread-safe function that prints a line for the user.
        destinations: OTLP receivers to which spans are forwarded.
        sends_unfinished: also forward unfinished spans once their processes have ended.
        clickhouse: ClickHouse database to which everything is sent.
        mode: permissions of the database file.
        clock_ns: the wall clock.
        steady_ns: a clock that never jumps; None for the machine's.
    """

    bind: str
    database: Path
    keys: KeyFolder | None = None
    limits: Limits = NO_LIMITS
    thin: float | None = None
    adopt: Path | None = None
    progress: Progress = field(default_factory=Lines)
    companions: Sequence[Callable[[Inbox, Callable[[str], None]], Companion]] = ()
    destinations: Sequence[Destination] = ()
    sends_unfinished: bool = False
    clickhouse: ClickHouseAddress | None = None
    mode: int = OWN_MODE
    clock_ns: Callable[[], int] = time.time_ns
    steady_ns: Callable[[], int] | None = None


def collect(options: Options, *, ready: Callable[[str], None] | None = None) -> None:
    """Run a collector until SIGINT or SIGTERM, then store what has been received.

    Args:
        options: the settings.
        ready: called with the endpoint once publishers can connect to it.

    Raises:
        EndpointError: the endpoint cannot be bound.
        SettingsError: the keys cannot be used, or a destination is the collector itself.
        DatabaseError: the file cannot be used, or no longer.
    """
    collector = Collector(options, ready=ready)
    with _stopped_by_signals(collector):
        collector.run()


class Collector:
    """Collector that any thread can run, and that any other thread or a signal handler can stop."""

    def __init__(self, options: Options, *, ready: Callable[[str], None] | None = None) -> None:
        self._options = options
        self._ready = ready
        self._stopping = threading.Event()
        self._waker: socket.socket | None = None

    def stop(self) -> None:
        """Ask `run` to store what has been received and to return; idempotent, and allowed before `run`."""
        self._stopping.set()
        self._wake()

    def run(self) -> None:
        """Run the collector until `stop`; a second run is not possible."""
        options = self._options
        with ExitStack() as stack:
            # A byte in this socket wakes the loop; a flag alone would be seen with the next message.
            wakened, self._waker = (stack.enter_context(end) for end in socket.socketpair())
            wakened.setblocking(False)
            self._waker.setblocking(False)
            # Before the file: a port in use must not leave a new, empty database behind.
            receiver = stack.enter_context(Receiver(options.bind, options.keys))
            say = options.progress.say
            defects = DefectFiles(options.database)
            inbox = Inbox(self._wake, defects)
            companions = [stack.enter_context(make(inbox, say)) for make in options.companions]
            for companion in companions:
                if isinstance(companion, Servers):
                    own = [address for address in (companion.http, companion.grpc) if address is not None]
                    check_not_own(options.destinations, own)
            # Closed before the companions, whose pending requests are answered by that.
            stack.callback(inbox.close)
            writer = stack.enter_context(
                Writer(
                    options.database,
                    options.limits,
                    say=say,
                    defects=defects,
                    clock_ns=options.clock_ns,
                    steady_ns=options.steady_ns,
                    mode=options.mode,
                    refuse_several=options.clickhouse is None,
                )
            )
            forwarders = Forwarders(self._list_sendings(), say=say, wake=self._wake)
            stack.callback(forwarders.close)
            if not options.destinations:
                writer.write_beside(retire_all)
            if options.clickhouse is None:
                writer.write_beside(retire)
            # Before the first message: a new OTLP destination starts after what is stored already.
            forwarders.step(writer)
            _log.info("listening at %s", receiver.endpoint)
            if self._ready is not None:
                self._ready(receiver.endpoint)
            adopter = None
            if options.adopt is not None:
                adopter = Adopter(
                    options.adopt,
                    lambda messages: writer.write(messages).acknowledgements,
                    say=say,
                    now_s=time.monotonic(),
                    collectors=1 if options.clickhouse is None else 2,  # One of several, of any number.
                )
                stack.callback(adopter.close)
            loop = _Loop(receiver, inbox, writer, forwarders, adopter, companions, options, self._stopping)
            loop.run(wakened)
            # Wait for the acknowledgements to leave; after an error there are none.
            receiver.socket.linger = GOODBYE_MS

    def _list_sendings(self) -> list[Sending]:
        options, sendings = self._options, list[Sending]()
        if options.destinations:
            unfinished = options.sends_unfinished
            sendings.append(SpanSending(options.database, options.destinations, unfinished=unfinished))
        if options.clickhouse is not None:
            sendings.append(ClickHouseSending(options.database, options.clickhouse, options.thin))
        return sendings

    def _wake(self) -> None:
        if self._waker is not None:
            try:
                self._waker.send(b"\0")
            except OSError:
                pass  # The collector has ended, or enough wake-ups are pending.


class _Loop:
    """Loop of a collector: receive, store, acknowledge, and the work beside."""

    def __init__(
        self,
        receiver: Receiver,
        inbox: Inbox,
        writer: Writer,
        forwarders: Forwarders,
        adopter: Adopter | None,
        companions: Sequence[Companion],
        options: Options,
        stopping: threading.Event,
    ) -> None:
        self._receiver, self._inbox, self._writer = receiver, inbox, writer
        self._forwarders, self._adopter = forwarders, adopter
        self._companions = companions
        self._progress = options.progress
        self._stopping = stopping
        self._adopt_s = 0.0
        self._spare_time = SpareTime(options.thin if options.clickhouse is None else None)
        self._requests = Requests(receiver.broadcast)

    def run(self, wakened: socket.socket) -> None:
        """Store what arrives until a stop, and then what has arrived by then."""
        poller, holding = self._receiver.poller, zmq.Poller()
        poller.register(wakened, zmq.POLLIN)
        for watched in (wakened, *self._receiver.connections.sockets):
            holding.register(watched, zmq.POLLIN)
        adopting = False
        while not self._stopping.is_set():
            with contained(_log, "collecting"):
                # While the writer is full, messages stay in the socket, so that publishers keep their spans.
                timeout_s = 0.0 if adopting or self._inbox.is_waiting else self._wait_s()
                ready = (holding if self._writer.is_full else poller).poll(math.ceil(1000 * timeout_s))
                adopting = self._turn(dict(ready), wakened)
                continue
            # Senders retry what was taken. The pause keeps a defect from becoming a busy loop.
            self._inbox.settle(None)
            self._stopping.wait(PAUSE_S)
        with contained(_log, "storing what was received before the end"):
            self._drain()
        self._receiver.acknowledge(self._writer.finish())
        with contained(_log, "settling before the end"):
            self._spare_time.finish(self._writer, time.monotonic() + SETTLE_S)
        self._forwarders.finish(self._writer)

    def _turn(self, ready: Mapping[Any, int], wakened: socket.socket) -> bool:
        """Run one turn of the loop; return whether there are more spans to adopt at once."""
        if wakened.fileno() in ready:
            wakened.recv(WAKE_BYTES)
        try:
            self._receiver.tend(self._writer.noted.note, self._progress.say)
        finally:
            self._store(self._receiver.socket in ready)
        self._writer.tend()
        self._forwarders.step(self._writer)
        adopting = self._adopt()
        with contained(_log, "sending requests for profiles"):
            self._requests.step(self._writer)
        self._work_beside()
        self._progress.update(self._writer)
        return adopting

    def _adopt(self) -> bool:
        now_s = time.monotonic()
        if self._adopter is None or self._writer.holding or now_s < self._adopt_s:
            return False
        with contained(_log, "adopting spans"):
            return self._adopter.step(now_s)
        self._adopt_s = now_s + AGAIN_S
        return False

    def _work_beside(self) -> None:
        """Do a step of settling and thinning while nothing is to be received, or a few if there always is."""
        if self._writer.holding or self._spare_time.wait_s() > 0:
            return
        is_free = not self._inbox.is_waiting and not self._receiver.socket.poll(0)
        if is_free or self._spare_time.is_owed:
            self._spare_time.step(self._writer)

    def _wait_s(self) -> float:
        return min(
            IDLE_S,
            self._writer.wait_s(),
            self._forwarders.wait_s(),
            self._receiver.connections.scales.wait_s(),
            self._spare_time.wait_s(),
            self._requests.wait_s(),
        )

    def _drain(self) -> None:
        for companion in self._companions:
            companion.stop()
        deadline_s = time.monotonic() + DRAIN_S
        while not self._writer.holding and time.monotonic() < deadline_s:
            is_received = bool(self._receiver.socket.poll(0 if self._inbox.is_waiting else QUIET_MS))
            if (
                not is_received
                and not self._inbox.is_waiting
                and all(companion.is_done() for companion in self._companions)
            ):
                break
            self._store(is_received)
        self._take_notes()

    def _store(self, is_received: bool) -> None:
        """Store what is pending in the socket and in the inbox, in one transaction."""
        writer, inbox, receiver = self._writer, self._inbox, self._receiver
        self._take_notes()
        messages = receiver.gather(self._stopping.is_set, writer.noted.note) if is_received else []
        parcels = inbox.take()
        written = writer.write(messages, parcels)
        if parcels:
            inbox.settle(written.outcomes)
        inbox.hold(writer.holding)
        receiver.acknowledge(written.acknowledgements)

    def _take_notes(self) -> None:
        noted = self._inbox.take_notes()
        if noted is not None:
            self._writer.noted.add(noted)


@contextmanager
def _stopped_by_signals(collector: Collector) -> Iterator[None]:
    """Stop the collector on SIGINT, SIGTERM and SIGHUP while the block lasts; only in the main thread.

    A SIGHUP that is ignored, as under nohup, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        collector.stop()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
