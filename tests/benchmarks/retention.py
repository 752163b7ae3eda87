"""Cost of retention: a collector that deletes as much as it writes, against one that keeps everything.

Run by hand: ``python -m tests.benchmarks.retention [--turns N]``. Both receive the call trees of
``tests.benchmarks.collector`` at the rate of storing, alternately in one run. One is limited to files of 100
MB,
reached after the first turns, the other is unlimited.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.collector import ROUND_SPANS, connect, drain, make_templates, send_round
from ztrace_collector.service import Options, collect
from ztrace_collector.storing.retention import Limits

#: Limit of the one collector, and turns until the limit is reached.
MAX_BYTES, FIRST_TURNS = 100_000_000, 4
#: Rounds per turn.
ROUNDS = 2


def start(stack: ExitStack, database: Path, max_bytes: int) -> str:
    """Start a collector process; return its endpoint."""
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.retention",
        "--collector",
        str(database),
        str(max_bytes),
    ]
    process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    stack.callback(process.terminate)
    assert process.stdout is not None
    return process.stdout.readline().strip()


def main() -> None:
    """Run the benchmark, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    spans = ROUNDS * ROUND_SPANS
    parser.add_argument("--turns", type=int, default=8, help=f"turns of {spans:,} spans each that count")
    parser.add_argument("--collector", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.collector:
        database, max_bytes = Path(options.collector[0]), int(options.collector[1])
        limits = Limits(max_bytes=max_bytes or None)
        collect(
            Options("tcp://127.0.0.1:0", database, limits=limits),
            ready=lambda endpoint: print(endpoint, flush=True),
        )
        return
    templates = make_templates(1)
    print(f"{'':24}{'all kept':>14}{'100 MB kept':>14}{'ratio':>8}{'file, MB':>10}")
    ratios = []
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        paths = [Path(name) / "kept.db", Path(name) / "bounded.db"]
        endpoints = [start(stack, path, limit) for path, limit in zip(paths, (0, MAX_BYTES), strict=True)]
        both = [connect(stack, endpoint) for endpoint in endpoints]
        for turn in range(-FIRST_TURNS, options.turns):
            rates = []
            for publishers in both:
                start_s = time.perf_counter()
                for number in range(ROUNDS * (turn + FIRST_TURNS), ROUNDS * (turn + FIRST_TURNS + 1)):
                    send_round(publishers, templates, number)
                drain(publishers)
                rates.append(spans / (time.perf_counter() - start_s))
            megabytes = paths[1].stat().st_size / 1e6
            if turn >= 0:
                ratios.append(rates[1] / rates[0])
                print(
                    f"{f'turn {turn + 1}, spans/s':24}{rates[0]:>14,.0f}{rates[1]:>14,.0f}"
                    f"{ratios[-1]:>8.2f}{megabytes:>10,.0f}",
                    flush=True,
                )
    print(f"{'median':24}{'':>28}{statistics.median(ratios):>8.2f}")


if __name__ == "__main__":
    main()
