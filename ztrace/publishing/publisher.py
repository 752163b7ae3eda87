"""The sending half of the agent: a bounded queue, and one background thread that empties it.

One idea: the traced thread only ever appends to a deque and a dictionary. Before the thread runs, a stand-in
for the dictionary takes the first span and starts the thread, and takes one more when objects are to be
dropped; and while ``room`` is 0, or the queue is full, the hot path takes the slow road through
`Publisher.overflow`. So a process that never starts a span never has a thread, and a forked child gets its
own with its first span. With a spool every span takes that road, because each is counted where the count
outlives the process.

The thread is a plain one even where gevent has replaced `threading`: a greenlet could not send while the
program computes, and the program could not compute while a greenlet waits for a socket.
"""

import sys
from collections import OrderedDict, deque
from collections.abc import Callable
from errno import EAGAIN, EINTR, EMFILE, ENFILE, ENOMEM
from functools import partial
from itertools import count
from typing import Any, NamedTuple

from ztrace import diagnostics
from ztrace.context import Register, Target
from ztrace.interpreter.interrupts import is_interrupt
from ztrace.native import (
    getpid,
    monotonic,
    perf_counter_ns,
    sleep_and_switch,
    unix_ns,
    urandom,
)
from ztrace.process import signals
from ztrace.process.collection import HeldCollection
from ztrace.process.endings import close_at_end
from ztrace.process.forks import mark_process
from ztrace.process.probing import Shortage, note
from ztrace.process.threads import start_thread
from ztrace.publishing.link import SocketLink
from ztrace.publishing.ports import Adopter, NoProfiler, Profiler, Source
from ztrace.publishing.unfinished import Watch
from ztrace.publishing.window import Storage
from ztrace.publishing.worker import Worker
from ztrace.records import Record
from ztrace.settings import Settings
from ztrace.spans import Span
from ztrace.wire import Identity

#: Two readings of the clocks differ by this much when nothing has changed. The offset then stays as it is, so
#: that the times of a process's spans compare exactly.
_JITTER_NS = 50_000
#: Poll interval of `flush` and `close`.
_GLANCE_S = 0.002
#: Pause after an attempt to start that failed, or was interrupted by an exception of the program's.
RETRY_S = 1.0
#: Errors of a spool that pass.
_PASSING = {EAGAIN, EINTR, EMFILE, ENFILE, ENOMEM}


class Remainder(NamedTuple):
    """Spans that a closed publisher could not deliver.

    Attributes:
        left: spans that stay behind, or were dropped without the collector's knowledge.
        kept: those among them that are in the spool.
    """

    left: int
    kept: int


class Publisher:
    """One incarnation: created by ``configure`` and in a forked child, used up by ``close``.

    Attributes:
        settings: settings of the process.
        identity: identity that every message carries.
        born_here: mark of the process, false in a forked child.
        queue: records of ended spans, oldest first.
        room: records that the queue may hold; 0 while the thread is not running, and with a spool.
        register: spans that have started lately and not ended, oldest first; a stand-in until the thread
            runs, and while objects are to be dropped.
        watched: spans that have run for long, by ``id``.
        offset_ns: Unix time minus the monotonic clock, renewed every second by the thread.
        dropped: spans that found no room.
        worker: state of the thread, once there is one.
    """

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        open_storage: Callable[[], Storage] | None = None,
        adopt: Callable[[float], Adopter] | None = None,
        succeed: Callable[[], Target | None] = lambda: None,
        profile: Callable[[Source, HeldCollection], Profiler] | None = None,
    ) -> None:
        """Prepare an incarnation; its thread and its spool start with the first span.

        Args:
            settings: settings of the process.
            identity: identity of the incarnation.
            open_storage: function that opens the spool, if there is one; `close` or `abandon` releases it.
            adopt: factory of the delivery of dead processes' spools, given the monotonic time.
            succeed: function that replaces this publisher in a forked child in which no hook has run.
            profile: factory of the profiler; the thread closes it.
        """
        self.settings = settings
        self.identity = identity
        self.born_here = mark_process()
        self.succeed = succeed
        self.queue: deque[Record] = deque()
        self.room = 0
        self.open_spans: dict[Span, None] = {}
        self.watched: OrderedDict[int, Watch] = OrderedDict()
        self._detour: Register = _Detour(self)
        self.register: Register = self._detour
        self._started = False
        self.offset_ns = 0
        self.dropped = 0
        self.worker: Worker | None = None
        self._open_storage = open_storage
        self._spool: Storage | None = None
        self._adopt = adopt
        self._profile = profile
        #: Count of spans that ended before the spool was open, and function that counts the next one; None
        #: without a spool.
        self._early = count()
        self._count: Callable[[], object] | None = None if open_storage is None else self._early.__next__
        self._returned: deque[list[Any]] = deque()
        self._closed = False
        self._retry_s = 0.0
        self.renew_offset()

    def renew_offset(self) -> None:
        """Read both clocks: the wall clock may have been set since."""
        offset_ns = unix_ns() - perf_counter_ns()
        if abs(offset_ns - self.offset_ns) > _JITTER_NS:
            self.offset_ns = offset_ns

    def overflow(self, record: Record) -> None:
        """Queue or drop a record for which ``room`` was too small, and start the thread if need be."""
        if not self.born_here:
            return  # Ended in a forked child: the span is the parent's.
        if self._count is not None:
            self._count()
        if not self._closed and len(self.queue) < self.settings.queue_spans:
            self.queue.append(record)
        else:
            self.dropped += 1
        self.attend()

    def give_back(self, objects: list[Any]) -> None:
        """Queue objects for release by the thread in which the next span starts or ends.

        Their finalizers run there and not in the publisher's thread: some may not.
        """
        self._returned.append(objects)
        self.room = 0
        self.register = self._detour

    def attend(self) -> None:
        """Start the thread if need be, and drop the objects that it has given back."""
        self.start()
        self._drop_returned()
        if self._started and self.register is not self.open_spans:
            self._settle()

    def _drop_returned(self) -> None:
        while self._returned:
            self._returned.popleft().clear()  # The publisher's thread may hold the list, but not the objects.

    def _settle(self) -> None:
        """Switch spans over to the queue and the register themselves."""
        if self._spool is None and not self._closed:
            self.room = self.settings.queue_spans
        self.register = self.open_spans
        if self._returned:  # Given back meanwhile.
            self.room = 0
            self.register = self._detour

    def start(self) -> None:
        """Start the thread unless it runs; an attempt that fails, or is interrupted, is repeated later."""
        if self._closed or self._started:
            return
        now_s = monotonic()
        # No call between these lines, so no other thread comes in between: no lock needed.
        if now_s < self._retry_s:
            return
        self._retry_s = now_s + RETRY_S
        try:
            self._start()
        except Shortage as shortage:
            note(shortage)
        except Exception:
            diagnostics.contain("publisher_start")

    def flush(self, timeout_s: float) -> bool:
        """Wait until every span ended so far is stored.

        Returns:
            False if the deadline came first.
        """
        hurried: Worker | None = None
        wanted: int | None = None

        def stored() -> bool:
            nonlocal wanted
            worker = self.worker
            if worker is None:
                return not self.dropped and not self.queue
            if wanted is None:
                filling = worker.filling
                ended = worker.window.batched + worker.refused + len(self.queue)
                if filling != worker.filling or filling % 2:
                    return False  # Spans are on their way from the queue into the counts.
                wanted = ended
            return worker.window.retired + worker.refused >= wanted

        def is_over() -> bool:
            nonlocal hurried
            self.start()  # Threads that were short may be there by now, or an interrupted start over.
            worker = self.worker
            if worker is not None and worker is not hurried:
                hurried = worker
                worker.hurry(timeout_s)
            return stored() or (worker is not None and not worker.running)

        # Without spans there is nothing to wait for, nor to start a thread for, as in most forked children.
        return stored() or (_wait(is_over, timeout_s) and stored())

    def close(self, timeout_s: float, sleep: Callable[[float], None] = sleep_and_switch) -> Remainder:
        """Deliver the queued spans, send a BYE and end the thread.

        Args:
            timeout_s: deadline of the delivery.
            sleep: function to wait with: in a signal handler `ztrace.native.sleep`, as no greenlet can run.

        Returns:
            The spans that were not delivered.
        """
        if self.queue:
            self._retry_s = 0.0
            self.start()  # The last attempt, if the ones before have failed.
        self._closed = True
        self.room = 0
        worker = self.worker
        if worker is not None:
            worker.close(timeout_s)
        if worker is None or not self._started:  # No thread.
            left = len(self.queue) + self.dropped
            if self._spool is not None:
                self._spool.close(delivered=not left)
            return Remainder(left, 0)
        # The thread keeps the deadline; the half second covers one that is slow to be scheduled.
        _wait(lambda: not worker.running, timeout_s + 0.5, sleep)
        self._drop_returned()
        left = worker.left + len(self.queue)
        return Remainder(
            left + self.dropped if left or not worker.peer.reached else 0, self._count_kept(worker)
        )

    def end(self, timeout_s: float, sleep: Callable[[float], None] = sleep_and_switch) -> None:
        """Close the publisher, and print the number of undelivered spans to stderr."""
        left, kept = self.close(timeout_s, sleep)
        if left:
            number = "1 span" if left == 1 else f"{left:,} spans"
            where = f", kept in {self.settings.spool}"
            if kept < left:
                where = f", {kept:,} of them kept in {self.settings.spool}" if kept else ""
            refusal = None if self.worker is None else self.worker.peer.refusal
            why = "" if refusal is None else f" ({refusal})"
            told = f"ztrace: {number} not delivered to {' or '.join(self.settings.endpoints)}{where}{why}"
            print(diagnostics.make_harmless(told), file=sys.stderr)

    def abandon(self) -> None:
        """Release the parent's files in a forked child."""
        if self._spool is not None:
            self._spool.abandon()
        if self.worker is not None:
            self.worker.abandon()

    def _start(self) -> None:
        """Start the thread; each step is done once, however often an exception interrupts the others."""
        if self._spool is None and self._open_storage is not None:
            self._open_spool(self._open_storage)
        if self.worker is None:
            profile = NoProfiler if self._profile is None else partial(self._profile, self)
            self.worker = Worker(self, self._connect, self._spool, self._adopt, profile=profile)
        if not self.worker.begun:
            signals.arm()
            start_thread(self.worker.run)
            close_at_end(self.end)
        self._started = True
        self._settle()

    def _connect(self, endpoint: str) -> SocketLink:
        return SocketLink(endpoint, self.settings.key)

    def _open_spool(self, open_storage: Callable[[], Storage]) -> None:
        """Open the spool, and count the spans in it that have ended before.

        Raises:
            Shortage: the spool cannot be opened now.
        """
        try:
            self._spool = open_storage()
        except OSError as error:
            if is_interrupt(error):
                raise
            if error.errno in _PASSING:
                raise Shortage(f"the spool cannot be opened ({error.strerror})") from error
            self._open_storage = self._count = None
            diagnostics.count("spool_unusable")
            diagnostics.warn(f"not keeping spans in {self.settings.spool}: {error.strerror or error}")
            return
        self._count = self._spool.count
        for _ in range(next(self._early)):
            self._spool.count()

    def _count_kept(self, worker: Worker) -> int:
        """Return how many undelivered spans another process finds in the spool."""
        if self._spool is None or worker.running or not self._spool.is_there:
            return 0
        return worker.window.kept


class _Detour:
    """Stand-in for a publisher's register that has the next span's thread attend to the publisher."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def __setitem__(self, span: Span, value: None) -> None:
        self._publisher.open_spans[span] = value
        self._publisher.attend()

    def __delitem__(self, span: Span) -> None:
        del self._publisher.open_spans[span]

    def pop(self, span: Span, default: None) -> None:
        """Remove a span that has ended."""
        self._publisher.open_spans.pop(span, default)


def new_identity(settings: Settings) -> Identity:
    """Return the identity of an incarnation that starts now in this process."""
    return Identity(urandom(16), settings.service, settings.host, getpid(), unix_ns(), settings.version)


def _wait(
    done: Callable[[], bool], timeout_s: float, sleep: Callable[[float], None] = sleep_and_switch
) -> bool:
    """Sleep in small steps until ``done()`` or the deadline; return whether it was done."""
    deadline_s = monotonic() + timeout_s
    while not done():
        if monotonic() >= deadline_s:
            return False
        sleep(_GLANCE_S)
    return True
