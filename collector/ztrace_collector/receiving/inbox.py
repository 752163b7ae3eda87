"""Inbox for spans from other threads, with the outcome returned to each sender.

One idea: a sender keeps its spans until its future reports that they are stored. So the inbox need not
survive anything: spans that cannot be stored now are rejected at once, and their sender retries.

Servers' threads call `put` and `note`. The loop calls everything else, in its own thread.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from ztrace.errors import ZtraceError
from ztrace_collector.checking.parcels import ForeignBatch, Outcome, Parcel, add_up, pack
from ztrace_collector.refusals import Refusals
from ztrace_collector.storing.defects import DefectFiles

#: Maximum of pending spans and bytes, and one `put` beyond: some seconds of the loop's work.
MAX_SPANS, MAX_BYTES = 1 << 16, 32 << 20
#: Spans and bytes of one transaction, and one parcel beyond: as much as it takes from publishers, so that
#: neither delays the other.
TURN_SPANS, TURN_BYTES = 2048, 1 << 19
#: Retry delays for senders: a backlog is stored within seconds, while a full disk takes longer. Exporters
#: retry for ten seconds, so a longer delay would leave them a single retry.
RETRY_BUSY_S, RETRY_HOLDING_S = 1.0, 2.0


class Busy(ZtraceError):
    """Rejection for the moment; the sender keeps its spans and retries.

    Attributes:
        retry_after_s: the delay before a retry.
    """

    def __init__(self, retry_after_s: float, message: str = "the collector is behind; try again") -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Closed(ZtraceError):
    """Rejection because the collector has ended; the spans are not stored."""


@dataclass(slots=True, eq=False)
class _Delivery:
    """Batches of one `put`.

    Attributes:
        waiting: pending parcels, with the number of the batch of each.
        outcomes: of each batch so far.
        open: number of parcels that are not stored yet.
    """

    future: "Future[list[Outcome]]"
    waiting: deque[tuple[int, Parcel]]
    outcomes: list[Outcome]
    open: int


class Companion(Protocol):
    """Server beside a collector, with threads of its own, from `__enter__` to `__exit__`."""

    def __enter__(self) -> Self:
        """Start; an error ends the collector before it has created a file."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool | None:
        """Stop the threads; everything put into the inbox has been answered."""
        ...

    def stop(self) -> None:
        """Accept nothing more from outside, and return at once: the collector is about to end."""
        ...

    def is_done(self) -> bool:
        """Return, after `stop`, whether everything accepted has been put into the inbox and answered."""
        ...


class Inbox:
    """Bounded queue in which the deliveries take turns.

    Attributes:
        defects: where threads report internal errors.
    """

    def __init__(self, wake: Callable[[], None], defects: DefectFiles) -> None:
        """Create an empty inbox.

        Args:
            wake: called, in any thread, when the inbox is no longer empty.
            defects: where threads report internal errors.
        """
        self.defects = defects
        self._wake = wake
        self._lock = threading.Lock()
        self._deliveries: deque[_Delivery] = deque()
        self._span_count = self._byte_count = 0
        #: Parcels of the transaction in progress.
        self._taken: list[tuple[_Delivery, int]] = []
        self._noted = Refusals()
        self._holding = self._is_closed = False

    def put(self, batches: Sequence[ForeignBatch]) -> "Future[list[Outcome]]":
        """Put batches in; thread-safe.

        Returns:
            A future with the outcome of each batch, after its transaction. It raises `Busy` or `Closed` if
                some or
            all of the spans are not stored; those that are stored are detected as duplicates after a retry.

        Raises:
            Busy: nothing is accepted at the moment.
            Closed: the collector has ended.
        """
        self._check()  # Before the work of packing.
        waiting = deque((number, parcel) for number, batch in enumerate(batches) for parcel in pack(batch))
        delivery = _Delivery(Future(), waiting, [Outcome(0, 0, {}) for _ in batches], len(waiting))
        delivery.future.set_running_or_notify_cancel()  # A delivery cannot be cancelled.
        if not waiting:
            delivery.future.set_result([])
            return delivery.future
        with self._lock:
            self._check()
            was_empty = not self._deliveries
            self._deliveries.append(delivery)
            self._span_count += sum(parcel.span_count for _, parcel in waiting)
            self._byte_count += sum(len(parcel.body) for _, parcel in waiting)
        if was_empty:
            self._wake()
        return delivery.future

    def note(self, reason: str, detail: str, count: int = 1) -> None:
        """Count refusals made before anything reached the inbox; thread-safe."""
        with self._lock:
            self._noted.note(reason, detail, count)

    @property
    def is_waiting(self) -> bool:
        """True if deliveries are pending."""
        return bool(self._deliveries)

    def take_notes(self) -> Refusals | None:
        """Return the refusals noted since the last call, None if there are none."""
        if not self._noted.counts:
            return None
        with self._lock:
            noted, self._noted = self._noted, Refusals()
        return noted

    def take(self) -> list[Parcel]:
        """Return the next transaction's parcels, one of each delivery in turn; `settle` has to follow."""
        parcels: list[Parcel] = []
        if not self._deliveries:
            return parcels
        span_count = byte_count = 0
        with self._lock:
            while self._deliveries and span_count < TURN_SPANS and byte_count < TURN_BYTES:
                delivery = self._deliveries.popleft()
                number, parcel = delivery.waiting.popleft()
                if delivery.waiting:
                    self._deliveries.append(delivery)
                parcels.append(parcel)
                self._taken.append((delivery, number))
                span_count += parcel.span_count
                byte_count += len(parcel.body)
            self._span_count -= span_count
            self._byte_count -= byte_count
        return parcels

    def settle(self, outcomes: Sequence[Outcome] | None) -> None:
        """Report the outcomes of the parcels taken to their senders.

        Args:
            outcomes: of each parcel, committed; None if nothing can be stored at the moment.
        """
        taken, self._taken = self._taken, []
        if outcomes is None:
            self.hold(True)
            self._fail([delivery for delivery, _ in taken], Busy(RETRY_HOLDING_S))
            return
        for (delivery, number), outcome in zip(taken, outcomes, strict=True):
            delivery.outcomes[number] = add_up((delivery.outcomes[number], outcome))
            delivery.open -= 1
            if not delivery.open:
                delivery.future.set_result(delivery.outcomes)

    def hold(self, holding: bool) -> None:
        """Reject deliveries while nothing can be stored, pending ones included."""
        if holding == self._holding:
            return
        with self._lock:
            self._holding = holding
            waiting = self._empty() if holding else []
        self._fail(waiting, Busy(RETRY_HOLDING_S))

    def close(self) -> None:
        """Reject all deliveries from now on, and those that are pending or not settled."""
        with self._lock:
            self._is_closed = True
            waiting = self._empty()
        waiting += [delivery for delivery, _ in self._taken]
        self._taken = []
        self._fail(waiting, Closed("the collector has ended"))

    def _check(self) -> None:
        if self._is_closed:
            raise Closed("the collector has ended")
        if self._holding:
            raise Busy(RETRY_HOLDING_S)
        if self._span_count >= MAX_SPANS or self._byte_count >= MAX_BYTES:
            raise Busy(RETRY_BUSY_S)

    def _empty(self) -> list[_Delivery]:
        deliveries = list(self._deliveries)
        self._deliveries.clear()
        self._span_count = self._byte_count = 0
        return deliveries

    def _fail(self, deliveries: Sequence[_Delivery], error: Exception) -> None:
        for delivery in deliveries:
            # Another parcel of the delivery may have failed already.
            if not delivery.future.done():
                delivery.future.set_exception(error)
