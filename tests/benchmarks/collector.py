"""Throughput of the collector, from the socket to the committed row, against a bare ``executemany``.

Run by hand: ``python tests/benchmarks/collector.py [--spans N]``. One call tree of eight spans over four
services
is repeated: half of the spans with two attributes, one in a hundred failed. Four publishers send batches of
512
with 32 in flight; the collector is a separate process. The bare inserts write the same rows to a table with
the
same two indexes, in transactions of 5,000. The two alternate in one run, because the machine's speed varies
by
more than the difference to be measured.
"""

import argparse
import os
import random
import re
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import msgpack
import zmq
from sqlite_utils import Database

from ztrace.wire import BYE, DATA, TOPIC, WELCOME, Header, pack_header, unpack_acks
from ztrace_collector.layout import LOG_BYTES
from ztrace_collector.service import Options, collect
from ztrace_collector.settling.spare_time import SpareTime
from ztrace_collector.storing.database import CACHE_KIB
from ztrace_collector.tables.migrations import migrations

#: (service, name, kind, index of the parent), in the order of ending.
TREE = (
    ("stock", "reserve", 2, 1),
    ("orders", "reserve", 3, 5),
    ("payments", "check_card", 1, 3),
    ("payments", "charge", 2, 4),
    ("orders", "charge", 3, 5),
    ("orders", "place", 2, 6),
    ("gateway", "place", 3, 7),
    ("gateway", "checkout", 2, None),
)
#: Indexes of the spans that fail when a card is declined, the origin first.
FAILING = (3, 4, 5, 6, 7)
SERVICES = ("gateway", "orders", "payments", "stock")
BATCH_SPANS, WINDOW, TREES_PER_ROUND = 512, 32, 16_384
#: Rounds per turn: short enough for equal conditions, long enough that the last wait is negligible.
ROUNDS_PER_TURN = 3
ROUND_SPANS = TREES_PER_ROUND * len(TREE)
#: Million to which the growth is extrapolated, and the least number of millions from which it is.
FAR, FITTED = 100, 5
#: Placeholder in times and ids, replaced when a batch is sent: trace ids begin with it, as agents' begin with
#: the time, and span ids end with it, as theirs are random.
MARK = b"\x17\xf0\xab\xcd"


class Template(NamedTuple):
    """Batch whose times and trace ids are replaced in each round."""

    service: str
    body: bytes


def make_templates(seed: int) -> list[Template]:
    """Return a round's batches in the order in which they fill up."""
    rng = random.Random(seed)
    high = int.from_bytes(MARK, "big") << 32
    frames = [
        [f"/srv/shop/{n}.py", 10 + n, f"step_{n}", f"shop.{n}", f"return step_{n + 1}(card)", n > 1]
        for n in range(6)
    ]
    waiting: dict[str, list[Any]] = {service: [] for service in SERVICES}
    templates = []
    for tree in range(TREES_PER_ROUND):
        low = tree * (1 << 31) // TREES_PER_ROUND
        trace_id = MARK + low.to_bytes(4, "big") + rng.randbytes(8)
        span_ids = [rng.randbytes(4) + MARK for _ in TREE]
        fails = rng.random() < 0.016
        duration_ns = round(rng.lognormvariate(17, 0.6))
        for index, (service, name, kind, parent) in enumerate(TREE):
            share = duration_ns * (index + 2) // 10
            attributes = (
                {"peer": f"tcp://10.0.0.{tree % 4}:4242", "customer": tree} if rng.random() < 0.5 else None
            )
            failed = fails and index in FAILING
            exception = None
            if failed:
                origin = index == FAILING[0]
                exception = [
                    "shop.CardDeclined",
                    f"card of customer {tree} declined",
                    frames if origin else [],
                    [],
                    "raised" if origin else "passed",
                    trace_id,
                    span_ids[FAILING[0]],
                    [],
                    [],
                ]
            waiting[service].append(
                (
                    trace_id,
                    span_ids[index],
                    None if parent is None else span_ids[parent],
                    kind,
                    name,
                    high + low + 1000 * (len(TREE) - index),
                    share,
                    share // 2,
                    share // 4 if kind == 2 else None,
                    int(failed),
                    attributes,
                    None,
                    exception,
                    None,
                )
            )
            if len(waiting[service]) == BATCH_SPANS:
                templates.append(Template(service, msgpack.packb(waiting[service])))
                waiting[service].clear()
    assert len(templates) * BATCH_SPANS == ROUND_SPANS
    return templates


def moved_on(body: bytes, number: int) -> bytes:
    """Return a template's body for a round: new trace ids, later times."""
    return body.replace(MARK, (int.from_bytes(MARK, "big") + number).to_bytes(4, "big"))


class Publisher:
    """Publisher as seen by the collector, without the cost of encoding."""

    def __init__(self, context: "zmq.Context[Any]", endpoint: str, service: str) -> None:
        self.socket = context.socket(zmq.DEALER)
        for option, value in (
            (zmq.PROBE_ROUTER, 1),
            (zmq.SNDHWM, 64),
            (zmq.LINGER, 500),
        ):
            self.socket.setsockopt(option, value)
        self.socket.connect(endpoint)
        assert self.socket.poll(10_000)
        assert self.socket.recv() == WELCOME
        self.service = service
        self.incarnation = os.urandom(16)
        self.sent = self.stored = self.created = 0

    def send(self, kind: int, body: bytes = b"", span_count: int = BATCH_SPANS) -> None:
        """Send one message to the collector."""
        count = span_count if kind == DATA else 0
        self.created += count
        created = self.created
        covered = int(kind in (DATA, BYE))
        header = Header(
            kind, self.incarnation, self.sent, self.stored, covered, count, created, 0,
            span_count * self.stored, {}, self.service, "bench", os.getpid(), 0,
        )  # fmt: skip
        self.socket.send_multipart([TOPIC, pack_header(header), body])
        self.sent += covered

    def receive(self) -> None:
        """Read the pending acknowledgements."""
        while self.socket.poll(0):
            self.stored = unpack_acks(self.socket.recv()).get(self.incarnation, self.stored)


def send_round(publishers: dict[str, Publisher], templates: Sequence[Template], number: int) -> None:
    """Send a round at the rate of acknowledgements."""
    for template in templates:
        publisher = publishers[template.service]
        body = moved_on(template.body, number)
        while publisher.sent - publisher.stored >= WINDOW:
            if not publisher.socket.poll(30_000):
                raise SystemExit("the collector does not answer")
            publisher.receive()
        publisher.send(DATA, body)


def drain(publishers: dict[str, Publisher]) -> None:
    """Wait until everything sent is acknowledged."""
    for publisher in publishers.values():
        while publisher.stored < publisher.sent:
            if not publisher.socket.poll(30_000):
                raise SystemExit("the collector does not answer")
            publisher.receive()


class Bare:
    """Bare inserts of the same rows into the same table and indexes."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        migrations.apply(Database(self.db))
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"wal_autocheckpoint={LOG_BYTES // 4096}"):
            self.db.execute(f"PRAGMA {pragma}")
        self.db.execute(f"PRAGMA cache_size=-{CACHE_KIB}")

    def insert(self, rows: Sequence[tuple[Any, ...]]) -> float:
        """Insert rows; return the seconds taken."""
        start_s = time.perf_counter()
        for first in range(0, len(rows), 5000):
            self.db.execute("BEGIN IMMEDIATE")
            self.db.executemany(
                "INSERT INTO spans (trace_id, span_id, parent_id, method, instance, start_ns, duration_ns,"
                " self_ns, cpu_ns, status, attributes, links) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows[first : first + 5000],
            )
            self.db.execute("COMMIT")
        return time.perf_counter() - start_s


def rows_of(templates: Sequence[Template], number: int) -> list[tuple[Any, ...]]:
    """Return a round as rows to insert."""
    texts = '{"peer":"tcp://10.0.0.1:4242","customer":12345}'
    return [
        (*span[:3], span[3], 1, *span[5:10], texts if span[10] else None, None)
        for template in templates
        for span in msgpack.unpackb(moved_on(template.body, number))
    ]


def start_collector(database: Path) -> tuple["subprocess.Popen[str]", str]:
    """Start a collector process; return the process and its endpoint."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--collector", str(database)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def stop_collector(process: "subprocess.Popen[str]") -> tuple[int, float, float]:
    """Stop a collector; return its peak memory in MB, its CPU seconds, and those of its spare time."""
    process.terminate()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, process.returncode
    megabytes, cpu_s, spare_s = output.split()
    return int(megabytes), float(cpu_s), float(spare_s)


def run_collector(database: Path) -> None:
    """Run the collector process; print its peak memory, CPU time, and that of its spare time."""
    spare_s = 0.0

    def timed(work: Callable[..., None]) -> Callable[..., None]:
        def step(*arguments: object) -> None:
            nonlocal spare_s
            begun_s = time.thread_time()
            work(*arguments)
            spare_s += time.thread_time() - begun_s

        return step

    with patch.multiple(SpareTime, step=timed(SpareTime.step), finish=timed(SpareTime.finish)):
        collect(Options("tcp://127.0.0.1:0", database), ready=lambda endpoint: print(endpoint, flush=True))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    # The system's ru_maxrss has the memory of the parent in it, from before the program was loaded.
    (highest_kib,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(int(highest_kib) // 1024, usage.ru_utime + usage.ru_stime, spare_s)


def connect(stack: ExitStack, endpoint: str) -> dict[str, Publisher]:
    """Return a connected publisher for each service."""
    context = stack.enter_context(zmq.Context())
    publishers = {service: Publisher(context, endpoint, service) for service in SERVICES}
    for publisher in publishers.values():
        stack.enter_context(publisher.socket)
    return publishers


def compare(folder: Path, templates: Sequence[Template], turns: int) -> Iterator[tuple[float, float]]:
    """Yield the spans per second of a collector and of the bare inserts, for each turn."""
    bare = Bare(folder / "bare.db")
    process, endpoint = start_collector(folder / "collector.db")
    with ExitStack() as stack:
        publishers = connect(stack, endpoint)
        for turn in range(turns):
            numbers = range(turn * ROUNDS_PER_TURN, (turn + 1) * ROUNDS_PER_TURN)
            start_s = time.perf_counter()
            for number in numbers:
                send_round(publishers, templates, number)
            drain(publishers)
            collector_s = time.perf_counter() - start_s
            bare_s = sum(bare.insert(rows_of(templates, number)) for number in numbers)
            spans = ROUNDS_PER_TURN * ROUND_SPANS
            yield spans / collector_s, spans / bare_s
        for publisher in publishers.values():
            publisher.send(BYE)
    bare.db.close()
    stop_collector(process)


class Million(NamedTuple):
    """About a million spans.

    Attributes:
        done: spans so far.
        wall_us: time of a span.
        cpu_us: CPU time of the collector for a span.
    """

    done: int
    wall_us: float
    cpu_us: float


def measure_millions(folder: Path, templates: Sequence[Template], spans: int) -> Iterator[Million | int]:
    """Yield the figures of about each million; finally the peak memory in MB.

    Spans beyond the last whole million get no figure of their own.
    """
    process, endpoint = start_collector(folder / "long.db")
    with ExitStack() as stack:
        publishers = connect(stack, endpoint)
        number = done = last = 0
        then_s, then_cpu_s = time.perf_counter(), read_cpu_s(process.pid)
        while done < spans:
            send_round(publishers, templates, number)
            number, done = number + 1, done + ROUND_SPANS
            if done - last >= 1_000_000 or (done >= spans and not last):
                drain(publishers)
                now_s, cpu_s = time.perf_counter(), read_cpu_s(process.pid)
                scale = 1e6 / (done - last)
                yield Million(done, scale * (now_s - then_s), scale * (cpu_s - then_cpu_s))
                then_s, then_cpu_s, last = time.perf_counter(), cpu_s, done
        drain(publishers)
    yield stop_collector(process)[0]


def read_cpu_s(pid: int) -> float:
    """Return the CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def extrapolate(values: Sequence[float]) -> float:
    """Return how many times the first million's value a far one has on the line that fits the values."""
    slope, start = statistics.linear_regression(range(1, len(values) + 1), values)
    return (start + slope * FAR) / (start + slope)


def main() -> None:
    """Run the benchmark, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--spans", type=int, default=1_000_000, help="spans sent to measure the rate and the memory"
    )
    spans = ROUNDS_PER_TURN * ROUND_SPANS
    parser.add_argument("--turns", type=int, default=5, help=f"turns of {spans:,} spans each")
    parser.add_argument("--collector", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.collector:
        run_collector(options.collector)
        return
    templates = make_templates(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{'':24}{'collector':>14}{'bare insert':>14}{'ratio':>8}")
        pairs = []
        for number, pair in enumerate(compare(folder, templates, options.turns), 1):
            pairs.append(pair)
            print(
                f"{f'turn {number}, spans/s':24}{pair[0]:>14,.0f}{pair[1]:>14,.0f}{pair[0] / pair[1]:>8.2f}"
            )
        middle = [statistics.median(column) for column in zip(*pairs, strict=True)]
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        print(f"{'median, spans/s':24}{middle[0]:>14,.0f}{middle[1]:>14,.0f}{ratio:>8.2f}")
        millions: list[Million] = []
        for row in measure_millions(folder, templates, options.spans):
            if isinstance(row, int):
                print(f"{'highest RSS, MB':24}{row:>14,}")
                continue
            millions.append(row)
            rate, name = 1e6 / row.wall_us, f"spans/s up to {row.done / 1e6:.1f} M"
            print(f"{name:24}{rate:>14,.0f}{row.cpu_us:>14.2f} µs CPU a span", flush=True)
        for name, values in (
            ("time of a span", [each.wall_us for each in millions]),
            ("CPU of a span", [each.cpu_us for each in millions]),
        ):
            print(f"{f'{name}, last against first':40}{values[-1] / values[0]:>8.2f}")
            if len(values) >= FITTED:
                print(f"{f'{name}, {FAR}th M against first':40}{extrapolate(values):>8.2f}")


if __name__ == "__main__":
    main()
