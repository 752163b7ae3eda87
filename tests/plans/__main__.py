"""Random plans of nested calls over mixed libraries: ``python -m tests.plans [--count N] [--seed N]``.

The services log what they were asked, and each stored tree is compared with the logs.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.plans.running import run_plans


def main() -> int:
    """Run the plans, and print how their trees differ; return 1 if any does."""
    parser = argparse.ArgumentParser(prog="python -m tests.plans")
    parser.add_argument("--count", type=int, default=200, help="number of plans")
    parser.add_argument("--seed", type=int, default=2012, help="of the plans")
    arguments = parser.parse_args()
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="plans-") as folder:
        spans, differences = run_plans(arguments.count, arguments.seed, Path(folder))
    for difference in differences:
        print(difference, end="\n\n")
    took_s = time.monotonic() - begun_s
    print(f"{arguments.count} plans, {spans:,} spans, {len(differences)} trees differ ({took_s:.0f} s)")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
