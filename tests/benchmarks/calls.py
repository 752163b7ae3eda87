"""Cost of tracing a call: CPU time added to both sides together, by library, against OpenTelemetry's SDK.

    python -m tests.benchmarks.calls [--turns N] [LIBRARY…]

For each library three pairs of client and server in separate processes: one untraced, one traced by ztrace
with a running collector, and one instrumented by hand with OpenTelemetry's SDK and its OTLP exporter, which
sends to a server that only reads. The pairs take short turns, in changing order. A turn's CPU time is that of
all threads of both processes since the pair's last turn, so publishing is included, and divided by the calls.
The table has the medians: of the untraced turns, and of the differences between neighbouring turns. The
method does nothing.

All pairs run on one processor. With client and server on two the figures are larger, traced or not, and left
to the scheduler some pairs take half as long again as others.

A task of a thread pool has no span; what is measured is that it has the caller's context.

The last line is the CPU time of the collector for the two spans of a call at 1,500 calls/s. The calls are
those of zmq: spans of zerorpc have the same fields and attributes, but two cores do not always make as many.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.processes import start_collector

#: Calls in a turn: a batch of the SDK's span processor, which it exports at once.
CALLS = 512
#: Turns of each pair, by default.
TURNS = 15
#: Calls per second, calls at once, seconds and limit in µs, for the collector.
RATE, BURST, STORED_S, STORED_LIMIT = 1500, 30, 8, 28
#: Part of what OpenTelemetry adds that ztrace may add.
SHARE = 5

#: Start of each program, which defines `ask(remote)` for the client and `echo` for the server.
_PLAIN = """
import sys
library, tracer, endpoint, address, port = sys.argv[1:6]
port = int(port)
def ask(remote):
    remote(1)
def echo(value):
    return value
def flush():
    pass
"""

_ZTRACE = """
import ztrace
ztrace.configure(service=library, endpoint=endpoint)
ztrace.instrument()
"""

_OPENTELEMETRY = """
from opentelemetry import context, propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
provider = TracerProvider(resource=Resource.create({"service.name": library}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
otel = provider.get_tracer("bench")
CALLED = {"rpc.system.name": library, "server.address": "127.0.0.1", "server.port": port}
SERVED = {"rpc.system.name": library}
def ask(remote):
    with otel.start_as_current_span("echo", kind=trace.SpanKind.CLIENT, attributes=CALLED):
        carrier = {}
        propagate.inject(carrier)
        remote(1, carrier["traceparent"])
def echo(value, traceparent):
    parent = propagate.extract({"traceparent": traceparent})
    with otel.start_as_current_span("echo", parent, trace.SpanKind.SERVER, SERVED):
        return value
"""

_TRACERS = {"untraced": "", "ztrace": _ZTRACE, "opentelemetry": _OPENTELEMETRY}

#: End of each client: a turn for each line.
_TURNS = """
ask(remote)
for line in sys.stdin:
    for _ in range(int(line)):
        ask(remote)
    print("done", flush=True)
"""


class Library(NamedTuple):
    """Programs of a library.

    Attributes:
        limit_us: CPU time that tracing may add to a call; None if there is no limit.
        client: code that defines `remote`.
        server: code that prints its port once it can be called; empty if the client has a process of its own.
    """

    limit_us: int | None
    client: str
    server: str = ""


LIBRARIES = {
    "zmq": Library(
        40,
        """
import zmq
socket = zmq.Context().socket(zmq.REQ)
socket.connect(f"tcp://127.0.0.1:{port}")
def remote(value, *carrier):
    if carrier:
        socket.send_multipart([carrier[0].encode(), b"1"])
    else:
        socket.send(b"1")
    socket.recv()
""",
        """
import zmq
socket = zmq.Context().socket(zmq.REP)
print(socket.bind_to_random_port("tcp://127.0.0.1"), flush=True)
while True:
    if tracer == "opentelemetry":
        carrier, value = socket.recv_multipart()
        socket.send(echo(value, carrier.decode()))
    else:
        socket.send(echo(socket.recv()))
""",
    ),
    "managers": Library(
        40,
        """
from multiprocessing.managers import BaseManager
class Manager(BaseManager): pass
Manager.register("shop")
manager = Manager(("127.0.0.1", port), b"key")
manager.connect()
remote = manager.shop().echo
""",
        """
from multiprocessing.managers import BaseManager
class Shop:
    def echo(self, *arguments): return echo(*arguments)
class Manager(BaseManager): pass
shop = Shop()
Manager.register("shop", lambda: shop)
server = Manager(("127.0.0.1", 0), b"key").get_server()
print(server.address[1], flush=True)
server.serve_forever()
""",
    ),
    "rpyc": Library(
        50,
        """
import rpyc
connection = rpyc.connect("127.0.0.1", port)
remote = connection.root.echo
""",
        """
import rpyc
from rpyc.utils.server import ThreadedServer
class Service(rpyc.Service):
    def exposed_echo(self, *arguments): return echo(*arguments)
server = ThreadedServer(Service, "127.0.0.1", port=0)
print(server.port, flush=True)
server.start()
""",
    ),
    "xmlrpc": Library(
        50,
        """
from xmlrpc.client import ServerProxy
remote = ServerProxy(f"http://127.0.0.1:{port}").echo
""",
        """
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer
class Handler(SimpleXMLRPCRequestHandler):
    protocol_version = "HTTP/1.1"
server = SimpleXMLRPCServer(("127.0.0.1", 0), Handler, logRequests=False)
server.register_function(lambda *arguments: echo(*arguments), "echo")
print(server.server_address[1], flush=True)
server.serve_forever()
""",
    ),
    "pyro5": Library(
        50,
        """
from Pyro5.api import Proxy
remote = Proxy(f"PYRO:shop@127.0.0.1:{port}").echo
""",
        """
from Pyro5.api import Daemon, expose
@expose
class Shop:
    def echo(self, *arguments): return echo(*arguments)
daemon = Daemon("127.0.0.1", 0)
daemon.register(Shop(), "shop")
print(daemon.locationStr.rpartition(":")[2], flush=True)
daemon.requestLoop()
""",
    ),
    "zerorpc": Library(
        60,
        """
import zerorpc
client = zerorpc.Client(f"tcp://127.0.0.1:{port}")
remote = client.echo
""",
        """
import socket, zerorpc
class Shop:
    def echo(self, *arguments): return echo(*arguments)
server = zerorpc.Server(Shop())
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
server.bind(f"tcp://127.0.0.1:{port}")
print(port, flush=True)
server.run()
""",
    ),
    "threads": Library(
        5,
        """
import contextlib
from concurrent.futures import ThreadPoolExecutor
executor = ThreadPoolExecutor(1)
if tracer == "opentelemetry":
    def run(current, function, value):
        token = context.attach(current)
        try:
            return function(value)
        finally:
            context.detach(token)
    def ask(remote):
        executor.submit(run, context.get_current(), abs, 1).result()
    otel.start_as_current_span("tasks").__enter__()
else:
    def ask(remote):
        executor.submit(abs, 1).result()
    if tracer == "ztrace":
        ztrace.span("tasks").__enter__()
remote = None
""",
    ),
}

#: Server that reads what it is sent, as the exporter's peer.
_SINK = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *arguments): pass
server = HTTPServer(("127.0.0.1", 0), Handler)
print(f"http://127.0.0.1:{server.server_address[1]}/v1/traces", flush=True)
server.serve_forever()
"""


class Pair:
    """A client and its server, with one tracer or none."""

    def __init__(self, library: str, tracer: str, endpoint: str) -> None:
        start = _PLAIN + _TRACERS[tracer]
        programs = LIBRARIES[library]
        arguments = [library, tracer, endpoint, "127.0.0.1"]
        self._processes = []
        port = "0"
        if programs.server:
            self._processes.append(start_program(start + programs.server, *arguments, port))
            port = read_line(self._processes[0])
        self._client = start_program(start + programs.client + _TURNS, *arguments, port)
        self._processes.append(self._client)
        for process in self._processes:
            for thread in os.listdir(f"/proc/{process.pid}/task"):
                os.sched_setaffinity(int(thread), (min(os.sched_getaffinity(0)),))
        self._clocks = [clock_of(process) for process in self._processes]
        self._used_s = 0.0
        for _ in range(3):
            self.take_turn()

    def take_turn(self, calls: int = CALLS) -> float:
        """Make calls; return the CPU time of both sides since the last turn for each, in µs."""
        assert self._client.stdin is not None
        print(calls, file=self._client.stdin, flush=True)
        read_line(self._client)
        before_s, self._used_s = self._used_s, sum(map(time.clock_gettime, self._clocks))
        return (self._used_s - before_s) / calls * 1e6

    def close(self) -> None:
        """Stop both processes."""
        for process in self._processes:
            process.terminate()
            process.communicate()


def main() -> None:
    """Measure each library, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("libraries", nargs="*", default=list(LIBRARIES), metavar="LIBRARY")
    options = parser.parse_args()
    columns = ("untraced", "ztrace adds", "limit", "SDK adds", "ratio", "limit")
    print(f"{'CPU of a call':14}" + "".join(f"{column:>20}" for column in columns))
    with _collecting() as (_, endpoint):
        sink = start_program(_SINK)
        endpoints = {"untraced": "", "ztrace": endpoint, "opentelemetry": read_line(sink)}
        try:
            for library in options.libraries:
                measure(library, endpoints, options.turns)
        finally:
            sink.terminate()
            sink.communicate()
    # Another one, which has nothing to settle of the turns before.
    with _collecting() as (collector, endpoint):
        measure_collector(endpoint, clock_of(collector))


@contextmanager
def _collecting() -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run a collector, and yield its process and endpoint."""
    with tempfile.TemporaryDirectory() as folder:
        collector, endpoint = start_collector(Path(folder))
        try:
            yield collector, endpoint
        finally:
            collector.terminate()
            collector.communicate()


def measure(library: str, endpoints: dict[str, str], turns: int) -> None:
    """Let the pairs of a library take turns, and print the row."""
    pairs = {tracer: Pair(library, tracer, endpoint) for tracer, endpoint in endpoints.items()}
    try:
        rounds = []
        for turn in range(turns):
            order = list(pairs)[:: 1 if turn % 2 else -1]
            rounds.append({tracer: pairs[tracer].take_turn() for tracer in order})
    finally:
        for pair in pairs.values():
            pair.close()
    plain = statistics.median(times["untraced"] for times in rounds)
    mine = [times["ztrace"] - times["untraced"] for times in rounds]
    theirs = [times["opentelemetry"] - times["untraced"] for times in rounds]
    limit = LIBRARIES[library].limit_us
    ratio = statistics.median(theirs) / max(0.001, statistics.median(mine))
    cells = (
        f"{plain:.0f} µs",
        _summarize(mine),
        "" if limit is None else f"{limit} µs",
        _summarize(theirs),
        f"1/{ratio:.1f}",
        f"1/{SHARE}",
    )
    print(f"{library:14}" + "".join(f"{cell:>20}" for cell in cells), flush=True)


def measure_collector(endpoint: str, clock: int) -> None:
    """Make calls at a fixed rate, and print what their spans cost the collector."""
    pair = Pair("zmq", "ztrace", endpoint)
    begun_s, used_s = time.monotonic(), time.clock_gettime(clock)
    bursts = RATE * STORED_S // BURST
    for burst in range(bursts):
        pair.take_turn(BURST)
        time.sleep(max(0.0, begun_s + (burst + 1) * BURST / RATE - time.monotonic()))
    calls, took_s = bursts * BURST, time.monotonic() - begun_s
    used_us = (time.clock_gettime(clock) - used_s) / calls * 1e6
    pair.close()
    print(f"collector: {used_us:.1f} µs a call at {calls / took_s:,.0f} calls/s, limit {STORED_LIMIT} µs")


def clock_of(process: "subprocess.Popen[str]") -> int:
    """Return the clock of a process's CPU time, as clock_getcpuclockid(3) does."""
    return ~process.pid << 3 | 2


def _summarize(values: list[float]) -> str:
    """Return the median and the quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f" {middle:.1f} ({low:.0f}-{high:.0f}) µs"


def start_program(code: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start a Python process that talks by lines."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def read_line(process: "subprocess.Popen[str]") -> str:
    """Return the next line that a process prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


if __name__ == "__main__":
    main()
