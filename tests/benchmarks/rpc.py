"""Cost of tracing a call of other RPC libraries: CPU time of client and server together, in one run.

    python -m tests.benchmarks.rpc [LIBRARY…]

For each library two pairs of client and server in separate processes, one pair traced with a running
collector, one without ztrace. Turns alternate between the pairs, in changing order. The median of the
differences of neighbouring turns is what tracing adds to a call: both spans, their context and reply, and the
publishers of both processes. The method does nothing.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.processes import start_collector

#: Calls of a turn, and turns of each pair.
CALLS, TURNS = 300, 20

_TRACE = """
import sys
if sys.argv[2]:
    import ztrace
    ztrace.configure(service=sys.argv[1], endpoint=sys.argv[2])
    ztrace.instrument()
"""

_SERVERS = {
    "managers": """
from multiprocessing.managers import BaseManager
class Shop:
    def echo(self, value): return value
class Manager(BaseManager): pass
shop = Shop()
Manager.register("shop", lambda: shop)
server = Manager(("127.0.0.1", 0), b"key").get_server()
print(server.address[1], flush=True)
server.serve_forever()
""",
    "xmlrpc": """
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer
class Handler(SimpleXMLRPCRequestHandler):
    protocol_version = "HTTP/1.1"
server = SimpleXMLRPCServer(("127.0.0.1", 0), Handler, logRequests=False)
server.register_function(lambda value: value, "echo")
print(server.server_address[1], flush=True)
server.serve_forever()
""",
    "pyro5": """
from Pyro5.api import Daemon, expose
@expose
class Shop:
    def echo(self, value): return value
daemon = Daemon("127.0.0.1", 0)
daemon.register(Shop(), "shop")
print(daemon.locationStr.rpartition(":")[2], flush=True)
daemon.requestLoop()
""",
    "processes": "print(0, flush=True); sys.stdin.read()",
}

_CLIENTS = {
    "managers": """
from multiprocessing.managers import BaseManager
class Manager(BaseManager): pass
Manager.register("shop")
manager = Manager(("127.0.0.1", int(sys.argv[3])), b"key")
manager.connect()
echo = manager.shop().echo
""",
    "xmlrpc": """
from xmlrpc.client import ServerProxy
echo = ServerProxy(f"http://127.0.0.1:{sys.argv[3]}").echo
""",
    "pyro5": """
from Pyro5.api import Proxy
echo = Proxy(f"PYRO:shop@127.0.0.1:{sys.argv[3]}").echo
""",
    "processes": """
import os, time
from concurrent.futures import ProcessPoolExecutor
executor = ProcessPoolExecutor(1)
print(executor.submit(os.getpid).result(), flush=True)
def echo(value): return executor.submit(abs, value).result()
""",
}

_TURNS = """
echo(1)
for line in sys.stdin:
    for _ in range(int(line)):
        echo(1)
    print("done", flush=True)
"""

#: CPU time in µs that tracing may add to a call.
LIMITS = {"managers": 40, "xmlrpc": 50, "pyro5": 50}


class Pair:
    """A client and its server, traced if an endpoint is given."""

    def __init__(self, library: str, endpoint: str) -> None:
        self._server = _start(_SERVERS[library], library, endpoint)
        port = _read(self._server)
        self._client = _start(_CLIENTS[library] + _TURNS, library, endpoint, port)
        served_by = int(_read(self._client)) if library == "processes" else self._server.pid
        # The clock of a process's CPU time, as clock_getcpuclockid(3) returns it.
        self._clocks = [~pid << 3 | 2 for pid in (self._client.pid, served_by)]
        self.take_turn(CALLS)

    def take_turn(self, calls: int) -> float:
        """Make calls; return the CPU time of both sides for each, in µs."""
        begun_s = self._read_clocks()
        assert self._client.stdin is not None
        print(calls, file=self._client.stdin, flush=True)
        _read(self._client)
        return (self._read_clocks() - begun_s) / calls * 1e6

    def close(self) -> None:
        """Stop both processes; the client ends with its input, and shuts its pool down."""
        self._client.communicate()
        self._server.terminate()
        self._server.communicate()

    def _read_clocks(self) -> float:
        return sum(map(time.clock_gettime, self._clocks))


def main(libraries: list[str]) -> None:
    """Measure each library, and print the table."""
    print(f"{'library':>10} {'untraced':>10} {'added':>10} {'limit':>10} {'quartiles':>14}")
    with tempfile.TemporaryDirectory() as name:
        collector, endpoint = start_collector(Path(name))
        try:
            for library in libraries or _SERVERS:
                measure(library, endpoint)
        finally:
            collector.terminate()
            collector.communicate()


def measure(library: str, endpoint: str) -> None:
    """Let the two pairs of a library take turns, and print the row."""
    pairs = [Pair(library, ""), Pair(library, endpoint)]
    plain, added = [], []
    for turn in range(TURNS):
        order = pairs if turn % 2 else pairs[::-1]
        times = {pair: pair.take_turn(CALLS) for pair in order}
        plain.append(times[pairs[0]])
        added.append(times[pairs[1]] - times[pairs[0]])
    for pair in pairs:
        pair.close()
    low, middle, high = statistics.quantiles(added, n=4)
    limit = f"{LIMITS[library]}µs" if library in LIMITS else ""
    columns = f"{statistics.median(plain):8.1f}µs {middle:8.1f}µs {limit:>10}"
    print(f"{library:>10} {columns} {f'{low:.1f} {high:.1f}':>14}")


def _start(code: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", _TRACE + code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _read(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


if __name__ == "__main__":
    main(sys.argv[1:])
