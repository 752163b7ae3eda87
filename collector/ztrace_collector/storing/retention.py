"""Retention: limits on the age and the amount of stored data.

One idea: deleting never takes all of the writer's time. It runs in steps of some milliseconds between
transactions, and after each step the writer has a multiple of its time; only while the file exceeds its size
limit do both have equal shares.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

from ztrace_collector.layout import HOUR_NS, MINUTE_NS
from ztrace_collector.storing.expiring import (
    delete_first_traces,
    delete_traces_before,
    delete_traces_of,
    first_start_ns,
    last_seen_ns,
    sweep,
    used_bytes,
)
from ztrace_collector.storing.pruning import prune_figures
from ztrace_collector.storing.sampled_code import prune_code
from ztrace_collector.storing.store import Store
from ztrace_collector.storing.waiting import is_sent

#: Target duration of a step, less than that of a transaction.
STEP_S = 0.02
#: Spans of the first step, and bounds of later ones.
FIRST_SPANS, MIN_SPANS, MAX_SPANS = 2_000, 200, 20_000
#: Share of the time for deleting; the share while the file exceeds its limit by a factor, and that factor.
SHARE, LATE_SHARE, LATE = 0.25, 0.5, 1.02
#: Unused time that may be made up for, with several steps after a transaction.
BURST_S = 0.2
#: Poll interval while there is nothing to delete: a busy collector stores 15 MB a second.
LOOK_S = 0.1
#: Pause after a step with an internal error.
PAUSE_S = 60.0
#: Interval of sweeping the tables whose rows belong to no trace.
SWEEP_S = 3600.0
#: Interval of looks, while the file is too large, for a service that has too many figures.
PRUNE_S = 60.0
#: Jump of the clock that is tolerated, and the time for which a larger jump is distrusted.
JUMP_NS, DOUBT_S = 10 * MINUTE_NS, 3600.0

_OVER = object()

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of retention: the time since a trace's arrival, and the size of the file; None for no limit."""

    keep_ns: int | None = None
    max_bytes: int | None = None


NO_LIMITS = Limits()


class Calendar:
    """Trusted time: after a jump ahead, the clock has an hour to be corrected.

    A machine that wakes up with a wrong clock would otherwise delete everything before the clock is set.
    """

    def __init__(
        self, known_ns: int | None, clock_ns: Callable[[], int], clock_s: Callable[[], float]
    ) -> None:
        """Start from a trusted time.

        Args:
            known_ns: a time in the past, such as the last one in the file; None to trust the clock.
            clock_ns: the clock.
            clock_s: a clock that never jumps.
        """
        self._clock_ns, self._clock_s = clock_ns, clock_s
        self._then_ns = clock_ns() if known_ns is None else known_ns
        self._then_s = clock_s()
        self._doubted_s: float | None = None

    def now_ns(self) -> int:
        """Return the trusted time."""
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
    """Deletion of what exceeds the limits of a store."""

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
        self._pruning: Iterator[None] | None = None
        self._next_prune_s = 0.0
        #: Traces that have been looked at for those of a service, by the highest id.
        self._looked_at: dict[str, int] = {}
        #: Traces have been deleted because of the size limit.
        self._has_outgrown = False
        #: Time of the next step, and whether there is something left to delete.
        self._next_s = 0.0
        self._behind = False

    def begin(self, store: Store) -> None:
        """Start over with a store that has been opened."""
        self._calendar = Calendar(last_seen_ns(store), self._clock_ns, self._clock_s)
        self._sweep = self._pruning = None
        self._looked_at.clear()

    def pause(self) -> None:
        """Delete nothing for a while, after an internal error."""
        self._sweep = self._pruning = None
        self._behind = False
        self._next_s = self._clock_s() + PAUSE_S

    def wait_s(self) -> float:
        """Return the time until the next step, infinity if there is nothing to delete."""
        return max(0.0, self._next_s - self._clock_s()) if self._behind else float("inf")

    def tend(self, store: Store) -> None:
        """Run the steps that are due.

        Raises:
            DatabaseError: a step failed and was rolled back.
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
        """Delete a piece; return whether there was anything to delete."""
        start_s = self._clock_s()
        if self._delete_traces(store, used):
            _log.debug("deleted a step of traces in %.1f ms", 1000 * (self._clock_s() - start_s))
            # Approach the target duration slowly: a step may have been slow by chance.
            taken_s = max(self._clock_s() - start_s, 1e-4)
            wanted = self._spans * min(2.0, 0.5 + 0.5 * STEP_S / taken_s)
            self._spans = int(min(MAX_SPANS, max(MIN_SPANS, wanted)))
            return True
        if self._sweep is None and start_s >= self._next_sweep_s and is_sent(store, self._clock_ns()):
            self._next_sweep_s = start_s + SWEEP_S
            before_ns = self._find_horizon(store)
            self._sweep = None if before_ns is None else sweep(store, before_ns)
        if self._sweep is not None and next(self._sweep, _OVER) is _OVER:
            self._sweep = None
        return self._sweep is not None

    def _delete_traces(self, store: Store, used: int) -> bool:
        keep_ns = self._limits.keep_ns
        if keep_ns is not None and delete_traces_before(store, store.age_ns - keep_ns, self._spans):
            return True
        max_bytes = self._limits.max_bytes
        if max_bytes is None or used <= max_bytes or not is_sent(store, self._clock_ns()):
            return False
        if self._prune_figures(store, max_bytes):
            return True
        if self._make_room(store):
            self._has_outgrown = True
            return True
        return False

    def _prune_figures(self, store: Store, max_bytes: int) -> bool:
        """Delete a piece of the code, or of a service's figures, of which there is too much.

        Returns:
            Whether to go on.
        """
        now_s = self._clock_s()
        if self._pruning is None and now_s >= self._next_prune_s:
            self._next_prune_s = now_s + PRUNE_S
            self._pruning = chain(prune_code(store, max_bytes), prune_figures(store, max_bytes))
        if self._pruning is not None and next(self._pruning, _OVER) is _OVER:
            self._pruning = None
        return self._pruning is not None

    def _make_room(self, store: Store) -> bool:
        """Delete traces of the service that brought the most, or else the oldest; return whether to go on."""
        while (service := store.brought.heaviest()) is not None:
            after = self._looked_at.get(service, 0)
            deleted, next_after = delete_traces_of(store, service, after, self._spans)
            if next_after is None:
                self._looked_at.pop(service, None)
                store.brought.drop(service)
                continue
            self._looked_at[service] = next_after
            if deleted:
                store.brought.pay(service, deleted)
            return True
        return bool(delete_first_traces(store, self._spans))

    def _oldest_ns(self) -> int | None:
        """Return the start of the first hour that the age limit keeps, None without a limit."""
        if self._limits.keep_ns is None:
            return None
        return (self._calendar.now_ns() - self._limits.keep_ns) // HOUR_NS * HOUR_NS

    def _find_horizon(self, store: Store) -> int | None:
        """Return the time before which all traces have been deleted, None if none have been."""
        horizons = [self._oldest_ns(), first_start_ns(store) if self._has_outgrown else None]
        return max([each for each in horizons if each is not None], default=None)
