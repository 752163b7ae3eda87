"""Throughput of forwarding to one destination while the collector receives, and its cost to the collector.

Run by hand: ``python -m tests.benchmarks.forwarding``. The publishers and call trees are those of
``tests.benchmarks.collector``. The receiver is a process that stores requests and answers 200; the spans are
counted at the end. Requests are uncompressed unless ``--gzip`` is given.

- **beside**: the collector receives 15,000 spans/s while the destination catches up with a backlog that it
does
  not exhaust: the spans per second it gets. No span may be missing or duplicate at the end.
- **cost**: the collector receives at its maximum rate, alternately with and without a destination.
"""

import argparse
import gzip
import os
import resource
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.benchmarks.collector import (
    BATCH_SPANS,
    ROUND_SPANS,
    Publisher,
    Template,
    connect,
    drain,
    make_templates,
    moved_on,
    send_round,
)
from ztrace.wire import DATA
from ztrace_collector.otlp.sending.destinations import read_destinations
from ztrace_collector.service import Options, collect

#: Rate of spans received while the destination catches up.
PACE = 15_000
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


def run_receiver(port: int, kept: Path) -> None:
    """Answer requests on one connection at a time; store their bodies, each after its length."""
    with socket.create_server(("127.0.0.1", port)) as server, kept.open("ab") as file:
        print("ready", flush=True)
        while True:
            connection, _ = server.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection, connection.makefile("rb") as stream:
                while True:
                    length = 0
                    while (line := stream.readline()) not in (b"\r\n", b""):
                        if line.lower().startswith(b"content-length:"):
                            length = int(line.split(b":")[1])
                    if not length:
                        break
                    body = stream.read(length)
                    file.write(length.to_bytes(4, "big") + body)
                    file.flush()
                    connection.sendall(_ANSWER)


def count_kept(kept: Path) -> tuple[int, int]:
    """Return the number of spans stored, and the number of distinct ones."""
    ids: list[bytes] = []
    with kept.open("rb") as file:
        while head := file.read(4):
            body = file.read(int.from_bytes(head, "big"))
            if body.startswith(b"\x1f\x8b"):
                body = gzip.decompress(body)
            for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource_spans.scope_spans:
                    ids += [span.trace_id + span.span_id for span in scope.spans]
    return len(ids), len(set(ids))


def run_collector(database: Path, url: str) -> None:
    """Run the collector process, and print its own and its child's CPU time at the end."""
    destinations = read_destinations([url] if url != "none" else [], [], os.environ)
    options = Options("tcp://127.0.0.1:0", database, destinations=destinations)
    collect(options, ready=lambda endpoint: print(endpoint, flush=True))
    own, child = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    print(own.ru_utime + own.ru_stime, child.ru_utime + child.ru_stime, child.ru_maxrss // 1024)


@contextmanager
def running(*arguments: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run a part of the benchmark in a process; yield the process and its first line."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.forwarding", *arguments], stdout=subprocess.PIPE, text=True
    ) as part:
        assert part.stdout is not None
        try:
            yield part, part.stdout.readline().strip()
        finally:
            part.terminate()
            part.stdout.read()


def read_sent(database: Path) -> int:
    """Return the number of spans accepted by the destination."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT sum(sent) FROM destinations").fetchone()[0])


def send_paced(
    publishers: dict[str, Publisher], templates: Sequence[Template], number: int, seconds: float
) -> int:
    """Send rounds at the pace for a time; return the number of the next round."""
    start_s = time.perf_counter()
    sent = 0
    while True:
        for template in templates:
            wait_s = start_s + sent / PACE - time.perf_counter()
            if wait_s > 0:
                time.sleep(wait_s)
            publisher = publishers[template.service]
            publisher.send(DATA, moved_on(template.body, number))
            publisher.receive()
            sent += BATCH_SPANS
        number += 1
        if time.perf_counter() - start_s > seconds:
            return number


def find_port() -> int:
    """Return a free port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def measure_beside(folder: Path, templates: Sequence[Template], rounds: int) -> None:
    """Fill the database without a receiver, then let the destination catch up while more spans arrive."""
    port, database, kept = find_port(), folder / "beside.db", folder / "beside.bodies"
    with ExitStack() as stack:
        collector, endpoint = stack.enter_context(
            running("--collector", str(database), f"http://127.0.0.1:{port}")
        )
        publishers = connect(stack, endpoint)
        for number in range(rounds):
            send_round(publishers, templates, number)
        drain(publishers)
        stack.enter_context(running("--receiver", str(port), str(kept)))
        while not read_sent(database):
            time.sleep(0.01)
        stored = rounds * ROUND_SPANS
        first, start_s = read_sent(database), time.perf_counter()
        number = send_paced(publishers, templates, rounds, ROUND_SPANS * rounds / PACE / 2)
        passed_s = time.perf_counter() - start_s
        sent = read_sent(database) - first
        received = (number - rounds) * ROUND_SPANS
        print(f"{'received meanwhile, spans/s':36}{received / passed_s:>12,.0f}")
        is_even = first + sent > received + stored - ROUND_SPANS // 8
        even = "  (it had caught up: more --rounds)" if is_even else ""
        print(f"{'sent on meanwhile, spans/s':36}{sent / passed_s:>12,.0f}{even}")
        drain(publishers)
        start_s, then = time.perf_counter(), read_sent(database)
        total = number * ROUND_SPANS
        while read_sent(database) < total:
            time.sleep(0.05)
        if total - then > ROUND_SPANS // 4:
            rate = (total - then) / (time.perf_counter() - start_s)
            print(f"{'sent on while nothing comes in':36}{rate:>12,.0f}")
        collector.terminate()
        assert collector.stdout is not None
        own_s, child_s, megabytes = collector.stdout.read().split()
        print(f"{'CPU of the process that sends, µs':36}{1e6 * float(child_s) / total:>12.1f}")
        print(f"{'CPU of the collector, µs':36}{1e6 * float(own_s) / total:>12.1f}")
        print(f"{'highest RSS of what sends, MB':36}{int(megabytes):>12,}")
    spans, different = count_kept(kept)
    verdict = "every span once" if spans == different == total else "WRONG"
    print(f"{'kept by the receiver':36}{spans:>12,}  {verdict}")


def print_rates(what: str, without: float, with_one: float, ratio: float) -> None:
    """Print one line of the table of costs."""
    print(f"{what:24}{without:>14,.0f}{with_one:>14,.0f}{ratio:>8.2f}")


def measure_cost(folder: Path, templates: Sequence[Template], turns: int) -> None:
    """Print the rates of two collectors, one with a destination, in alternate turns."""
    port = find_port()
    pairs = []
    with ExitStack() as stack:
        stack.enter_context(running("--receiver", str(port), str(folder / "cost.bodies")))
        sides: list[dict[str, Publisher]] = []
        for url in ("none", f"http://127.0.0.1:{port}"):
            database = folder / f"cost-{len(sides)}.db"
            _, endpoint = stack.enter_context(running("--collector", str(database), url))
            sides.append(connect(stack, endpoint))
        print(f"\n{'':24}{'without':>14}{'with one':>14}{'ratio':>8}")
        for turn in range(turns):
            rates = []
            for side, publishers in enumerate(sides):
                start_s = time.perf_counter()
                send_round(publishers, templates, turn)
                drain(publishers)
                rates.append(ROUND_SPANS / (time.perf_counter() - start_s))
                while side and read_sent(folder / "cost-1.db") < (turn + 1) * ROUND_SPANS:
                    time.sleep(0.05)
            pairs.append(rates)
            print_rates(f"turn {turn + 1}, spans/s", rates[0], rates[1], rates[1] / rates[0])
    middle = [statistics.median(column) for column in zip(*pairs, strict=True)]
    ratio = statistics.median(with_one / without for without, with_one in pairs)
    print_rates("median, spans/s", middle[0], middle[1], ratio)


def main() -> None:
    """Run both measurements, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help=f"rounds of {ROUND_SPANS:,} to catch up with")
    parser.add_argument("--turns", type=int, default=5, help="turns of one round each")
    parser.add_argument("--gzip", action="store_true", help="compress requests")
    parser.add_argument("--collector", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--receiver", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.collector:
        return run_collector(Path(options.collector[0]), options.collector[1])
    if options.receiver:
        return run_receiver(int(options.receiver[0]), Path(options.receiver[1]))
    if options.gzip:
        os.environ["OTEL_EXPORTER_OTLP_COMPRESSION"] = "gzip"
    templates = make_templates(1)
    with tempfile.TemporaryDirectory() as name:
        measure_beside(Path(name), templates, options.rounds)
        measure_cost(Path(name), templates, options.turns)


if __name__ == "__main__":
    main()
