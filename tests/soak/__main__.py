"""Soak of a collector, its page and a traced program: ``python -m tests.soak [--minutes N]``.

Figures are printed every few seconds; at the end, each is compared with itself, and the exit status is 1 if
one has grown. Docs: docs/faults.md.
"""

import argparse
import sys

from tests.faults.stage import Stage
from tests.soak.running import Soak
from tests.soak.watching import Sample, judge

#: Longest time for the collector to end.
MAX_STOP_S = 5.0


def main() -> int:
    """Run the soak, and judge its figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=10.0, metavar="N")
    arguments = parser.parse_args()
    with Stage() as stage:
        soak = Soak(stage)
        samples = soak.run(60 * arguments.minutes, _show)
        answered, unanswered = soak.answered
        stopped_s = soak.stop()
    print(
        f"{soak.killed} services killed, {soak.jobs} jobs, {soak.commands} commands,"
        f" {answered} of {answered + unanswered} requests answered, stops in {stopped_s:.1f} s"
    )
    verdicts = judge(samples)
    for verdict in verdicts:
        told = "flat" if verdict.is_flat else f"GROWS beyond {verdict.limit:.1f}"
        print(f"{verdict.name:<28} {verdict.before:8.1f} {verdict.after:8.1f}  {told}")
    is_well = all(verdict.is_flat for verdict in verdicts) and not unanswered and stopped_s < MAX_STOP_S
    return 0 if is_well else 1


def _show(sample: Sample) -> None:
    held = "  ".join(
        f"{name} {each.memory_mb:6.1f} MB {each.threads:2} thr {each.descriptors:3} fd"
        for name, each in sample.processes.items()
    )
    files = f"file {sample.database_mb:6.1f} MB, log {sample.log_mb:5.1f} MB, {sample.files} files"
    print(f"{sample.at_s:5.0f} s  {held}  {files}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
