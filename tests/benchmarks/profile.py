"""Cost of figures by call path: settling a span, and answering ``ztrace profile`` over 2,000 paths; and bytes
of sampled code.

Run by hand: ``python -m tests.benchmarks.profile [--trees N]``. Settling is timed by CPU, beside a bare
``executemany`` of as many small rows; the answers are medians of several runs with the file in the system's
cache.

The code is that of 10 processes of different services that are sampled 50 times a second: each has 300 stacks
of 8 to 40 lines, the frequent ones much more often than others, 30 methods, and some 8 open spans at a time.
Some minutes are stored, and their bytes are those of an hour's minutes; code and sums by hour hardly grow.
"""

import argparse
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.viewer.stored import SECOND, Sampled, message, span, trace_id
from ztrace.records import Span
from ztrace_collector.layout import HOUR_NS, MINUTE_NS
from ztrace_collector.settling.settler import settle_all
from ztrace_collector.storing.expiring import used_bytes
from ztrace_collector.storing.store import Store
from ztrace_viewer.queries.profile import read_profile
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.sqlite.store import open_file

SPANS_PER_TREE, PATHS, HOURS = 13, 2_000, 24
#: Limits: CPU of settling a span, and seconds of an answer.
SETTLE_LIMIT_US, ANSWER_LIMIT_S = 8.0, 0.050

#: Processes that are sampled, samples a second, and minutes stored; limits of bytes an hour, and of a sample
#: of a slow span on the wire.
PROCESSES, HZ, MINUTES = 10, 50, 3
HOUR_LIMIT, SAMPLE_LIMIT = 50e6, 4.0


class Sampling:
    """A process under mixed load, with the code that it runs."""

    def __init__(self, number: int) -> None:
        self._chance = chance = random.Random(number)
        lines = [f"Class{line % 40}.method_{line}:{chance.randint(1, 900)}" for line in range(800)]
        base = lines[:6]
        self._stacks = [
            " ".join(base[: chance.randint(3, 6)] + chance.sample(lines, chance.randint(5, 34)))
            for _ in range(300)
        ]
        self._weights = [1 / (1 + place) for place in range(300)]
        self._number = number
        #: Open spans: id, and the code that each is at.
        self._open: list[tuple[int, int]] = []
        self._spans = 0

    def take(self, seconds: int, at_ns: int, *, sums: bool) -> tuple[Sampled, int]:
        """Return the samples of some seconds, and their number: sums, or the runs of all spans."""
        chance, profile, count = self._chance, Sampled(f"service{self._number}", at_ns=at_ns), 0
        added: dict[tuple[int, int, int], int] = {}
        runs: dict[int, list[list[int]]] = {}
        for _ in range(seconds * HZ):
            self._open = [each for each in self._open if chance.random() < 0.8]
            while chance.random() < 0.6 and len(self._open) < 20:
                self._spans += 1
                self._open.append((self._spans, self._choose()))
            for place, (span_number, stack) in enumerate(self._open):
                stack = self._choose() if chance.random() < 0.4 else stack
                self._open[place] = span_number, stack
                state = int(chance.random() < 0.85)
                count += 1
                key = span_number % 30, stack, state
                added[key] = added.get(key, 0) + 1000 // HZ
                mine = runs.setdefault(span_number, [])
                if mine and mine[-1][:2] == [stack, state]:
                    mine[-1][2] += 1000 // HZ
                else:
                    mine.append([stack, state, 1000 // HZ])
        if sums:
            for (method, stack, state), ms in added.items():
                profile.add(f"method{method}", self._stacks[stack], state, ms)
        else:
            for span_number, each in runs.items():
                code = ((self._stacks[stack], state, ms, 0) for stack, state, ms in each)
                profile.add_span(trace_id(span_number), span_number, *code, name=f"method{span_number % 30}")
        return profile, count

    def _choose(self) -> int:
        return self._chance.choices(range(300), self._weights)[0]


def store_code(path: Path) -> tuple[float, float]:
    """Store the samples of some minutes; return the bytes of a minute, and those of the code and of hours."""
    processes = [Sampling(number) for number in range(PROCESSES)]
    begin_ns = time.time_ns() // HOUR_NS * HOUR_NS
    with Store(path) as opened:
        empty = used_bytes(opened)
        for part in range(6 * MINUTES):
            at_ns = begin_ns + part * 10 * SECOND
            samples = [process.take(10, at_ns, sums=True)[0] for process in processes]
            opened.store([each.message(1 + number, part) for number, each in enumerate(samples)])
        full = used_bytes(opened)
        with opened.transaction() as db:
            db.execute("DELETE FROM stack_minutes")
        rest = used_bytes(opened)
    return (full - rest) / MINUTES, rest - empty


def weigh_slow_spans() -> float:
    """Return the bytes of a sample of single spans on the wire."""
    profile, count = Sampling(1).take(10, time.time_ns(), sums=False)
    return len(profile.message()[2]) / count


def settle(path: Path, trees: int) -> tuple[float, float]:
    """Store trees and settle them; return microseconds of CPU a span, and those of a bare insert of a row."""
    chance = random.Random(1)
    with Store(path) as store:
        for first in range(0, trees, 100):
            store.store(
                [message("shop", _tree(number, chance), number + 1) for number in range(first, first + 100)]
            )
        spent_s = time.process_time()
        for _ in settle_all(store):
            pass
        settled_s = time.process_time() - spent_s
    count = trees * SPANS_PER_TREE
    with sqlite3.connect(path.with_suffix(".bare")) as db:
        db.execute("CREATE TABLE bare (a BLOB, b BLOB, c INTEGER, d INTEGER, e INTEGER, f INTEGER)")
        rows = [
            (trace_id(number), trace_id(number), number, number, number, number) for number in range(count)
        ]
        spent_s = time.process_time()
        db.executemany("INSERT INTO bare VALUES (?, ?, ?, ?, ?, ?)", rows)
        bare_s = time.process_time() - spent_s
    db.close()
    return 1e6 * settled_s / count, 1e6 * bare_s / count


def _tree(number: int, chance: random.Random) -> list[Span]:
    spans = [span(trace_id(number + 1), 1, name="root", duration_ms=200)]
    for place in range(2, SPANS_PER_TREE + 1):
        start_ms, duration_ms = chance.randint(0, 150), chance.randint(1, 50)
        spans.append(
            span(
                trace_id(number + 1),
                place,
                place // 2,
                name=f"call{place}",
                start_ms=start_ms,
                duration_ms=duration_ms,
            )
        )
    return spans


def fill(path: Path, now_ns: int) -> None:
    """Write the figures of a day: 2,000 paths below one root, some called each minute and most rarely."""
    chance = random.Random(1)
    with Store(path) as store, store.transaction() as db:
        db.executemany(
            "INSERT INTO methods VALUES (?, 'shop', ?, 'server')",
            [(number, f"call{number}") for number in range(1, PATHS + 1)],
        )
        db.executemany(
            "INSERT INTO paths VALUES (?, ?, ?, ?, 1)",
            [(number, number // 3, number, 0) for number in range(1, PATHS + 1)],
        )
        for resolution_s, buckets in ((60, 7 * 60), (3600, HOURS), (86400, 2)):
            last = now_ns // (resolution_s * 10**9)
            for bucket in range(last - buckets + 1, last + 1):
                rows = []
                for path_id in range(1, PATHS + 1):
                    calls = int(2_000 / path_id * resolution_s / 60 + chance.random())
                    if calls:
                        first = chance.randint(200, 320)
                        kinds = min(calls, chance.randint(8, 30))
                        histogram = ",".join(f'"{first + each}":{calls // kinds}' for each in range(kinds))
                        own_ns = calls * 100_000
                        key = resolution_s, bucket, path_id, "", "", 0
                        counts = calls if path_id == 1 else 0, calls, 0
                        rows.append((*key, *counts, calls * 10**6, own_ns, own_ns, f"{{{histogram}}}"))
                db.executemany(
                    "INSERT INTO path_figures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?)", rows
                )


def answer(path: Path, since_ns: int, until_ns: int, now_ns: int) -> float:
    """Return the median of the seconds that a profile takes, inside the process."""

    def once() -> None:
        with open_file(path) as db:
            assert read_profile(db, None, Selection(since_ns, until_ns), 60, now_ns)["paths"]

    return statistics.median(_time(once) for _ in range(7))


def _time(work: Callable[[], None]) -> float:
    begin_s = time.perf_counter()
    work()
    return time.perf_counter() - begin_s


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trees", type=int, default=20_000)
    trees = parser.parse_args().trees // 100 * 100
    with tempfile.TemporaryDirectory() as folder:
        settled_us, bare_us = settle(Path(folder) / "settled.db", trees)
        print(f"settling a span: {settled_us:.1f} us of CPU (limit {SETTLE_LIMIT_US:.0f})")
        print(f"a bare row of executemany: {bare_us:.2f} us")
        path, now_ns = Path(folder) / "figures.db", time.time_ns() // HOUR_NS * HOUR_NS + 59 * MINUTE_NS
        fill(path, now_ns)
        size = path.stat().st_size / 1e6
        print(f"figures of {PATHS:,} paths, a day by hour and 7 hours by minute: {size:.0f} MB")
        for name, since_ns in (("a day", now_ns - HOURS * HOUR_NS), ("30 minutes", now_ns - 30 * MINUTE_NS)):
            seconds = answer(path, since_ns, now_ns, now_ns)
            print(f"profile of {name}: {1000 * seconds:.1f} ms (limit {1000 * ANSWER_LIMIT_S:.0f})")
        minute, rest = store_code(Path(folder) / "code.db")
        print(
            f"code of {PROCESSES} processes at {HZ} Hz: {(60 * minute + rest) / 1e6:.0f} MB an hour (limit"
            f" {HOUR_LIMIT / 1e6:.0f}), {60 * minute / 1e6:.0f} MB of them minutes, deleted after some hours"
        )
        print(f"a sample of a single span on the wire: {weigh_slow_spans():.1f} B (limit {SAMPLE_LIMIT:.0f})")


if __name__ == "__main__":
    main()
