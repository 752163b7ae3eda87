"""Cost of ``ztrace-run`` at the start of a program: CPU time of a Python that does nothing, with and without.

    python -m tests.benchmarks.starting

The three ways alternate in one run, and the table has the medians:

- bare: ``python -c pass``.
- hooked: the same with the variables that ``ztrace-run`` sets, as every process of a traced program starts.
- command: ``ztrace-run python -c pass``, which starts another Python before, once for each program.
"""

import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from ztrace.running.command import make_environment

#: Starts of each way.
STARTS = 40
#: Required ratio of a hooked start to a bare one.
LIMIT = 1.25


def main() -> None:
    """Start Python in each way by turns, and print the table."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ZTRACE_")}
    bare = [sys.executable, "-c", "pass"]
    ways = {
        "bare": (bare, environ),
        "hooked": (bare, make_environment(environ, None)),
        "command": ([str(Path(sys.executable).with_name("ztrace-run")), *bare], environ),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(STARTS):
        for name, (command, variables) in ways.items():
            times[name].append(start(command, variables))
    print(f"{'start':10} {'CPU':>10} {'ratio':>8} {'limit':>8}")
    for name in ways:
        middle = statistics.median(times[name])
        ratio = middle / statistics.median(times["bare"])
        print(f"{name:10} {middle * 1e3:7.1f} ms {ratio:8.2f} {LIMIT if name == 'hooked' else '':>8}")


def start(command: list[str], environ: dict[str, str]) -> float:
    """Run a command to its end; return its CPU time in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environ, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


if __name__ == "__main__":
    main()
