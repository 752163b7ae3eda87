"""Seeded simulation of publishers and a collector, with a simulated clock and network.

    python -m tests.simulation --seeds 5000      run 5000 worlds, and print those that fail
    python -m tests.simulation --seed 17         run one world, with a line for every event

One idea: every random choice in a world is drawn from its seed, so a failure can be replayed. The agent's
worker, window, spool and adoption and the collector's store are the real ones; time, sockets and threads are
simulated (`world`).
"""

import argparse
import sys
import time
import traceback

from tests.simulation.running import prepared, run_seed

#: Failing seeds whose traceback is printed.
_SHOWN = 3


def main() -> int:
    """Run the command line; return 1 if a seed failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description="Simulate ztrace's delivery."
    )
    parser.add_argument("--seeds", type=int, default=1000, help="how many worlds to run (default: 1000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--seed", type=int, help="run one world, and print every event")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        with prepared() as folder:
            run_seed(arguments.seed, folder, log=print)
        print("every account is exact")
        return 0
    return _run_many(range(arguments.first, arguments.first + arguments.seeds))


def _run_many(seeds: range) -> int:
    failed: list[int] = []
    programs = spans = 0
    begun_s = shown_s = time.monotonic()
    with prepared() as folder:
        for number, seed in enumerate(seeds, 1):
            try:
                world = run_seed(seed, folder)
            except Exception as error:
                failed.append(seed)
                print(f"seed {seed}: {type(error).__name__}: {error}", flush=True)
                if len(failed) <= _SHOWN and not isinstance(error, AssertionError):
                    traceback.print_exc()
                continue
            programs += len(world.programs)
            spans += sum(program.created for program in world.programs.values())
            if time.monotonic() - shown_s > 1 and sys.stderr.isatty():
                shown_s = time.monotonic()
                print(f"\r{number:,} of {len(seeds):,} seeds, {len(failed)} failed", end="", file=sys.stderr)
    took_s = time.monotonic() - begun_s
    print(
        f"{len(seeds):,} seeds in {took_s:.1f} s ({len(seeds) / took_s:.0f} a second):"
        f" {programs:,} incarnations, {spans:,} spans, {len(failed)} seeds failed"
    )
    if failed:
        print(f"replay one with: python -m tests.simulation --seed {failed[0]}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
