"""Time of a database: jumps of the wall clock, and the age of what is stored.

One idea: a clock that is set says nothing about how long a process has been silent or how old a trace is.
While the collector runs, a steady clock measures both; the wall clock only bridges the time between two runs.
"""

import sqlite3
import time
from collections.abc import Callable

from ztrace_collector.layout import MINUTE_NS, SECOND_NS

#: Difference between the clocks that is a jump of the wall clock: more than they drift apart.
JUMP_NS = SECOND_NS
#: Time between two runs that is believed at once, and the time for which a longer one is doubted: the clock
#: of a machine that has just started may be wrong until it is set.
BELIEVED_NS, DOUBT_NS = 10 * MINUTE_NS, 60 * MINUTE_NS
#: Interval of writing the age.
WRITE_NS = MINUTE_NS


def boot_ns() -> int:
    """Return the time since the machine started, sleep included where the system counts it."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return time.monotonic_ns()


class Jumps:
    """Detection of jumps of the wall clock."""

    def __init__(self, wall_ns: Callable[[], int], steady_ns: Callable[[], int]) -> None:
        self._wall_ns, self._steady_ns = wall_ns, steady_ns
        self._offset_ns = wall_ns() - steady_ns()

    def pending_ns(self) -> int:
        """Return how far the wall clock has jumped since the last `settle`, 0 if it has not."""
        jump_ns = self._wall_ns() - self._steady_ns() - self._offset_ns
        return jump_ns if abs(jump_ns) >= JUMP_NS else 0

    def settle(self, jump_ns: int) -> None:
        """Accept a jump, after everything that was measured by the wall clock has been moved by it."""
        self._offset_ns += jump_ns


class Age:
    """Time by which stored data ages, which starts with the file and never goes back.

    One idea: it is near the wall clock's time, so that hours of it can be read, but only passes as fast as
    the steady clock. The time between two runs is added at once if it is short, else after an hour, as far as
    the wall clock then still confirms it.
    """

    def __init__(
        self, db: sqlite3.Connection, wall_ns: Callable[[], int], steady_ns: Callable[[], int]
    ) -> None:
        """Continue with the time in a file."""
        self._wall_ns, self._steady_ns = wall_ns, steady_ns
        now_ns, self._begun_ns = wall_ns(), steady_ns()
        stored = db.execute("SELECT age_ns, wall_ns FROM collector_time").fetchone()
        #: The age and the wall clock at the end of the last run, or now.
        self._age_ns: int
        self._ended_ns: int
        self._age_ns, self._ended_ns = stored or (now_ns, now_ns)
        self._is_doubted = True
        self._written_ns: int | None = None
        if now_ns - self._ended_ns <= BELIEVED_NS:
            self._believe(0)

    def now_ns(self) -> int:
        """Return the present time."""
        run_ns = self._steady_ns() - self._begun_ns
        if self._is_doubted and run_ns >= DOUBT_NS:
            self._believe(run_ns)
        return self._age_ns + run_ns

    def arrival_ns(self) -> int:
        """Return the arrival time of spans received now: they may be kept too long, but never too short.

        While the time between two runs is doubted, it counts here.
        """
        now_ns = self.now_ns()
        return now_ns + self._gap_ns(self._steady_ns() - self._begun_ns) if self._is_doubted else now_ns

    def write(self, db: sqlite3.Connection) -> None:
        """Write the time within a transaction, if it was written a while ago."""
        now_ns = self.now_ns()
        # While the time between two runs is doubted, the file keeps the end of the last run.
        if self._is_doubted or (self._written_ns is not None and now_ns < self._written_ns + WRITE_NS):
            return
        self._written_ns = now_ns
        db.execute("INSERT OR REPLACE INTO collector_time VALUES (0, ?, ?)", (now_ns, self._wall_ns()))

    def forget(self) -> None:
        """Write the time again after a rollback."""
        self._written_ns = None

    def _believe(self, run_ns: int) -> None:
        self._is_doubted = False
        self._age_ns += self._gap_ns(run_ns)

    def _gap_ns(self, run_ns: int) -> int:
        """Return the time between the two runs by the present wall clock."""
        return max(0, self._wall_ns() - run_ns - self._ended_ns)


def move_times(db: sqlite3.Connection, jump_ns: int) -> None:
    """Move by a jump of the clock, within a transaction, when processes and their spans were last seen."""
    db.execute(
        "UPDATE publishers SET first_seen_ns = first_seen_ns + ?, last_seen_ns = last_seen_ns + ?",
        (jump_ns, jump_ns),
    )
    db.execute("UPDATE unfinished_spans SET seen_ns = seen_ns + ?", (jump_ns,))


def bound_times(db: sqlite3.Connection, now_ns: int) -> None:
    """Replace times of the last run that have not come yet by the present, in a transaction of its own."""
    db.execute("BEGIN IMMEDIATE")
    for table, column in (("publishers", "last_seen_ns"), ("unfinished_spans", "seen_ns")):
        db.execute(f"UPDATE {table} SET {column} = ? WHERE {column} > ?", (now_ns, now_ns))
    db.execute("COMMIT")
