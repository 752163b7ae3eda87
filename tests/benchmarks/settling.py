"""Settling at full load: what it takes from receiving, how far it falls behind, and when it has caught up.

Run by hand: ``python -m tests.benchmarks.settling [--rounds N]``. Four publishers send the call trees of
``tests.benchmarks.collector`` as fast as they are stored, and then nothing. What settling takes is its share
of the collector's CPU time while they send: rates would vary more from minute to minute.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.collector import ROUND_SPANS, connect, drain, make_templates, send_round
from ztrace.wire import BYE
from ztrace_collector.service import Options, collect
from ztrace_collector.settling.spare_time import SpareTime
from ztrace_collector.storing.writer import Writer
from ztrace_viewer.queries.stores.sqlite.store import open_file

#: Largest share of the CPU time that settling may take from receiving.
LIMIT = 0.05


def run_collector(database: Path) -> None:
    """Run the collector; for each line of input, print the CPU seconds of the process and of settling."""
    spent_s = 0.0
    step = SpareTime.step

    def timed(self: SpareTime, writer: Writer) -> None:
        nonlocal spent_s
        begin_s = time.thread_time()
        step(self, writer)
        spent_s += time.thread_time() - begin_s

    SpareTime.step = timed  # type: ignore[method-assign]

    def ready(endpoint: str) -> None:
        print(endpoint, flush=True)

        def answer() -> None:
            for _ in sys.stdin:
                print(time.process_time(), spent_s, flush=True)

        import threading

        threading.Thread(target=answer, daemon=True).start()

    collect(Options("tcp://127.0.0.1:0", database), ready=ready)


def ask(process: "subprocess.Popen[str]") -> tuple[float, float]:
    """Return the CPU seconds of a collector, and those of settling."""
    assert process.stdin is not None
    assert process.stdout is not None
    print(file=process.stdin, flush=True)
    whole_s, settling_s = map(float, process.stdout.readline().split())
    return whole_s, settling_s


def main() -> None:
    """Run the benchmark, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=12, help=f"rounds of {ROUND_SPANS:,} spans each")
    parser.add_argument("--collector", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.collector:
        return run_collector(options.collector)
    templates = make_templates(1)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        database = Path(name) / "traces.db"
        command = [sys.executable, "-m", "tests.benchmarks.settling", "--collector", str(database)]
        pipe = subprocess.PIPE
        process = stack.enter_context(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
        stack.callback(process.terminate)
        assert process.stdout is not None
        publishers = connect(stack, process.stdout.readline().strip())
        begin_s, before_s = time.monotonic(), ask(process)
        for number in range(options.rounds):
            send_round(publishers, templates, number)
        drain(publishers)
        sent_s, after_s = time.monotonic() - begin_s, ask(process)
        whole_s, settling_s = (after - before for before, after in zip(before_s, after_s, strict=True))
        spans = options.rounds * ROUND_SPANS
        print(f"spans received: {spans:,}, {spans / sent_s:,.0f} a second")
        print(f"CPU of settling meanwhile: {settling_s / whole_s:.1%} (limit {LIMIT:.0%})")
        behind = _count(database)
        print(f"behind by: {behind:,} spans")
        begin_s, before_s = time.monotonic(), after_s
        while _count(database) and time.monotonic() < begin_s + 600:
            time.sleep(0.2)
        caught_s, settling_s = time.monotonic() - begin_s, ask(process)[1] - before_s[1]
        print(f"caught up after: {caught_s:.0f} s, {1e6 * settling_s / max(1, behind):.1f} us of CPU a span")
        for publisher in publishers.values():
            publisher.send(BYE)


def _count(database: Path) -> int:
    with open_file(database) as store:
        return store.unsettled()


if __name__ == "__main__":
    main()
