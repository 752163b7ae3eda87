"""Durations of calls into a tracer, and the causes of long ones.

One idea: the kernel may preempt a thread at any time. Its scheduler statistics (``schedstat``) have a
thread's
time running and waiting for a processor: the rest of a long call was spent waiting within the process, which
a
tracer must not cause.
"""

import io
import time
from array import array
from pathlib import Path

#: Statistics of the calling thread, where available: ns running, ns waiting for a processor.
SCHEDSTAT = Path("/proc/thread-self/schedstat")


class Timings:
    """Timings of one thread's calls.

    Attributes:
        long: the number of calls longer than `LONG_NS`.
        long_waits: the number of calls that waited longer than `LONG_NS` within the process.
        max_ns: the longest call.
        max_wait_ns: the longest wait within the process.
    """

    #: Duration of a long call.
    LONG_NS = 1_000_000
    #: Width and number of buckets: calls of up to 10 ms are distinguished.
    BUCKET_NS, BUCKETS = 100, 100_000

    def __init__(self, watching: bool) -> None:
        self.max_ns = self.max_wait_ns = self.long = self.long_waits = 0
        self._counts = array("q", bytes(8 * self.BUCKETS))
        self._file: io.FileIO | None = None
        if watching and SCHEDSTAT.exists():
            self._file = io.FileIO(SCHEDSTAT)
        self._mark = (0, 0)

    def mark(self) -> None:
        """Start a measurement, after the caller has slept."""
        self._mark = (time.perf_counter_ns(), self._busy_ns())

    def note(self, call_ns: int) -> None:
        """Record a call that has just ended."""
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
        """Return quantiles in µs, the number of long calls, and the longest wait within the process."""
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
        """Close the statistics file."""
        if self._file is not None:
            self._file.close()

    def _quantile(self, rank: float) -> float:
        for bucket, count in enumerate(self._counts):
            rank -= count
            if rank < 0:
                return bucket * self.BUCKET_NS / 1e3
        return 0.0

    def _busy_ns(self) -> int:
        """Return the time this thread has run or waited for a processor."""
        if self._file is None:
            return time.thread_time_ns()
        ran, waited, _ = self._file.read(100).split()
        self._file.seek(0)
        return int(ran) + int(waited)
