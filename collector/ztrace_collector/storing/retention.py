"""What is kept: for how long, and how much of it.

One idea: deleting never has the writer's whole time. It is done in steps of some milliseconds between
transactions, and after each step the writer has a multiple of its time; only where the file would outgrow its
size do both have the same.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ztrace_collector.layout import HOUR_NS, MINUTE_NS
from ztrace_collector.storing.expiring import (
    delete_first_traces,
    delete_traces_before,
    first_start_ns,
    last_seen_ns,
    sweep,
    used_bytes,
)
from ztrace_collector.storing.store import Store

#: What a step should take: less than a transaction.
STEP_S = 0.02
#: Spans of a step: where it begins, and its bounds, whatever a step takes.
FIRST_SPANS, MIN_SPANS, MAX_SPANS = 2_000, 200, 20_000
#: The part of the time that deleting may take, and if the file is larger than it may be by so much.
SHARE, LATE_SHARE, LATE = 0.25, 0.5, 1.02
#: Time that was not used and may be made up for: after a transaction there is more than one step.
BURST_S = 0.2
#: How often it is looked whether there is anything to delete: a second of a busy collector is 15 MB.
LOOK_S = 0.1
#: Pause after a step that failed for a reason that nobody foresaw.
PAUSE_S = 60.0
#: How often the tables that hang on no trace are gone through.
SWEEP_S = 3600.0
#: How far a clock may be ahead of what it was, and for how long it is doubted when it is further.
JUMP_NS, DOUBT_S = 10 * MINUTE_NS, 3600.0

_OVER = object()

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What is kept: traces that began within ``keep_ns``, and at most ``max_bytes``; all if None."""

    keep_ns: int | None = None
    max_bytes: int | None = None


NO_LIMITS = Limits()


class Calendar:
    """The time as far as it is believed: a clock that jumps ahead has an hour to come back.

    A machine that wakes up with a wrong clock would otherwise delete everything before it is set.
    """

    def __init__(
        self, known_ns: int | None, clock_ns: Callable[[], int], clock_s: Callable[[], float]
    ) -> None:
        """Begin.

        Args:
            known_ns: a time that has been, such as the last one in the file; None to believe the clock.
            clock_ns: the clock.
            clock_s: a clock that does not jump.
        """
        self._clock_ns, self._clock_s = clock_ns, clock_s
        self._then_ns = clock_ns() if known_ns is None else known_ns
        self._then_s = clock_s()
        self._doubted_s: float | None = None

    def now_ns(self) -> int:
        """Return the time that is believed."""
        now_ns, now_s = self._clock_ns(), self._clock_s()
        expected_ns = self._then_ns + int(1e9 * (now_s - self._then_s))
        if now_ns > expected_ns + JUMP_NS:
            if self._doubted_s is None:
                self._doubted_s = now_s
            if now_s - self._doubted_s < DOUBT_S:
                return expected_ns
        self._doubted_s = None
        self._then_ns, self._then_s = now_ns, now_s
        return now_ns


class Retention:
    """Deletes from a store what is beyond the limits."""

    def __init__(
        self,
        limits: Limits,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._clock_ns, self._clock_s = clock_ns, clock_s
        self._calendar = Calendar(None, clock_ns, clock_s)
        self._spans = FIRST_SPANS
        self._sweep: Iterator[None] | None = None
        self._next_sweep_s = 0.0
        #: Traces have been deleted because of their size.
        self._has_outgrown = False
        #: When the next step may be, and whether there is something left to do.
        self._next_s = 0.0
        self._behind = False

    def begin(self, store: Store) -> None:
        """Begin with a store that has been opened."""
        self._calendar = Calendar(last_seen_ns(store), self._clock_ns, self._clock_s)
        self._sweep = None

    def pause(self) -> None:
        """Delete nothing for a while: the last step failed for a reason that nobody foresaw."""
        self._sweep = None
        self._behind = False
        self._next_s = self._clock_s() + PAUSE_S

    def wait_s(self) -> float:
        """Return how long there is nothing to do."""
        return max(0.0, self._next_s - self._clock_s()) if self._behind else float("inf")

    def tend(self, store: Store) -> None:
        """Take the steps that are due.

        Raises:
            DatabaseError: one of them failed, and nothing of it is done.
        """
        if self._limits == NO_LIMITS:
            return
        while (start_s := self._clock_s()) >= self._next_s:
            used = used_bytes(store)
            self._behind = self._step(store, used)
            now_s = self._clock_s()
            if not self._behind:
                self._next_s = now_s + LOOK_S
                return
            share = LATE_SHARE if used > LATE * (self._limits.max_bytes or used) else SHARE
            self._next_s = max(self._next_s, start_s - BURST_S) + (now_s - start_s) / share

    def _step(self, store: Store, used: int) -> bool:
        """Delete a piece; return whether there was one."""
        start_s = self._clock_s()
        if self._delete_traces(store, used):
            _log.debug("deleted a step of traces in %.1f ms", 1000 * (self._clock_s() - start_s))
            # Towards what takes a step's time, and not too fast: one may have been slow by chance.
            taken_s = max(self._clock_s() - start_s, 1e-4)
            wanted = self._spans * min(2.0, 0.5 + 0.5 * STEP_S / taken_s)
            self._spans = int(min(MAX_SPANS, max(MIN_SPANS, wanted)))
            return True
        if self._sweep is None and start_s >= self._next_sweep_s:
            self._next_sweep_s = start_s + SWEEP_S
            before_ns = self._find_horizon(store)
            self._sweep = None if before_ns is None else sweep(store, before_ns)
        if self._sweep is not None and next(self._sweep, _OVER) is _OVER:
            self._sweep = None
        return self._sweep is not None

    def _delete_traces(self, store: Store, used: int) -> bool:
        before_ns = self._oldest_ns()
        if before_ns is not None and delete_traces_before(store, before_ns, self._spans):
            return True
        if used > (self._limits.max_bytes or used) and delete_first_traces(store, self._spans):
            self._has_outgrown = True
            return True
        return False

    def _oldest_ns(self) -> int | None:
        """Return the beginning of the first hour that is kept because of its age."""
        if self._limits.keep_ns is None:
            return None
        return (self._calendar.now_ns() - self._limits.keep_ns) // HOUR_NS * HOUR_NS

    def _find_horizon(self, store: Store) -> int | None:
        """Return the time before which there are no traces any more; None if none have been deleted."""
        horizons = [self._oldest_ns(), first_start_ns(store) if self._has_outgrown else None]
        return max([each for each in horizons if each is not None], default=None)
