"""Work on what all journals have sent, done by the process that holds the lease.

One idea: a holder may be killed at any point, or be slow and overlap with its successor. So each task

- keeps nothing that the engine does not have: a new object continues where another one ended,
- writes the same rows whichever process writes them, with a deduplication token, or into a table that keeps
  one row of a key; what depends on the moment is decided by a batch that is written ahead
  (`ztrace_collector.clickhouse.batches`), of which one counts where two processes write it,
- does little in each step, some 100 ms, since new spans wait meanwhile.

A task is an object with `step`, made when the lease is gained, by a function in `TASKS`. An error of the
engine ends the connection; the next one starts with new tasks. An internal error pauses only the task that
raised it.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from ztrace_collector.clickhouse.engine import engine_errors
from ztrace_collector.clickhouse.lease import Claims, Lease
from ztrace_collector.clickhouse.settling.settler import Settler
from ztrace_collector.storing.defects import log_defect

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

#: Pause of a task after an internal error.
AGAIN_S = 30.0

_log = logging.getLogger(__name__)


class Task(Protocol):
    """Work in small steps."""

    def step(self) -> bool:
        """Do a part of the work; return whether there is more to do at once.

        Raises:
            Exception: an error of the engine, or an internal one. The object is not used again.
        """
        ...


#: Function that makes a task over a connection.
MakeTask = Callable[["Client"], Task]

#: Tasks of the holder; in each round, each does one step, in this order.
TASKS: tuple[MakeTask, ...] = (Settler,)


class LeasedTasks:
    """Tasks of one connection, which run while this process holds the lease."""

    def __init__(
        self,
        client: "Client",
        claims: Claims,
        lease: Lease,
        makers: Sequence[MakeTask],
        *,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with no task made.

        Args:
            client: from `ztrace_collector.clickhouse.engine.open_engine`.
            claims: the claims on the lease, over this connection.
            lease: the process's part in it.
            makers: functions that make the tasks.
            clock_s: the process's own clock.
        """
        self._client, self._claims, self._lease = client, claims, lease
        self._makers, self._clock_s = makers, clock_s
        self._tasks: dict[int, Task] = {}
        #: Time from which each task may run again after an internal error.
        self._again_s: dict[int, float] = {}
        self._errors = engine_errors()

    def run(self, duration_s: float) -> None:
        """Run steps for a time, or until there is nothing to do.

        Raises:
            Exception: an error of the engine.
        """
        end_s = self._clock_s() + duration_s
        busy = [*range(len(self._makers))]
        while busy:
            for number in tuple(busy):
                self._lease.keep(self._claims)
                if not self._lease.held():
                    self._tasks.clear()
                    return
                if not self._step(number):
                    busy.remove(number)
                if self._clock_s() >= end_s:
                    return
        self._lease.keep(self._claims)

    def _step(self, number: int) -> bool:
        if self._clock_s() < self._again_s.get(number, 0.0):
            return False
        try:
            task = self._tasks.get(number)
            if task is None:
                task = self._tasks[number] = self._makers[number](self._client)
            return task.step()
        except self._errors:
            raise
        except Exception as error:
            log_defect(_log, "work on what all collectors sent", error)
            self._tasks.pop(number, None)
            self._again_s[number] = self._clock_s() + AGAIN_S
            return False

    def end(self) -> None:
        """Give the lease back, if the engine answers."""
        with suppress(*self._errors):
            self._lease.withdraw(self._claims)
