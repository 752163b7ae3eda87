"""The sending half of the agent: a bounded queue, and one background thread that empties it.

One idea: the traced thread only ever appends to a deque. While there is no thread yet, and when the queue is
full, ``room`` makes the hot path take the slow road through `Publisher.overflow`; so a process that never
ends a span never has a thread, and a forked child gets its own with its first span.

The thread is a plain one even where gevent has replaced `threading`: a greenlet could not send while the
program computes, and the program could not compute while a greenlet waits for a socket.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Callable

from ztrace import diagnostics
from ztrace.delivery import Delivery
from ztrace.encoding import Record
from ztrace.native import original
from ztrace.settings import Settings

#: Spans that may wait to be encoded: what a tight loop makes between two looks of the thread. Some 60 MB.
QUEUE_SPANS = 100_000
#: How often a waiting thread looks whether the other one has got on.
_GLANCE_S = 0.002


class Publisher:
    """One incarnation: created by ``configure`` and anew in a forked child, used up by ``close``.

    Attributes:
        settings: what it was created with.
        queue: records of ended spans, oldest first.
        room: how many the queue may hold; 0 while the thread is not running.
        offset_ns: Unix time less the monotonic clock, renewed every second by the thread.
        dropped: spans that found no room.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.queue: deque[Record] = deque()
        self.room = 0
        self.offset_ns = 0
        self.dropped = 0
        self.delivery: Delivery | None = None
        self._closed = False
        self._starting = original("_thread", "allocate_lock")()
        self.renew_offset()

    def renew_offset(self) -> None:
        """Read both clocks: the wall clock may have been set since."""
        self.offset_ns = time.time_ns() - time.perf_counter_ns()

    def overflow(self, record: Record) -> None:
        """Take a record for which the queue has no room: start the thread, or count it as dropped."""
        if not self.room and not self._closed and self._start():
            self.queue.append(record)
        else:
            self.dropped += 1

    def flush(self, timeout_s: float) -> bool:
        """Wait until every span ended so far is stored.

        Returns:
            False if the deadline came first.
        """
        delivery = self.delivery
        if delivery is None:
            return not self.dropped
        wanted: int | None = None

        def stored() -> bool:
            nonlocal wanted
            if wanted is None:
                filling = delivery.filling
                ended = delivery.batched + delivery.refused + len(self.queue)
                if filling != delivery.filling or filling % 2:
                    return False  # Spans are on their way from the queue into the counts.
                wanted = ended
            return delivery.retired + delivery.refused >= wanted

        delivery.hurry(timeout_s)
        return _wait(lambda: stored() or not delivery.running, timeout_s) and stored()

    def close(self, timeout_s: float) -> int:
        """Send what is left, say goodbye and end the thread.

        Returns:
            The number of spans that stay behind, or were dropped without the collector's hearing of it.
        """
        self._closed = True
        self.room = 0
        delivery = self.delivery
        if delivery is None:
            return self.dropped
        delivery.close(timeout_s)
        # The thread keeps the deadline; the half second covers one that is slow to be scheduled.
        _wait(lambda: not delivery.running, timeout_s + 0.5)
        left = delivery.batched - delivery.retired + len(self.queue)
        return left + self.dropped if left or not delivery.reached else 0

    def _start(self) -> bool:
        """Start the thread; of several threads that come here at once, one does."""
        if not self._starting.acquire(False):
            return True  # Another thread is at it: the queue is there already.
        try:
            if self.delivery is None:
                delivery = Delivery(self)
                try:
                    original("_thread", "start_new_thread")(delivery.run, ())
                except Exception:
                    delivery.discard()
                    raise
                self.delivery = delivery
                _close_with_multiprocessing(self)
                self.room = QUEUE_SPANS
            return True
        except Exception:
            diagnostics.count_failure("publisher_start")
            self._closed = True
            return False
        finally:
            self._starting.release()


def _wait(done: Callable[[], bool], timeout_s: float) -> bool:
    """Sleep in small steps until ``done()``; under gevent ``time.sleep`` lets other greenlets run."""
    deadline_s = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() >= deadline_s:
            return False
        time.sleep(_GLANCE_S)
    return True


def _close_with_multiprocessing(publisher: Publisher) -> None:
    """Have multiprocessing's children close the publisher: they end without running `atexit`."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None and getattr(sys.modules.get("multiprocessing.process"), "parent_process", bool)():
        pid = os.getpid()
        util.Finalize(None, lambda: publisher.close(2.0) if os.getpid() == pid else None, exitpriority=0)
