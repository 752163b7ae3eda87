"""A process that makes spans at a rate and counts them itself: ``python -m tests.faults.making BOARD PLAN``.

It waits for ``go`` on its board, makes trees of five spans until its time is over or ``stop`` is said, and
prints what it saw of itself as one line of JSON.
"""

import io
import json
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.faults.board import Board

#: How often a maker looks at the clock: what is due since then is made in one go, as requests come in bursts.
TICK_S = 0.01
#: Spans in a tree.
TREE = 5
#: What the system has done with the thread that asks: ns running, ns waiting for a processor. Not everywhere.
SCHEDSTAT = Path("/proc/thread-self/schedstat")


class Plan(NamedTuple):
    """What a maker does.

    Attributes:
        endpoint: where it sends to; empty for no tracing at all.
        rate: spans per second; 0 for as many as it can.
        seconds: how long; it ends before if ``stop`` is said.
        ways: ``thread`` (the main one), ``threads``, ``gevent`` or ``asyncio``: these share the rate out.
        tracer: ``ztrace`` or ``opentelemetry``.
        timed: measure how long each tree's spans took of the caller's time.
        closing_s: how long it may take to deliver the rest at its end; negative for ending without a word.
    """

    endpoint: str
    rate: int = 5_000
    seconds: float = 10.0
    ways: str = "thread"
    tracer: str = "ztrace"
    timed: bool = False
    closing_s: float = 30.0


class Seen(NamedTuple):
    """What a maker tells at its end.

    Attributes:
        made: spans that it ended.
        seconds: how long it took to make them.
        grown_kb: by how much its highest memory rose since it began to make spans.
        closing_s: how long the rest took.
        queued: spans that were dropped for want of room in the queue.
        timings: see `Timings.report`.
    """

    made: int
    seconds: float
    grown_kb: int
    closing_s: float
    queued: int
    timings: dict[str, float]


class Timings:
    """How long the calls into the tracer took, and whose fault the long ones were.

    The system may take the processor from a thread at any time. Its own account (``schedstat``) says how
    long a thread ran and how long it waited for a processor: what is left of a long call is time in which it
    waited for something in its own process, which is what a tracer must not cause.
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


class Maker:
    """Makes the trees of one thread, task or greenlet, and counts them on the board."""

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
        """Make the trees that are due by now; tell whether there is more to come."""
        board, tree, plan = self._board, self._tree, self._plan
        elapsed_s = time.perf_counter() - self._begun_s
        over = elapsed_s >= plan.seconds
        # What is due is bounded, so that a machine that stood still for a second does not flood.
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
    """Do what the plan says."""
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
    """Return the most memory that this process has had; 0 where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return int(status.partition("VmHWM:")[2].split()[0])


class Untraced:
    """No tracer at all, to compare with."""

    dropped = 0

    def configure(self, endpoint: str) -> None:
        """Do nothing."""

    def tree(self) -> None:
        """Do nothing."""

    def close(self, timeout_s: float) -> bool:
        """Do nothing."""
        return True


class Ztrace:
    """What is tested."""

    dropped = 0

    def configure(self, endpoint: str) -> None:
        """Begin to trace."""
        import ztrace

        self._span = ztrace.span
        ztrace.configure(service="maker", endpoint=endpoint)

    def tree(self) -> None:
        """Make a root with four descendants."""
        span = self._span
        with span("root", number=1):
            with span("first", card="visa"):
                pass
            with span("second", card="visa"):
                with span("third", card="visa"):
                    pass
                with span("fourth", card="visa"):
                    pass

    def close(self, timeout_s: float) -> bool:
        """Deliver what is left."""
        import ztrace
        from ztrace import spans

        publisher = spans.publisher
        flushed = ztrace.flush(timeout_s)
        ztrace.shutdown()
        if publisher is not None:
            self.dropped = publisher.dropped
        return flushed


class OpenTelemetry:
    """The OpenTelemetry SDK as its documentation sets it up, with its defaults: to compare with."""

    dropped = 0

    def configure(self, endpoint: str) -> None:
        """Begin to trace."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._provider = TracerProvider(resource=Resource.create({"service.name": "maker"}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._start = self._provider.get_tracer("maker").start_as_current_span

    def tree(self) -> None:
        """Make the same tree."""
        start = self._start
        with start("root", attributes={"number": 1}):
            with start("first", attributes={"card": "visa"}):
                pass
            with start("second", attributes={"card": "visa"}):
                with start("third", attributes={"card": "visa"}):
                    pass
                with start("fourth", attributes={"card": "visa"}):
                    pass

    def close(self, timeout_s: float) -> bool:
        """Deliver what is left."""
        flushed = self._provider.force_flush(int(1000 * timeout_s))
        self._provider.shutdown()
        return bool(flushed)


TRACERS: dict[str, Callable[[], Ztrace | OpenTelemetry]] = {"ztrace": Ztrace, "opentelemetry": OpenTelemetry}


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


#: Greenlets or tasks that make spans at once.
SHARERS = 10

WAYS = {"thread": _in_a_thread, "gevent": _in_greenlets, "asyncio": _in_tasks}


def main() -> None:
    """Be the process."""
    board = Board(Path(sys.argv[1]))
    print(json.dumps(run(board, Plan(**json.loads(sys.argv[2])))), flush=True)


if __name__ == "__main__":
    main()
