"""Bytes and CPU of a span in a Parquet file, and the memory that an export takes.

Run by hand, with the extra ``scale``: ``python -m tests.benchmarks.parquet [--spans N]``. The call trees of
``tests.benchmarks.collector`` are stored in a database; each row of the table exports ten times as many.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.clickhouse import fill
from tests.benchmarks.collector import BATCH_SPANS, make_templates
from ztrace_collector.storing.store import Store

#: Program that exports, and prints its CPU seconds and its peak of memory in kB; the memory of a forked
#: child in ``getrusage`` begins with its parent's.
EXPORT = """
import time
from pathlib import Path
from ztrace_viewer.entry import main
assert main() == 0
print(time.process_time(), Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""


def main() -> None:
    """Run the benchmark, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spans", type=int, default=1_048_576, help="spans to store, in rounds of 131,072")
    options = parser.parse_args()
    templates = make_templates(1)
    rounds = max(1, options.spans // (len(templates) * BATCH_SPANS))
    with tempfile.TemporaryDirectory(prefix="ztrace-parquet-") as folder:
        database = Path(folder) / "ztrace.db"
        with Store(database) as store:
            for number in range(rounds):
                fill(store, templates, number)
        spans = rounds * len(templates) * BATCH_SPANS
        print(f"{spans:,} spans, {database.stat().st_size / spans:.1f} bytes each in the database\n")
        print(f"{'spans':>10}{'bytes a span':>14}{'CPU a span':>12}{'memory':>10}")
        for trees in (spans // 800, spans // 80, spans // 8):
            print(measure(database, Path(folder) / "spans.parquet", trees))


def measure(database: Path, target: Path, trees: int) -> str:
    """Return the line of an export of the newest trees, which have eight spans each."""
    arguments = ("export", "--db", str(database), "--output", str(target), "--limit", str(trees))
    told = subprocess.run(
        [sys.executable, "-c", EXPORT, *arguments], check=True, capture_output=True, text=True
    ).stdout
    cpu_s, peak_kb = map(float, told.split())
    spans = 8 * trees
    return (
        f"{spans:>10,}{target.stat().st_size / spans:>14.1f}{1e6 * cpu_s / spans:>9.1f} µs"
        f"{peak_kb / 1024:>7.0f} MB"
    )


if __name__ == "__main__":
    main()
