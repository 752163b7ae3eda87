"""Cost and accuracy of the sampler: owners of spans, samples at 50 Hz, and the truth of known programs.

    python -m tests.benchmarks.sampling [SECONDS]

Each figure comes from processes of its own, which do the same work with and without samples in turns; costs
are CPU times. The truth of a program is what its functions measure themselves: the CPU time of those that
compute, the wall time of those that wait.

- owner: what a span pays for the number of its thread while nothing is sampled.
- parked: the whole process with 64 open spans, each of a greenlet that waits 20 calls deep.
- idle: the whole process without a span.
- busy: CPU time of a call in a process that does nothing else; beside it pyinstrument's and py-spy's at the
  same rate, where they are installed, py-spy's own process included.
- error: over all pairs of span and function, the time that is with another pair, as a part of all.
- run: points by which the share of the running samples differs from that of the functions that compute. On a
  machine that is busy otherwise, threads that wait for a core seem to block.
"""

import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import ztrace
from tests.ztrace.profiling.profiles import read
from ztrace import spans
from ztrace.native import get_ident
from ztrace.profiling import encoding, profiler
from ztrace.records import RUN
from ztrace.settings import PROFILES

#: Seconds of each measurement unless others are given, and turns of the comparisons.
SECONDS, TURNS = 10.0, 5
#: An endpoint at which nobody listens.
NOWHERE = "tcp://127.0.0.1:9"
#: Open spans and depth of their stacks.
PARKED, DEPTH = 64, 20
#: Required figures.
LIMITS = {"owner": 100.0, "parked": 1.0, "idle": 0.5, "busy": 1 / 0.99, "error": 4.0, "run": 3.0}


def main() -> None:
    """Run all measurements, and print the table."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    print(f"Python {sys.version.split()[0]}, {seconds:g} s each, load {os.getloadavg()[0]:.1f}")
    show("owner", ask("owner"), "ns a span")
    for name in ("parked", "idle"):
        costs = {mode: ask("share", name, str(seconds), mode=mode) for mode in ("demand", "always")}
        show(name, 100 * (costs["always"] - costs["demand"]), "% of a core")
    calls: dict[str, list[float]] = {mode: [] for mode in ("demand", "always", "pyinstrument", "py-spy")}
    for _ in range(TURNS):
        for mode, figures in calls.items():
            figures.append(ask("call", str(seconds / TURNS), mode=mode))
    base = statistics.median(calls.pop("demand"))
    for mode, figures in calls.items():
        print(f"busy, {mode:22} {statistics.median(figures) / base:8.3f} times the CPU", end="")
        print(f"   (limit {LIMITS['busy']:.3f})" if mode == "always" else "")
    for kind in ("greenlets", "tasks", "threads", "gil"):
        answer = ask_truth(kind, seconds)
        show("error", answer["error"], f"% {kind}")
        show("run", answer["run"], f"points {kind}")


def show(name: str, figure: float, unit: str) -> None:
    """Print a figure beside its limit."""
    print(f"{name:28} {figure:8.2f} {unit:20} (limit {LIMITS[name]:.4g})", flush=True)


def ask(*arguments: str, mode: str = "demand") -> float:
    """Return the figure that a process of its own prints."""
    return float(_run(*arguments, mode=mode))


def ask_truth(kind: str, seconds: float) -> dict[str, float]:
    """Return how far the samples of a program are from its truth."""
    answer: dict[str, float] = json.loads(_run("truth", kind, str(seconds), mode="always"))
    return answer


def _run(*arguments: str, mode: str) -> str:
    environment = {**os.environ, "ZTRACE_PROFILE": mode if mode in PROFILES else "off", "MODE": mode}
    command = [sys.executable, "-m", "tests.benchmarks.sampling", *arguments]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    assert done.returncode == 0, arguments
    return done.stdout


def measure_owner() -> float:
    """Return what the owner of a span costs while nothing is sampled, in ns."""

    class Slot:
        __slots__ = ("owner",)

    slot, activate, find_owner = Slot(), True, get_ident
    costs = []
    for _ in range(9):
        before = time.process_time_ns()
        for _ in range(200_000):
            slot.owner = None if activate else activate  # type: ignore[attr-defined]
        between = time.process_time_ns()
        for _ in range(200_000):
            slot.owner = find_owner() if activate else None  # type: ignore[attr-defined]
        costs.append(((time.process_time_ns() - between) - (between - before)) / 200_000)
    return statistics.median(costs)


def measure_share(name: str, seconds: float) -> float:
    """Return the share of a core that a process takes whose greenlets wait, or that has none."""
    import gevent

    def wait(depth: int = DEPTH) -> None:
        if depth:
            wait(depth - 1)
        else:
            gevent.sleep(seconds + 60)

    def open_span(number: int) -> None:
        with ztrace.span(f"m{number}"):
            wait()

    ztrace.configure("bench", NOWHERE)
    with ztrace.span("first"):  # Starts the threads.
        pass
    time.sleep(0.2)
    waiting = [gevent.spawn(open_span, number) for number in range(PARKED if name == "parked" else 0)]
    gevent.sleep(1.5)
    before_s, began_s = time.process_time(), time.monotonic()
    gevent.sleep(seconds)
    share = (time.process_time() - before_s) / (time.monotonic() - began_s)
    gevent.killall(waiting)
    return share


def measure_call(seconds: float) -> float:
    """Return the CPU time of a call, in µs."""
    ztrace.configure("bench", NOWHERE)
    peer: Any = None
    if os.environ["MODE"] == "pyinstrument":
        try:
            from pyinstrument import Profiler as Peer  # type: ignore[import-not-found]
        except ImportError:
            return float("nan")
        peer = Peer(interval=1 / profiler.HZ)
        peer.start()
    outside: subprocess.Popen[bytes] | None = None
    if os.environ["MODE"] == "py-spy":
        if shutil.which("py-spy") is None:
            return float("nan")
        command = ["py-spy", "record", "-r", str(profiler.HZ), "-d", "600", "-p", str(os.getpid())]
        quiet = subprocess.DEVNULL
        outside = subprocess.Popen([*command, "-f", "raw", "-o", os.devnull], stdout=quiet, stderr=quiet)
        time.sleep(1)
    with ztrace.span("first"):
        pass
    before_s, end_s, count = time.process_time(), time.monotonic() + seconds, 0
    while time.monotonic() < end_s:
        with ztrace.span("call"):
            for _ in range(20):
                sum(map(len, map(str, range(100))))
        count += 1
    spent_s = time.process_time() - before_s
    if peer is not None:
        peer.stop()
    if outside is not None:
        outside.send_signal(signal.SIGINT)
        outside.wait()
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent_s += usage.ru_utime + usage.ru_stime
    return spent_s / count * 1e6


class Truth:
    """What the functions of a program measure of themselves, in seconds by span and function."""

    def __init__(self) -> None:
        self.spent: dict[tuple[str, str], float] = {}

    def add(self, span: str, function: str, seconds: float) -> None:
        """Add to the time of a function."""
        self.spent[span, function] = self.spent.get((span, function), 0.0) + seconds


def compare(truth: Truth, bodies: list[bytes]) -> dict[str, float]:
    """Return the error over spans and functions in percent, and the difference of the running share."""
    functions = {function for _, function in truth.spent}
    seen: dict[tuple[str, str], float] = {}
    running = 0.0
    for body in bodies:
        for one in read(body).sums:
            names = [name.rpartition(".")[2] for name in reversed(one.stack)]
            function = next((name for name in names if name in functions), "other")
            key = one.method, function
            seen[key] = seen.get(key, 0.0) + one.us / 1e6
            running += one.us / 1e6 if one.state == RUN else 0.0
    total, all_seen = sum(truth.spent.values()), sum(seen.values())
    # By shares: a machine that is busy with something else delays both.
    error = sum(
        abs(truth.spent.get(key, 0.0) / total - seen.get(key, 0.0) / all_seen)
        for key in truth.spent.keys() | seen.keys()
    )
    computed = sum(spent for (_, function), spent in truth.spent.items() if function != "waits")
    return {"error": 50 * error, "run": 100 * abs(computed / total - running / all_seen)}


def sample(program: Callable[[Truth, float], None], seconds: float) -> tuple[Truth, list[bytes]]:
    """Run a program while it is sampled; return its truth and the bodies of its profiles."""
    bodies: list[bytes] = []

    def encode(*arguments: Any, **options: Any) -> bytes | None:
        body = encoding.encode(*arguments, **options)
        bodies.extend([body] if body is not None else [])
        return body

    profiler.encode = encode  # type: ignore[attr-defined]
    ztrace.configure("bench", NOWHERE)
    with ztrace.span("first"):
        pass
    while spans.find_owner is get_ident:
        time.sleep(0.01)
    truth = Truth()
    program(truth, time.monotonic() + seconds)
    ztrace.shutdown()
    return truth, bodies


def burn(seconds: float) -> None:
    """Compute for some CPU time of the thread, in Python."""
    end_s = time.thread_time() + seconds
    while time.thread_time() < end_s:
        sum(range(20))


def run_greenlets(truth: Truth, end_s: float) -> None:
    """Serve requests in 12 greenlets of one thread."""
    import gevent

    def parse(span: str, number: int) -> None:
        before_s = time.monotonic()
        burn(0.002 + 0.001 * (number % 3))
        truth.add(span, "parse", time.monotonic() - before_s)

    def compute(span: str, number: int) -> None:
        before_s = time.monotonic()
        burn(0.001 * (1 + number % 5))
        truth.add(span, "compute", time.monotonic() - before_s)

    def waits(span: str, number: int) -> None:
        before_s = time.monotonic()
        gevent.sleep(0.02 * (1 + number % 4))
        truth.add(span, "waits", time.monotonic() - before_s)

    def serve(number: int) -> None:
        name = f"m{number}"
        while time.monotonic() < end_s:
            with ztrace.span(name):
                parse(name, number)
                waits(name, number)
                compute(name, number)
            gevent.sleep(0.01)

    gevent.joinall([gevent.spawn(serve, number) for number in range(12)])


def run_tasks(truth: Truth, end_s: float) -> None:
    """Serve requests in 12 tasks of one loop."""
    import asyncio

    async def parse(span: str, number: int) -> None:
        before_s = time.monotonic()
        burn(0.002 + 0.001 * (number % 3))
        truth.add(span, "parse", time.monotonic() - before_s)

    async def compute(span: str, number: int) -> None:
        before_s = time.monotonic()
        burn(0.001 * (1 + number % 5))
        truth.add(span, "compute", time.monotonic() - before_s)

    async def waits(span: str, number: int) -> None:
        before_s = time.monotonic()
        await asyncio.sleep(0.02 * (1 + number % 4))
        truth.add(span, "waits", time.monotonic() - before_s)

    async def serve(number: int) -> None:
        name = f"m{number}"
        while time.monotonic() < end_s:
            with ztrace.span(name):
                await parse(name, number)
                await waits(name, number)
                await compute(name, number)
            await asyncio.sleep(0.01)

    async def serve_all() -> None:
        await asyncio.gather(*map(serve, range(12)))

    asyncio.run(serve_all())


def run_threads(truth: Truth, end_s: float) -> None:
    """Serve requests in 4 threads, which mostly wait."""

    def parse(span: str, number: int) -> None:
        before_s = time.monotonic()
        burn(0.002 + 0.001 * number)
        truth.add(span, "parse", time.monotonic() - before_s)

    def waits(span: str, number: int) -> None:
        before_s = time.monotonic()
        time.sleep(0.02 * (1 + number))
        truth.add(span, "waits", time.monotonic() - before_s)

    _run_threads([parse, waits], 4, end_s)


def run_gil(truth: Truth, end_s: float) -> None:
    """Compute in one thread, in turns in Python and in C that keeps the interpreter to itself."""

    def in_python(span: str, number: int) -> None:
        before_s = time.monotonic()
        burn(0.02)
        truth.add(span, "in_python", time.monotonic() - before_s)

    def in_c(span: str, number: int) -> None:
        before_s = time.monotonic()
        sorted(range(200_000), key=(1).__add__, reverse=True)
        truth.add(span, "in_c", time.monotonic() - before_s)

    _run_threads([in_python, in_c], 1, end_s)


def _run_threads(steps: list[Callable[[str, int], None]], count: int, end_s: float) -> None:
    import threading

    def serve(number: int) -> None:
        name = f"m{number}"
        while time.monotonic() < end_s:
            with ztrace.span(name):
                for step in steps:
                    step(name, number)

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


PROGRAMS: dict[str, Callable[[Truth, float], None]] = {
    "greenlets": run_greenlets,
    "tasks": run_tasks,
    "threads": run_threads,
    "gil": run_gil,
}

if __name__ == "__main__":
    measured, *given = sys.argv[1:2] or [""], *sys.argv[2:]
    if measured == ["owner"]:
        print(measure_owner())
    elif measured == ["share"]:
        print(measure_share(given[0], float(given[1])))
    elif measured == ["call"]:
        print(measure_call(float(given[0])))
    elif measured == ["truth"]:
        print(json.dumps(compare(*sample(PROGRAMS[given[0]], float(given[1])))))
    else:
        main()
