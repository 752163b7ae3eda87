"""How long the calls into a tracer took, and whose fault the long ones were.

One idea: the system may take the processor from a thread at any time. Its own account (``schedstat``) says
how long a thread ran and how long it waited for a processor: what is left of a long call is time in which it
waited for something in its own process, which is what a tracer must not cause.
"""

import io
import time
from array import array
from pathlib import Path

#: What the system has done with the thread that asks: ns running, ns waiting for a processor. Not everywhere.
SCHEDSTAT = Path("/proc/thread-self/schedstat")


class Timings:
    """The calls of one thread.

    Attributes:
        long: calls longer than `LONG_NS`.
        long_waits: those that waited for longer than that in their own process.
        max_ns: the longest of them.
        max_wait_ns: the longest wait.
    """

    #: What counts as long.
    LONG_NS = 1_000_000
    #: The width of a bucket, and how many there are: calls up to 10 ms are told apart.
    BUCKET_NS, BUCKETS = 100, 100_000

    def __init__(self, watching: bool) -> None:
        self.max_ns = self.max_wait_ns = self.long = self.long_waits = 0
        self._counts = array("q", bytes(8 * self.BUCKETS))
        self._file: io.FileIO | None = None
        if watching and SCHEDSTAT.exists():
            self._file = io.FileIO(SCHEDSTAT)
        self._mark = (0, 0)

    def mark(self) -> None:
        """Begin to watch, after a sleep of the caller's own."""
        self._mark = (time.perf_counter_ns(), self._busy_ns())

    def note(self, call_ns: int) -> None:
        """Take down a call that has just ended."""
        self._counts[min(call_ns // self.BUCKET_NS, self.BUCKETS - 1)] += 1
        if call_ns <= self.LONG_NS:
            return
        wall_ns, busy_ns = self._mark
        self.mark()
        waited_ns = (self._mark[0] - wall_ns) - (self._mark[1] - busy_ns)
        wait_ns = min(call_ns, waited_ns)
        self.long += 1
        self.long_waits += wait_ns > self.LONG_NS
        self.max_ns = max(call_ns, self.max_ns)
        self.max_wait_ns = max(wait_ns, self.max_wait_ns)

    def report(self) -> dict[str, float]:
        """Return quantiles in µs, how many calls were long, and the longest wait inside the process."""
        calls = sum(self._counts)
        return {
            "calls": calls,
            **{f"p{100 * part:g}": self._quantile(part * calls) for part in (0.5, 0.99, 0.999)},
            "max": self.max_ns / 1e3,
            "long": self.long,
            "long_waits": self.long_waits,
            "max_wait": self.max_wait_ns / 1e3,
        }

    def close(self) -> None:
        """Let go of the system's account."""
        if self._file is not None:
            self._file.close()

    def _quantile(self, rank: float) -> float:
        for bucket, count in enumerate(self._counts):
            rank -= count
            if rank < 0:
                return bucket * self.BUCKET_NS / 1e3
        return 0.0

    def _busy_ns(self) -> int:
        """Return how long this thread has run or waited for a processor."""
        if self._file is None:
            return time.thread_time_ns()
        ran, waited, _ = self._file.read(100).split()
        self._file.seek(0)
        return int(ran) + int(waited)
