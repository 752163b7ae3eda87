"""Clock and event queue of a simulated world.

One idea: time advances from one event to the next, so a simulated minute costs as much as its events.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

from ztrace.publishing.ports import Clocks

#: Unix time at the zero of the monotonic clock: 2024-01-01T00:00:00Z.
EPOCH_NS = 1_704_067_200_000_000_000
SECOND_NS = 1_000_000_000


class Agenda:
    """Scheduled events, in order of time.

    Attributes:
        now_ns: the monotonic clock.
        shift_ns: the amount by which the wall clock was adjusted.
    """

    def __init__(self) -> None:
        self.now_ns = SECOND_NS
        self.shift_ns = 0
        self._due: list[tuple[int, int, Callable[[], object]]] = []
        self._count = count()

    def later(self, delay_s: float, action: Callable[[], object]) -> None:
        """Schedule an action after a delay."""
        heappush(self._due, (self.now_ns + int(delay_s * SECOND_NS), next(self._count), action))

    def pass_time(self, duration_s: float) -> None:
        """Advance the clock, running all actions that are due."""
        end_ns = self.now_ns + int(duration_s * SECOND_NS)
        while self._due and self._due[0][0] <= end_ns:
            self.now_ns, _, action = heappop(self._due)
            action()
        self.now_ns = end_ns

    @property
    def clocks(self) -> Clocks:
        """Clocks handed to a worker."""
        return Clocks(self.monotonic_s, self.unix_ns)

    def monotonic_s(self) -> float:
        """Return the monotonic clock in seconds."""
        return self.now_ns / SECOND_NS

    def monotonic_ns(self) -> int:
        """Return the monotonic clock in nanoseconds."""
        return self.now_ns

    def unix_ns(self) -> int:
        """Return the wall clock in nanoseconds."""
        return EPOCH_NS + self.now_ns + self.shift_ns
