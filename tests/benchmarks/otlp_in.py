"""Cost of receiving OTLP, from a request to the committed row, compared with ztrace's own publishers.

Run by hand: ``python -m tests.benchmarks.otlp_in [--turns N] [--senders N]``. Requests of 512 spans over
HTTP, in
protobuf as an SDK makes them: call trees of eight spans, a resource of five attributes, two attributes on
half of
the spans, and one tree in a hundred that failed with a Python stack trace. Each sender has a connection and
sends
the next request when the last is answered; requests are created before the measurement. ztrace's own spans
are
those of the collector's benchmark, from four publishers. Both go to one collector process and alternate,
because
the machine's speed varies by more than the difference to be measured; in the last turn of each round they
send
concurrently.
"""

import argparse
import http.client
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.benchmarks.collector import (
    MARK,
    ROUND_SPANS,
    TREE,
    Publisher,
    Template,
    connect,
    drain,
    make_templates,
    send_round,
)
from ztrace.addresses import Address
from ztrace_collector.otlp.listening.servers import Listening, Servers
from ztrace_collector.receiving.inbox import Inbox
from ztrace_collector.service import Options, collect

REQUEST_SPANS, REQUESTS = 512, 128
STACK = "Traceback (most recent call last):\n" + "".join(
    f'  File "/srv/shop/{name}.py", line {line}, in {name}\n    {name}_next(card)\n'
    for line, name in enumerate(("checkout", "charge", "bank", "post"), 10)
)


class Cost(NamedTuple):
    """Results of a turn.

    Attributes:
        rate: spans per second.
        cpu_us: the collector's CPU time per span.
    """

    rate: float
    cpu_us: float


def make_requests(seed: int) -> list[bytes]:
    """Return requests whose trace ids are replaced in each round."""
    rng = random.Random(seed)
    start_ns = int.from_bytes(MARK, "big") << 32
    requests = []
    for _ in range(REQUESTS):
        request = ExportTraceServiceRequest()
        resource = request.resource_spans.add()
        for key, value in (
            ("service.name", "shop"),
            ("host.name", "bench"),
            ("telemetry.sdk.language", "python"),
            ("telemetry.sdk.name", "opentelemetry"),
            ("telemetry.sdk.version", "1.45.2"),
        ):
            resource.resource.attributes.append(_text(key, value))
        scope = resource.scope_spans.add()
        scope.scope.name = "shop.instrumentation"
        for _ in range(REQUEST_SPANS // len(TREE)):
            scope.spans.extend(_make_tree(rng, start_ns))
        requests.append(request.SerializeToString())
    return requests


def _make_tree(rng: random.Random, start_ns: int) -> list[Span]:
    trace_id = MARK + rng.randbytes(12)
    ids = [rng.randbytes(8) for _ in TREE]
    fails = rng.random() < 0.01
    spans = []
    for place, (_, name, kind, parent) in enumerate(TREE):
        span = Span(
            trace_id=trace_id,
            span_id=ids[place],
            parent_span_id=b"" if parent is None else ids[parent],
            name=name,
            kind=kind,  # type: ignore[arg-type]
            start_time_unix_nano=start_ns + 1000 * (len(TREE) - place),
            end_time_unix_nano=start_ns + 1_000_000 * (place + 2),
            flags=256,
        )
        if rng.random() < 0.5:
            span.attributes.append(_text("server.address", f"10.0.0.{place % 4}"))
            span.attributes.append(KeyValue(key="customer", value=AnyValue(int_value=rng.randrange(1 << 20))))
        if fails and place == 3:
            span.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message="CardDeclined: no"))
            event = span.events.add(name="exception", time_unix_nano=span.end_time_unix_nano)
            for key, value in (
                ("exception.type", "shop.CardDeclined"),
                ("exception.message", "no"),
                ("exception.stacktrace", f"{STACK}shop.CardDeclined: no\n"),
            ):
                event.attributes.append(_text(key, value))
        spans.append(span)
    return spans


def _text(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


class Exporters:
    """Connections that send requests at the rate of the answers."""

    def __init__(self, address: str, senders: int) -> None:
        self._address = address
        self._senders = senders
        self._requests = make_requests(2)
        self._round = count()

    def send(self, until: Callable[[int], bool]) -> tuple[int, float]:
        """Send until told to end; return the number of spans accepted, and the seconds."""
        number = next(self._round)
        bodies = [_moved_on(body, number) for body in self._requests]
        places, taken = count(), []
        start_s = time.perf_counter()

        def run() -> None:
            connection = http.client.HTTPConnection(self._address)
            while not until(place := next(places)):
                body = bodies[place] if place < REQUESTS else self._make_more(number, place)
                while True:
                    connection.request("POST", "/v1/traces", body, {"Content-Type": "application/x-protobuf"})
                    answer = connection.getresponse()
                    answer.read()
                    if answer.status == 200:
                        taken.append(REQUEST_SPANS)
                        break
                    assert answer.status == 503, answer.status
                    if until(place):
                        break
                    time.sleep(0.05)
            connection.close()

        threads = [threading.Thread(target=run) for _ in range(self._senders)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(taken), time.perf_counter() - start_s

    def _make_more(self, number: int, place: int) -> bytes:
        """Return a request with unused trace ids."""
        return _moved_on(self._requests[place % REQUESTS], 1000 * (place // REQUESTS) + number)


def _moved_on(body: bytes, number: int) -> bytes:
    """Return a request with other trace ids; times, in which the mark's bytes are reversed, stay."""
    return body.replace(MARK, (int.from_bytes(MARK, "big") + number).to_bytes(4, "big"))


def run_collector(database: Path) -> None:
    """Run the collector process, and print its addresses."""
    servers: list[Servers] = []

    def ready(endpoint: str) -> None:
        print(endpoint, servers[0].http, flush=True)

    def listen(inbox: Inbox, say: Callable[[str], None]) -> Servers:
        servers.append(Servers(Listening(http=Address("127.0.0.1", 0)), inbox, say))
        return servers[0]

    collect(Options("tcp://127.0.0.1:0", database, companions=[listen]), ready=ready)


def cpu_s(pid: int) -> float:
    """Return the CPU time used by a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(pid: int, work: Callable[[], int]) -> Cost:
    """Return the cost of a function that returns its number of spans."""
    start_cpu_s, start_s = cpu_s(pid), time.perf_counter()
    spans = work()
    return Cost(spans / (time.perf_counter() - start_s), 1e6 * (cpu_s(pid) - start_cpu_s) / spans)


def main() -> None:
    """Run the benchmark, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--senders", type=int, default=4)
    parser.add_argument("--collector", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.collector:
        run_collector(options.collector)
        return
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        command = [sys.executable, "-m", "tests.benchmarks.otlp_in", "--collector", f"{name}/traces.db"]
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(process.terminate)
        assert process.stdout is not None
        endpoint, address = process.stdout.readline().split()
        publishers = connect(stack, endpoint)
        templates = make_templates(1)
        exporters = Exporters(address, options.senders)
        numbers = count()

        def send_native() -> int:
            send_round(publishers, templates, next(numbers))
            drain(publishers)
            return ROUND_SPANS

        def send_otlp() -> int:
            return exporters.send(lambda place: place >= REQUESTS)[0]

        print(f"{'':10}{'OTLP spans/s':>14}{'µs CPU':>8}{'own spans/s':>14}{'µs CPU':>8}", end="")
        print(f"{'own, beside':>14}{'OTLP, beside':>14}", flush=True)
        rows = []
        for turn in range(options.turns):
            otlp, own = measure(process.pid, send_otlp), measure(process.pid, send_native)
            beside = _both(exporters, publishers, templates, next(numbers))
            rows.append((*otlp, *own, *beside))
            _print(f"turn {turn + 1}", rows[-1])
        _print("median", tuple(map(statistics.median, zip(*rows, strict=True))))


def _both(
    exporters: Exporters, publishers: dict[str, Publisher], templates: list[Template], number: int
) -> tuple[float, float]:
    """Return the rates of ztrace's own spans and of OTLP, sent concurrently."""
    ended = threading.Event()
    rates: list[float] = []

    def flood() -> None:
        spans, seconds = exporters.send(lambda place: ended.is_set())
        rates.append(spans / seconds)

    thread = threading.Thread(target=flood)
    thread.start()
    start_s = time.perf_counter()
    send_round(publishers, templates, number)
    drain(publishers)
    own = ROUND_SPANS / (time.perf_counter() - start_s)
    ended.set()
    thread.join()
    return own, rates[0]


def _print(title: str, row: tuple[float, ...]) -> None:
    otlp, otlp_us, own, own_us, own_beside, otlp_beside = row
    print(f"{title:10}{otlp:>14,.0f}{otlp_us:>8.1f}{own:>14,.0f}{own_us:>8.1f}", end="")
    print(f"{own_beside:>14,.0f}{otlp_beside:>14,.0f}", flush=True)


if __name__ == "__main__":
    main()
