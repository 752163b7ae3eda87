"""Maker of spans at a given rate, with its own count: ``python -m tests.faults.making BOARD PLAN``.

The maker waits for ``go`` on its board, makes trees of five spans until its time is over or ``stop`` is set,
and
prints its results as one line of JSON.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.faults.board import Board
from tests.faults.timing import Timings
from tests.faults.tracers import TRACERS, TREE, Untraced

#: Interval between bursts: the spans due are made at once, as requests arrive in bursts.
TICK_S = 0.01


class Plan(NamedTuple):
    """Parameters of a maker.

    Attributes:
        endpoint: the destination of spans; empty for no tracing.
        rate: spans per second; 0 for the maximum.
        seconds: the duration, unless ``stop`` is set before.
        ways: ``thread`` for the main thread; ``gevent`` or ``asyncio`` for several sharers of the rate.
        tracer: ``ztrace`` or ``opentelemetry``.
        timed: whether to measure the caller's time for each tree.
        closing_s: the timeout of delivery at the end; negative to exit without delivery.
    """

    endpoint: str
    rate: int = 5_000
    seconds: float = 10.0
    ways: str = "thread"
    tracer: str = "ztrace"
    timed: bool = False
    closing_s: float = 30.0


class Seen(NamedTuple):
    """Results of a maker.

    Attributes:
        made: the number of spans ended.
        seconds: the time taken to make them.
        grown_kb: the growth of peak memory since the first span.
        closing_s: the time taken by delivery at the end.
        queued: the number of spans dropped because the queue was full.
        timings: see `Timings.report`.
    """

    made: int
    seconds: float
    grown_kb: int
    closing_s: float
    queued: int
    timings: dict[str, float]


class Maker:
    """Maker of one thread, task or greenlet, counting its spans on the board."""

    def __init__(self, tree: Callable[[], None], board: Board, plan: Plan, sharers: int = 1) -> None:
        self.seconds = 0.0
        self.timings = Timings(plan.timed)
        self._tree = tree
        self._board = board
        self._plan = plan
        self._rate = plan.rate / sharers
        self._begun_s = time.perf_counter()
        self._made = 0

    def make_due(self) -> bool:
        """Make the trees that are due, and return whether to continue."""
        board, tree, plan = self._board, self._tree, self._plan
        elapsed_s = time.perf_counter() - self._begun_s
        over = elapsed_s >= plan.seconds
        # Bounded, so that a pause of the machine is not followed by a flood.
        due = int(min(elapsed_s, plan.seconds) * self._rate) - self._made
        trees = min(due // TREE, int(self._rate * 0.1)) if self._rate else 2_000
        if self._rate and due // TREE > trees:
            self._begun_s += (due - trees * TREE) / self._rate
        if plan.timed:
            self.timings.mark()
        for _ in range(trees):
            board["begun"] += TREE
            if plan.timed:
                before_ns = time.perf_counter_ns()
                tree()
                self.timings.note(time.perf_counter_ns() - before_ns)
            else:
                tree()
            board["ended"] += TREE
        self._made += trees * TREE
        self.seconds = time.perf_counter() - self._begun_s
        return not (over or board["stop"])


def run(board: Board, plan: Plan) -> Seen:
    """Carry out the plan and return the results."""
    if plan.ways == "gevent":
        from gevent import monkey

        monkey.patch_all()
    tracer = TRACERS[plan.tracer]() if plan.endpoint else Untraced()
    before_ns = time.perf_counter_ns()
    tracer.configure(plan.endpoint)
    board["configure_ns"] = time.perf_counter_ns() - before_ns
    board["ready"] = 1
    while not board["go"]:
        time.sleep(0.001)
    grown_kb = -_peak_kb()
    makers = WAYS[plan.ways](tracer.tree, board, plan)
    board["done"] = 1
    begun_s = time.perf_counter()
    if plan.closing_s >= 0:
        board["flushed"] = tracer.close(plan.closing_s)
    closing_s = time.perf_counter() - begun_s
    grown_kb += _peak_kb()
    timings = makers[0].timings.report()
    for maker in makers:
        maker.timings.close()
    return Seen(board["ended"], makers[0].seconds, grown_kb, closing_s, tracer.dropped, timings)


def _peak_kb() -> int:
    """Return the process's peak memory in KiB, or 0 where it is unknown."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return int(status.partition("VmHWM:")[2].split()[0])


def _in_a_thread(tree: Callable[[], None], board: Board, plan: Plan) -> list[Maker]:
    maker = Maker(tree, board, plan)
    while maker.make_due():
        if plan.rate:
            time.sleep(TICK_S)
    return [maker]


def _in_greenlets(tree: Callable[[], None], board: Board, plan: Plan) -> list[Maker]:
    import gevent

    makers = [Maker(tree, board, plan, SHARERS) for _ in range(SHARERS)]

    def work(maker: Maker) -> None:
        while maker.make_due():
            gevent.sleep(TICK_S)

    gevent.joinall([gevent.spawn(work, maker) for maker in makers], raise_error=True)
    return makers


def _in_tasks(tree: Callable[[], None], board: Board, plan: Plan) -> list[Maker]:
    import asyncio

    makers = [Maker(tree, board, plan, SHARERS) for _ in range(SHARERS)]

    async def work(maker: Maker) -> None:
        while maker.make_due():
            await asyncio.sleep(TICK_S)

    async def work_together() -> None:
        await asyncio.gather(*map(work, makers))

    asyncio.run(work_together())
    return makers


#: Number of greenlets or tasks that make spans concurrently.
SHARERS = 10

WAYS = {"thread": _in_a_thread, "gevent": _in_greenlets, "asyncio": _in_tasks}


def main() -> None:
    """Run a maker on the board and the plan given as arguments."""
    board = Board(Path(sys.argv[1]))
    print(json.dumps(run(board, Plan(**json.loads(sys.argv[2])))), flush=True)


if __name__ == "__main__":
    main()
