"""Samples on the right span, of programs whose truth is known; and what others see of 12 greenlets.

    python -m tests.benchmarks.right_span [SECONDS]

Each request has a span of its own name, which computes, and one within, which waits. Their functions are made
for this request alone, so a sample whose stack has the functions of another span is on the wrong one.

pyinstrument and py-spy know no spans, so the functions in a stack tell the request. Their error, and beside
it that of the sampler, is the time that is with another request than in truth, as a part of all.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ztrace
from tests.benchmarks import sampling
from tests.benchmarks.sampling import Truth, burn
from tests.ztrace.profiling.profiles import read
from ztrace.profiling import profiler

#: Seconds of each program unless others are given, and requests at a time.
SECONDS, REQUESTS = 10.0, 12
#: Required share of the samples.
LIMIT = 99.0
#: Program of py-spy, if it is installed.
PY_SPY = Path(sys.executable).with_name("py-spy")


def main() -> None:
    """Run all programs, and print the table."""
    seconds = sys.argv[1] if len(sys.argv) > 1 else str(SECONDS)
    print(f"Python {sys.version.split()[0]}, {seconds} s each, load {os.getloadavg()[0]:.1f}")
    for kind in PROGRAMS:
        right = run("right", kind, seconds, mode="always")
        print(
            f"on the right span, {kind:12} {right['right']:6.2f}% of {right['samples']:,.0f} samples", end=""
        )
        print(f"   (limit {LIMIT:.0f}%)", flush=True)
    peers = {"ztrace": True, "pyinstrument": find_spec("pyinstrument"), "py-spy": PY_SPY.exists()}
    for peer in (name for name, is_there in peers.items() if is_there):
        mode = "always" if peer == "ztrace" else "off"
        error = run("error", peer, seconds, mode=mode)
        print(f"error with 12 greenlets, {peer:14} {error['error']:6.1f}%", flush=True)


def run(*arguments: str, mode: str) -> dict[str, float]:
    """Return the figures that a process of its own prints."""
    command = [sys.executable, "-m", "tests.benchmarks.right_span", *arguments]
    environment = {**os.environ, "ZTRACE_PROFILE": mode}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    assert done.returncode == 0, arguments
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def make_step(name: str, *, asynchronous: bool = False) -> Callable[..., Any]:
    """Return a function of a name of its own that calls another one."""
    names: dict[str, Any] = {}
    source = (
        f"async def {name}(work):\n    await work()" if asynchronous else f"def {name}(work):\n    work()"
    )
    exec(source, names)
    step: Callable[..., Any] = names[name]
    return step


def serve_greenlets(truth: Truth, end_s: float) -> None:
    """Serve requests in greenlets of one thread, each with a call in a span within."""
    import gevent

    def serve(number: int) -> None:
        outer, inner = make_step(f"of_m{number}_"), make_step(f"of_c{number}_")

        def compute() -> None:
            measure(truth, f"m{number}", "burn", lambda: burn(0.001 * (1 + number % 4)))

        def wait() -> None:
            measure(truth, f"c{number}", "sleep", lambda: gevent.sleep(0.01 * (1 + number % 3)))

        while time.monotonic() < end_s:
            with ztrace.span(f"m{number}"):
                outer(compute)
                with ztrace.span(f"c{number}"):
                    inner(wait)
            gevent.sleep(0.005)

    gevent.joinall([gevent.spawn(serve, number) for number in range(REQUESTS)])


def serve_tasks(truth: Truth, end_s: float) -> None:
    """Serve requests in tasks of one loop, each with a call in a span within."""
    import asyncio

    async def serve(number: int) -> None:
        outer, inner = make_step(f"of_m{number}_"), make_step(f"of_c{number}_", asynchronous=True)
        while time.monotonic() < end_s:
            with ztrace.span(f"m{number}"):
                outer(lambda: burn(0.001 * (1 + number % 4)))
                with ztrace.span(f"c{number}"):
                    await inner(lambda: asyncio.sleep(0.01 * (1 + number % 3)))
            await asyncio.sleep(0.005)

    async def serve_all() -> None:
        await asyncio.gather(*map(serve, range(REQUESTS)))

    asyncio.run(serve_all())


def serve_threads(truth: Truth, end_s: float) -> None:
    """Serve requests in threads that compute and wait, each with a call in a span within."""
    import threading

    def serve(number: int) -> None:
        outer, inner = make_step(f"of_m{number}_"), make_step(f"of_c{number}_")
        while time.monotonic() < end_s:
            with ztrace.span(f"m{number}"):
                outer(lambda: burn(0.001 * (1 + number % 4)))
                with ztrace.span(f"c{number}"):
                    inner(lambda: time.sleep(0.01 * (1 + number % 3)))

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(REQUESTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


PROGRAMS = {"greenlets": serve_greenlets, "tasks": serve_tasks, "threads": serve_threads}


def measure(truth: Truth, span: str, function: str, work: Callable[[], object]) -> None:
    """Run some work, and add its time to the truth."""
    before_s = time.monotonic()
    work()
    truth.add(span, function, time.monotonic() - before_s)


def sample(kind: str, seconds: float) -> tuple[Truth, list[tuple[str, tuple[str, ...], float]]]:
    """Run a program, and return its truth and the sampled spans, stacks and seconds."""
    truth, bodies = sampling.sample(PROGRAMS[kind], seconds)
    return truth, [(one.method, one.stack, one.us / 1e6) for body in bodies for one in read(body).sums]


def find_owner(stack: tuple[str, ...]) -> str | None:
    """Return the span whose function is innermost in a stack."""
    owned = [name for name in stack if name.startswith("of_")]
    return owned[-1].removeprefix("of_").rstrip("_") if owned else None


def measure_right(kind: str, seconds: float) -> dict[str, float]:
    """Return the percentage of the sampled time that is on the right span, and the samples."""
    _, samples = sample(kind, seconds)
    known = [(span, owner, spent_s) for span, stack, spent_s in samples if (owner := find_owner(stack))]
    whole_s = sum(spent_s for *_, spent_s in known)
    right_s = sum(spent_s for span, owner, spent_s in known if span == owner)
    return {"right": 100 * right_s / whole_s, "samples": whole_s * profiler.HZ}


def measure_error(peer: str, seconds: float) -> dict[str, float]:
    """Return the error of a sampler, or of another program, on the greenlets."""
    if peer == "ztrace":
        truth, samples = sample("greenlets", seconds)
        return compare(truth, [(stack, spent_s) for _, stack, spent_s in samples])
    truth = Truth()
    if peer == "pyinstrument":
        from pyinstrument import Profiler  # type: ignore[import-not-found]
        from pyinstrument.renderers import JSONRenderer  # type: ignore[import-not-found]

        watching = Profiler(interval=1 / profiler.HZ)
        watching.start()
        serve_greenlets(truth, time.monotonic() + seconds)
        watching.stop()
        return compare(truth, list(walk(json.loads(watching.output(JSONRenderer()))["root_frame"], ())))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stacks"
        command = [
            str(PY_SPY),
            "record",
            "-r",
            str(profiler.HZ),
            "-d",
            str(int(seconds) - 1),
            "--idle",
        ]
        command += ["-p", str(os.getpid()), "-f", "raw", "-o", str(path)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as outside:
            serve_greenlets(truth, time.monotonic() + seconds)
            outside.wait()
        found = []
        for line in path.read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            found.append((tuple(each.partition(" ")[0] for each in stack.split(";")), float(count)))
    return compare(truth, found)


def walk(frame: dict[str, Any], above: tuple[str, ...]) -> list[tuple[tuple[str, ...], float]]:
    """Return the stacks of a frame of pyinstrument, each with its own time."""
    stack = (*above, frame["function"])
    inner = [each for child in frame["children"] for each in walk(child, stack)]
    own_s = frame["time"] - sum(child["time"] for child in frame["children"])
    return [*inner, (stack, own_s)]


def compare(truth: Truth, samples: list[tuple[tuple[str, ...], float]]) -> dict[str, float]:
    """Return the time that is with another request than in truth, in percent of all."""
    seen: dict[str, float] = {}
    for stack, spent_s in samples:
        owner = find_owner(stack) or "other"
        seen[owner] = seen.get(owner, 0.0) + spent_s
    known: dict[str, float] = {}
    for (span, _), spent_s in truth.spent.items():
        known[span] = known.get(span, 0.0) + spent_s
    whole_s, seen_s = sum(known.values()), sum(seen.values())
    apart = (abs(known.get(each, 0.0) / whole_s - seen.get(each, 0.0) / seen_s) for each in {*known, *seen})
    return {"error": 50 * sum(apart)}


if __name__ == "__main__":
    measured, *given = sys.argv[1:] or [""]
    if measured == "right":
        print(json.dumps(measure_right(given[0], float(given[1]))))
    elif measured == "error":
        print(json.dumps(measure_error(given[0], float(given[1]))))
    else:
        main()
