"""Share that thinning keeps of an hour, and its cost.

Run by hand: ``python -m tests.benchmarks.thinning``. The trees of `tests.benchmarks.collector` are stored and
settled, an hour passes, and 5% are kept. Figures are compared before and after.
"""

import argparse
import tempfile
import time
from pathlib import Path

from tests.benchmarks.collector import BATCH_SPANS, TREES_PER_ROUND, make_templates
from tests.benchmarks.messages import Sending
from ztrace_collector.settling.settler import settle_all
from ztrace_collector.storing.store import Store
from ztrace_collector.storing.thinning import Thinner

FIGURES = ("method_figures", "path_figures", "exception_groups", "exceptions")


def main() -> None:
    """Run the benchmark, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of 131,072 spans each")
    options = parser.parse_args()
    templates, now_ns = make_templates(1), [time.time_ns()]
    with (
        tempfile.TemporaryDirectory() as folder,
        Store(Path(folder) / "thin.db", clock_ns=lambda: now_ns[0]) as store,
    ):
        sending = Sending()
        for number in range(options.rounds):
            for template in templates:
                store.store(sending.pack(template, number, BATCH_SPANS))
        for _ in settle_all(store, clock_ns=lambda: now_ns[0]):
            pass

        def count(table: str) -> int:
            ((number,),) = store.read(f"SELECT count(*) FROM {table}")
            return int(number)

        before = {table: store.read(f"SELECT * FROM {table}") for table in FIGURES}
        ((failed,),) = store.read("SELECT count(*) FROM traces WHERE error_count > 0")
        spans, traces = count("spans"), count("traces")
        assert traces == options.rounds * TREES_PER_ROUND
        now_ns[0] += 3600 * 10**9
        thinner, longest_s = Thinner(0.05), 0.0
        begin_s = time.process_time()
        while thinner.wait_s() == 0:
            step_s = time.process_time()
            thinner.step(store)
            longest_s = max(longest_s, time.process_time() - step_s)
        taken_s = time.process_time() - begin_s
        assert before == {table: store.read(f"SELECT * FROM {table}") for table in FIGURES}
        ((errors_kept,),) = store.read("SELECT count(*) FROM traces WHERE error_count > 0")
        deleted = spans - count("spans")
        print(f"spans kept            {count('spans') / spans:.1%} of {spans:,}")
        print(f"traces kept           {count('traces') / traces:.1%} of {traces:,}")
        print(f"errors kept           {errors_kept:,} of {failed:,}")
        print(f"CPU a span deleted    {1e6 * taken_s / deleted:.2f} µs")
        print(f"longest step          {1000 * longest_s:.0f} ms CPU")


if __name__ == "__main__":
    main()
