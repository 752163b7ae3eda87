"""Bytes of a span before and after sealing, the cost of sealing, and answers from both files.

Run by hand: ``python -m tests.benchmarks.sealing [--rounds N] [--hourly]``. The trees of
`tests.benchmarks.collector`, with random times, are stored, settled and sealed: all of them at the end, or
with ``--hourly`` each round before the next one is stored, as in a collector that runs for long.
"""

import argparse
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.collector import BATCH_SPANS, ROUND_SPANS, make_templates
from tests.benchmarks.messages import Sending
from ztrace_collector.settling.settler import settle_all
from ztrace_collector.storing.sealing import Sealer
from ztrace_collector.storing.store import Store
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.read import Reader

HOUR_NS = 3600 * 10**9
#: Parts in which sizes are printed, by a part of the names of their tables.
PARTS = {"spans": "spans", "seal": "sealed traces", "traces": "traces", "exception": "exceptions"}
#: The times of the templates are the same for each tree.
SHUFFLE = """
UPDATE spans SET start_ns = start_ns + abs(random()) % 1000000,
    duration_ns = duration_ns + abs(random()) % 1000000,
    self_ns = self_ns + abs(random()) % 1000000,
    cpu_ns = cpu_ns + abs(random()) % 100000
WHERE id > ?
"""


class Run:
    """A store that is filled, settled and sealed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now_ns = time.time_ns()
        self._templates = make_templates(1)
        self.sealed = 0
        self.sealing_s = self.longest_s = 0.0

    def fill(self, store: Store, number: int, sending: Sending) -> None:
        """Store and settle a round of trees."""
        ((last,),) = store.read("SELECT coalesce(max(id), 0) FROM spans")
        for template in self._templates:
            store.store(sending.pack(template, number, BATCH_SPANS))
        with store.transaction() as db:
            db.execute(SHUFFLE, (last,))
        for _ in settle_all(store, clock_ns=lambda: self.now_ns):
            pass

    def seal(self, store: Store) -> None:
        """Let hours pass, and seal everything."""
        self.now_ns += 3 * HOUR_NS
        ((before,),) = store.read("SELECT count(*) FROM spans")
        sealer, begin_s = Sealer(), time.process_time()
        while sealer.wait_s() == 0:
            step_s = time.process_time()
            sealer.step(store)
            self.longest_s = max(self.longest_s, time.process_time() - step_s)
        self.sealing_s += time.process_time() - begin_s
        ((left,),) = store.read("SELECT count(*) FROM spans")
        self.sealed += before - left


def measure(path: Path, spans: int) -> dict[str, float]:
    """Return the bytes of a span in each part of a file."""
    sizes: Counter[str] = Counter()
    with open_file(path) as store:
        for name, size in store.db.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name"):
            part = next((part for text, part in PARTS.items() if text in name), "others")
            sizes["index by trace" if name == "spans_by_trace" else part] += size
    return {name: size / spans for name, size in sizes.items()}


def ask(path: Path) -> dict[str, float]:
    """Return the shortest CPU time of five of each question, in ms."""
    reader = Reader(path)
    with open_file(path) as store:
        found = store.db.execute("SELECT trace_id FROM traces ORDER BY id").fetchall()
    traces = [trace.hex() for (trace,) in random.Random(1).sample(found, 100)]
    questions: dict[str, Callable[[], object]] = {
        "`slow`": lambda: reader.slow(limit=20),
        "`show`, 100 trees": lambda: [reader.tree(trace) for trace in traces],
        "`find` an attribute, to the end": lambda: reader.find("customer=no such", timeout_s=600),
        "`find --min`, to the end": lambda: reader.find(min="1h", timeout_s=600),
        "`find --errors`": lambda: reader.find(errors=True, timeout_s=600),
        "`explain`": lambda: reader.explain("gateway.checkout"),
    }
    times = {}
    for name, question in questions.items():
        taken = []
        for _ in range(5):
            begin_s = time.process_time()
            question()
            taken.append(1000 * (time.process_time() - begin_s))
        times[name] = min(taken)
    return times


def main() -> None:
    """Run the benchmark, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="of 131,072 spans each")
    parser.add_argument("--hourly", action="store_true", help="seal each round before the next")
    options = parser.parse_args()
    spans = options.rounds * ROUND_SPANS
    with tempfile.TemporaryDirectory() as folder:
        run, rows = Run(Path(folder) / "sealed.db"), Path(folder) / "rows.db"
        with Store(run.path, clock_ns=lambda: run.now_ns) as store:
            sending = Sending()
            for number in range(options.rounds):
                run.fill(store, number, sending)
                if options.hourly:
                    run.seal(store)
                    print(
                        f"{number + 1} rounds, {run.path.stat().st_size / (number + 1) / ROUND_SPANS:.1f} B"
                    )
            store.checkpoint()
            shutil.copy(run.path, rows)
            if not options.hourly:
                run.seal(store)
        print(f"{spans:,} spans")
        print(f"CPU a span sealed  {1e6 * run.sealing_s / run.sealed:.1f} µs, {run.sealed:,} spans")
        print(f"longest step       {1000 * run.longest_s:.0f} ms CPU")
        print(f"file, free pages included {run.path.stat().st_size / spans:.1f} B a span")
        before, after = measure(rows, spans), measure(run.path, spans)
        for name in sorted({*before, *after}):
            print(f"{name:32} {before.get(name, 0):8.1f} B  {after.get(name, 0):8.1f} B")
        print(f"{'all':32} {sum(before.values()):8.1f} B  {sum(after.values()):8.1f} B")
        slow, fast = ask(rows), ask(run.path)
        for name, ms in slow.items():
            print(f"{name:32} {ms:8.1f} ms {fast[name]:8.1f} ms")


if __name__ == "__main__":
    main()
