"""Response times of the viewer on five million spans, inside the process and as commands.

Run by hand: ``python tests/benchmarks/viewer.py [--spans N] [--hours N]``. The rows are written directly to
the schema, since the collector would take minutes: call trees of ten spans over forty methods, spread over
``--hours``, one tree in a hundred with an exception, in two hundred groups. Each figure is the median of
several runs with the file in the system's cache.
"""

import argparse
import json
import math
import random
import sqlite3
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlite_utils import Database

from ztrace_collector.layout import (
    APPLICATION_ID,
    BUCKETS_PER_E,
    HOUR_NS,
    MINUTE_NS,
    RESOLUTIONS_S,
    SCHEMA_VERSION,
)
from ztrace_collector.tables.migrations import migrations
from ztrace_viewer.queries.figures import list_methods
from ztrace_viewer.queries.groups import list_groups
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.conditions import FREQUENT as FREQUENT_FIRST
from ztrace_viewer.queries.stores.conditions import Filter
from ztrace_viewer.queries.stores.sqlite.store import SqliteStore, open_file
from ztrace_viewer.queries.traces import list_slowest, read_tree
from ztrace_viewer.queries.way import read_error

SPANS_PER_TRACE, METHODS, GROUPS, SERVICES = 10, 40, 200, 8
#: Occurrences of the one frequent group.
FREQUENT = 100_000
#: Traces per INSERT, which bounds the memory.
CHUNK = 5_000
#: Limits in seconds.
INSIDE_LIMIT_S, COMMAND_LIMIT_S, HELP_LIMIT_S = 0.050, 0.250, 0.150
SECOND_NS = 1_000_000_000
FRAMES = json.dumps([{"file": "/srv/a.py", "line": 1, "function": "f", "code": "g()", "in_app": True}] * 8)

Figures = dict[tuple[int, int, int], list[int]]


def build(path: Path, span_count: int, hours: int) -> int:
    """Create a database; return the start of its last trace in Unix ns."""
    with Database(path) as wrapped:
        db = wrapped.conn
        assert db is not None
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = OFF")
        migrations.apply(wrapped)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        last_ns = _fill(db, span_count // SPANS_PER_TRACE, hours)
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return last_ns


def _fill(db: sqlite3.Connection, trace_count: int, hours: int) -> int:
    rng = random.Random(1)
    begin_ns = time.time_ns() - hours * HOUR_NS
    step_ns = hours * HOUR_NS // trace_count
    db.executemany(
        "INSERT INTO methods VALUES (?, ?, ?, ?)",
        [
            (n, f"service{n % SERVICES}", f"method_{n}", "server" if n % 2 else "client")
            for n in range(METHODS)
        ],
    )
    db.execute(
        "INSERT INTO instances (id, instance_id, service, host, pid, started_ns, spans_expired)"
        " VALUES (1, 'aa', 'service0', 'box', 1, 0, 0)"
    )
    db.executemany(
        "INSERT INTO exception_groups (id, fingerprint, type, message, template, service, name, kind,"
        " services, count, first_ns, last_ns, trace_id, origin_span_id, frames)"
        " VALUES (?, ?, 'ValueError', 'no', 'no', 's', 'm', 'server', '[\"s\"]', 25, ?, ?, x'00', x'00', ?)",
        [
            (n, f"{rng.getrandbits(64):016x}", begin_ns, begin_ns + rng.randrange(hours * HOUR_NS), FRAMES)
            for n in range(1, GROUPS + 1)
        ],
    )
    sums: Figures = defaultdict(lambda: [0, 0, 0])
    histograms: dict[tuple[int, int, int], Counter[int]] = defaultdict(Counter)
    minutes: Counter[tuple[int, int]] = Counter()
    for first in range(0, trace_count, CHUNK):
        _insert_traces(
            db,
            rng,
            range(first, min(first + CHUNK, trace_count)),
            begin_ns,
            step_ns,
            sums,
            histograms,
            minutes,
        )
    db.executemany(
        "INSERT INTO method_figures VALUES (?, ?, ?, ?, 0, ?, ?, ?)",
        [(*key, *values, json.dumps(histograms[key])) for key, values in sums.items()],
    )
    db.executemany(
        "INSERT INTO exception_minutes VALUES (?, ?, ?, 0)",
        [(*key, count) for key, count in minutes.items()],
    )
    _make_frequent(db, begin_ns)
    db.execute("UPDATE totals SET value = ? WHERE name = 'traces'", (trace_count,))
    db.execute("UPDATE totals SET value = ? WHERE name = 'spans'", (trace_count * SPANS_PER_TRACE,))
    return begin_ns + (trace_count - 1) * step_ns


def _make_frequent(db: sqlite3.Connection, begin_ns: int) -> None:
    """Give the first group an occurrence in each of 100,000 minutes, about two months."""
    first = begin_ns // MINUTE_NS - FREQUENT
    db.executemany(
        "INSERT INTO exception_minutes VALUES (1, ?, 1, 0)",
        [(first + number,) for number in range(FREQUENT)],
    )
    db.execute(
        "UPDATE exception_groups SET count = count + ?, first_ns = ? WHERE id = 1",
        (FREQUENT, first * MINUTE_NS),
    )


def _insert_traces(
    db: sqlite3.Connection,
    rng: random.Random,
    numbers: range,
    begin_ns: int,
    step_ns: int,
    sums: Figures,
    histograms: dict[tuple[int, int, int], Counter[int]],
    minutes: Counter[tuple[int, int]],
) -> None:
    traces, spans, exceptions = [], [], []
    for number in numbers:
        start_ns = begin_ns + number * step_ns
        trace_id = (start_ns // 1_000_000).to_bytes(6, "big") + rng.randbytes(10)
        base, duration_ns = rng.randrange(METHODS), int(rng.lognormvariate(17, 1.5)) + 1000
        ids = [rng.randbytes(8) for _ in range(SPANS_PER_TRACE)]
        traces.append(
            (trace_id, ids[0], base, start_ns, start_ns + duration_ns, duration_ns, SPANS_PER_TRACE, 0,
             '["service0","service1"]', start_ns // HOUR_NS)
        )  # fmt: skip
        for place in range(SPANS_PER_TRACE):
            took_ns, method = duration_ns // (place + 1), (base + place) % METHODS
            parent = None if place == 0 else ids[(place - 1) // 2]
            spans.append((trace_id, ids[place], parent, method, start_ns + place, took_ns, took_ns // 2))
            bucket = int(BUCKETS_PER_E * math.log(took_ns))
            end_s = (start_ns + took_ns) // SECOND_NS
            for resolution in RESOLUTIONS_S:
                key = (resolution, end_s // resolution, method)
                totals = sums[key]
                totals[0] += 1
                totals[1] += took_ns
                totals[2] += took_ns // 2
                histograms[key][bucket] += 1
        if number % 100 == 0:
            group = number // 100 % GROUPS + 1
            minutes[group, start_ns // (60 * SECOND_NS)] += 1
            exceptions.append((trace_id, ids[-1], trace_id, ids[-1], group, FRAMES, start_ns, parent))
    db.executemany(
        "INSERT INTO traces (trace_id, root_span_id, root_method, start_ns, end_ns, duration_ns, span_count,"
        " error_count, services, hour) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        traces,
    )
    db.executemany(
        "INSERT INTO spans (trace_id, span_id, parent_id, method, instance, start_ns, duration_ns, self_ns,"
        " status) VALUES (?, ?, ?, ?, 1, ?, ?, ?, 0)",
        spans,
    )
    db.executemany(
        "INSERT INTO exceptions (trace_id, span_id, origin_trace_id, origin_span_id, exception_group, how,"
        " type, message, frames, causes, at_ns, notes, members, is_root, service, parent_id, kind,"
        " instance, derived)"
        " VALUES (?, ?, ?, ?, ?, 'raised', 'ValueError', 'no', ?, '[]', ?, '[]', '[]', 0, 's', ?, 'server',"
        " 1, 0)",
        exceptions,
    )
    db.executemany(
        "UPDATE exception_groups SET trace_id = ?, origin_span_id = ? WHERE id = ?",
        [(trace_id, span_id, group) for trace_id, span_id, _, _, group, *_ in exceptions],
    )


def ask(path: Path, last_ns: int) -> Iterator[tuple[str, float, float]]:
    """Yield (query, seconds, limit) for the queries inside the process, including opening the file."""
    with open_file(path) as db:
        trace_id = bytes.fromhex(list_slowest(db)["traces"][0]["trace_id"])
        group = list_groups(db)["groups"][0]["group"]
        frequent = list_groups(db, limit=1, order=FREQUENT_FIRST)["groups"][0]["group"]
    recent = Selection(since_ns=last_ns - 10 * 60 * SECOND_NS)
    odd = Selection(since_ns=last_ns - 5 * HOUR_NS // 2, until_ns=last_ns - 60 * SECOND_NS)
    one = Selection(service="service1", method="method_1")
    questions: tuple[tuple[str, Callable[[SqliteStore], object]], ...] = (
        ("slow", list_slowest),
        ("slow --since 10m", lambda db: list_slowest(db, recent)),
        ("slow --since 2.5h --until 1m", lambda db: list_slowest(db, odd)),
        ("slow --service --method", lambda db: list_slowest(db, one)),
        ("errors", lambda db: list_groups(db, limit=20)),
        ("errors --sort frequent", lambda db: list_groups(db, limit=20, order=FREQUENT_FIRST)),
        ("errors --text", lambda db: list_groups(db, limit=20, wanted=Filter(text="NO"))),
        ("errors --since 10m", lambda db: list_groups(db, recent, limit=20)),
        ("error ID", lambda db: read_error(db, group)),
        ("error ID, 100,000 times", lambda db: read_error(db, frequent)),
        ("stats", list_methods),
        ("stats --since 2.5h --until 1m", lambda db: list_methods(db, odd)),
        ("show", lambda db: read_tree(db, trace_id)),
    )
    for name, question in questions:

        def once(question: Callable[[SqliteStore], object] = question) -> None:
            with open_file(path) as db:
                question(db)

        yield name, _median(once, 11), INSIDE_LIMIT_S
    error = ["error", group[:12]]
    for arguments in (["slow"], ["errors"], error, ["stats"], ["show", trace_id.hex()[:20]], ["status"]):
        yield (
            f"$ ztrace {arguments[0]}",
            _median(_command([*arguments, "--db", str(path)]), 7),
            COMMAND_LIMIT_S,
        )
    yield "$ ztrace --help", _median(_command(["--help"]), 7), HELP_LIMIT_S


def _command(arguments: list[str]) -> Callable[[], None]:
    ztrace = Path(sysconfig.get_path("scripts")) / "ztrace"

    def run() -> None:
        subprocess.run([ztrace, *arguments], check=True, stdout=subprocess.DEVNULL)

    return run


def _median(action: Callable[[], None], runs: int) -> float:
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        action()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main() -> int:
    """Build the database, run the queries and print the table; return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description="Measure the viewer's questions.")
    parser.add_argument("--spans", type=int, default=5_000_000)
    parser.add_argument("--hours", type=int, default=24)
    arguments = parser.parse_args()
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.db"
        begin = time.perf_counter()
        last_ns = build(path, arguments.spans, arguments.hours)
        size_mb = path.stat().st_size / 1e6
        print(
            f"{arguments.spans:,} spans over {arguments.hours} h, {size_mb:,.0f} MB,"
            f" built in {time.perf_counter() - begin:.0f} s; Python {sys.version.split()[0]},"
            f" SQLite {sqlite3.sqlite_version}\n"
        )
        print(f"{'question':<32}{'median':>10}{'limit':>10}")
        for question, seconds, limit in ask(path, last_ns):
            late = seconds > limit
            missed |= late
            print(
                f"{question:<32}{seconds * 1000:>7.1f} ms{limit * 1000:>7.0f} ms{'  MISSED' if late else ''}"
            )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
