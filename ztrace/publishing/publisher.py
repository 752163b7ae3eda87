"""The sending half of the agent: a bounded queue, and one background thread that empties it.

One idea: the traced thread only ever appends to a deque. While there is no thread yet, and when the queue is
full, ``room`` makes the hot path take the slow road through `Publisher.overflow`; so a process that never
ends a span never has a thread, and a forked child gets its own with its first span. With a spool every span
takes that road, because each is counted where the count outlives the process.

The thread is a plain one even where gevent has replaced `threading`: a greenlet could not send while the
program computes, and the program could not compute while a greenlet waits for a socket.
"""

import sys
from collections import deque
from collections.abc import Callable

from ztrace import diagnostics, signals
from ztrace.native import (
    allocate_lock,
    getpid,
    monotonic,
    perf_counter_ns,
    sleep_and_switch,
    start_new_thread,
    unix_ns,
    urandom,
)
from ztrace.publishing.link import SocketLink
from ztrace.publishing.window import Storage
from ztrace.publishing.worker import Adopter, Worker
from ztrace.records import Record
from ztrace.settings import Settings
from ztrace.spans import Span
from ztrace.wire import Identity

#: Two readings of the clocks differ by this much when nothing has changed. The offset then stays as it is, so
#: that the times of a process's spans compare exactly.
_JITTER_NS = 50_000
#: How often a waiting thread looks whether the other one has got on.
_GLANCE_S = 0.002


class Publisher:
    """One incarnation: created by ``configure`` and anew in a forked child, used up by ``close``.

    Attributes:
        settings: what it was created with.
        identity: what every message says of it.
        queue: records of ended spans, oldest first.
        room: how many the queue may hold; 0 while the thread is not running, and with a spool.
        register: spans that have begun and not ended, oldest first.
        offset_ns: Unix time less the monotonic clock, renewed every second by the thread.
        dropped: spans that found no room.
        worker: what the thread works on, once there is one.
    """

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        storage: Storage | None = None,
        adopt: Callable[[float], Adopter] | None = None,
    ) -> None:
        """Start an incarnation; its thread starts with the first span.

        Args:
            settings: of this process.
            identity: of this incarnation.
            storage: the spool, where there is one; `close` or `abandon` releases it.
            adopt: makes what delivers the spools of dead processes, given the monotonic time.
        """
        self.settings = settings
        self.identity = identity
        self.queue: deque[Record] = deque()
        self.room = 0
        self.register: dict[Span, None] = {}
        self.offset_ns = 0
        self.dropped = 0
        self.worker: Worker | None = None
        self._spool = storage
        self._adopt = adopt
        self._closed = False
        self._starting = allocate_lock()
        self.renew_offset()

    def renew_offset(self) -> None:
        """Read both clocks: the wall clock may have been set since."""
        offset_ns = unix_ns() - perf_counter_ns()
        if abs(offset_ns - self.offset_ns) > _JITTER_NS:
            self.offset_ns = offset_ns

    def overflow(self, record: Record) -> None:
        """Take a record for which there is no room at first: start the thread, count it, or drop it."""
        spool = self._spool
        if spool is not None:
            spool.count()
        if self._closed or not (self.worker is not None or self._start()):
            self.dropped += 1
        elif len(self.queue) < self.settings.queue_spans:
            self.queue.append(record)
        else:
            self.dropped += 1

    def flush(self, timeout_s: float) -> bool:
        """Wait until every span ended so far is stored.

        Returns:
            False if the deadline came first.
        """
        worker = self.worker
        if worker is None:
            return not self.dropped
        wanted: int | None = None

        def stored() -> bool:
            nonlocal wanted
            if wanted is None:
                filling = worker.filling
                ended = worker.window.batched + worker.refused + len(self.queue)
                if filling != worker.filling or filling % 2:
                    return False  # Spans are on their way from the queue into the counts.
                wanted = ended
            return worker.window.retired + worker.refused >= wanted

        worker.hurry(timeout_s)
        return _wait(lambda: stored() or not worker.running, timeout_s) and stored()

    def close(self, timeout_s: float, sleep: Callable[[float], None] = sleep_and_switch) -> int:
        """Send what is left, say goodbye and end the thread.

        Args:
            timeout_s: how long to try.
            sleep: function to wait with: in a signal handler `ztrace.native.sleep`, as no greenlet can run.

        Returns:
            The number of spans that stay behind, or were dropped without the collector's hearing of it.
        """
        self._closed = True
        self.room = 0
        worker = self.worker
        if worker is None:
            if self._spool is not None:
                self._spool.close(delivered=not self.dropped)
            return self.dropped
        worker.close(timeout_s)
        # The thread keeps the deadline; the half second covers one that is slow to be scheduled.
        _wait(lambda: not worker.running, timeout_s + 0.5, sleep)
        left = worker.left + len(self.queue)
        return left + self.dropped if left or not worker.reached else 0

    @property
    def keeps_rest(self) -> bool:
        """What stays behind is in the spool, and somebody else may deliver it."""
        return self._spool is not None

    def abandon(self) -> None:
        """Let go, in a forked child, of what is the parent's."""
        if self._spool is not None:
            self._spool.abandon()

    def _start(self) -> bool:
        """Start the thread; of several threads that come here at once, one does."""
        if not self._starting.acquire(False):
            return True  # Another thread is at it: the queue is there already.
        try:
            if self.worker is None:
                link = SocketLink(self.settings)
                try:
                    worker = Worker(self, link, self._spool, self._adopt)
                    signals.arm()
                    start_new_thread(worker.run, ())
                except Exception:
                    link.close(0)
                    raise
                self.worker = worker
                _close_with_multiprocessing(self)
                if self._spool is None:
                    self.room = self.settings.queue_spans
            return True
        except Exception:
            diagnostics.count_failure("publisher_start")
            self._closed = True
            return False
        finally:
            self._starting.release()


def new_identity(settings: Settings) -> Identity:
    """Return the identity of an incarnation that starts now in this process."""
    return Identity(urandom(16), settings.service, settings.host, getpid(), unix_ns())


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


def _close_with_multiprocessing(publisher: Publisher) -> None:
    """Have multiprocessing's children close the publisher: they end without running `atexit`."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None and getattr(sys.modules.get("multiprocessing.process"), "parent_process", bool)():
        pid = getpid()
        util.Finalize(None, lambda: publisher.close(2.0) if getpid() == pid else None, exitpriority=0)
