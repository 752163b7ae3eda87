"""Cost of tracing a call: CPU time that it adds to both sides together, by library.

    python -m tests.benchmarks.calls [LIBRARY…]

For each library two pairs of client and server in separate processes, one pair traced with a running
collector, one without ztrace. The pairs take turns, in changing order, and each turn's CPU time of both
processes, the publishing of the spans included, is divided by its calls; the median of the differences is
printed. The method does nothing.
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.processes import start_collector

#: Calls per turn, turns of each pair.
CALLS, TURNS = 400, 25

_START = """
import sys, time
if sys.argv[2]:
    import ztrace
    ztrace.configure(service=sys.argv[3], endpoint=sys.argv[2])
    ztrace.instrument()
address = sys.argv[1]
"""

#: Code of the server and of the client of each library, and the limit in µs a call. A server prints "ready";
#: a client defines `call`.
LIBRARIES = {
    "zmq REQ/REP": (
        """
import zmq
socket = zmq.Context().socket(zmq.REP)
socket.bind("ipc://" + address)
print("ready", flush=True)
while True:
    socket.send(socket.recv())
""",
        """
import zmq
socket = zmq.Context().socket(zmq.REQ)
socket.connect("ipc://" + address)
def call():
    socket.send(b"1")
    socket.recv()
""",
        40,
    ),
    "rpyc": (
        """
import rpyc
from rpyc.utils.server import ThreadedServer
class Service(rpyc.Service):
    def exposed_echo(self, value):
        return value
server = ThreadedServer(Service, socket_path=address)
print("ready", flush=True)
server.start()
""",
        """
from rpyc.utils.factory import unix_connect
connection = unix_connect(address)
echo = connection.root.echo
def call():
    echo(1)
""",
        50,
    ),
}

_LOOP = """
for line in sys.stdin:
    begun = time.process_time()
    for _ in range(int(line)):
        call()
    if sys.argv[2]:
        ztrace.flush()
    print(time.process_time() - begun, flush=True)
"""


def main() -> None:
    """Measure each library, and print the table."""
    chosen = [name for name in LIBRARIES if not sys.argv[1:] or name.split()[0] in sys.argv[1:]]
    print(f"{'library':14} {'untraced':>10} {'added':>8} {'limit':>8} {'quartiles':>14}")
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            measure(name, Path(folder))


def measure(name: str, folder: Path) -> None:
    """Run both pairs of a library, and print its row."""
    collector, endpoint = start_collector(folder)
    pairs = [Pair(name, folder / "plain", ""), Pair(name, folder / "traced", endpoint)]
    try:
        for pair in pairs:
            pair.take_turn(CALLS)
        plain, added = [], []
        for turn in range(TURNS):
            order = pairs if turn % 2 else pairs[::-1]
            seconds = {id(pair): pair.take_turn(CALLS) for pair in order}
            plain.append(seconds[id(pairs[0])] / CALLS * 1e6)
            added.append(seconds[id(pairs[1])] / CALLS * 1e6 - plain[-1])
        low, middle, high = statistics.quantiles(added, n=4)
        untraced, spread = statistics.median(plain), f"{low:.0f} {high:.0f}"
        print(f"{name:14} {untraced:7.0f} µs {middle:5.1f} µs {LIBRARIES[name][2]:5} µs {spread:>14}")
    finally:
        for process in [collector, *(process for pair in pairs for process in pair.processes)]:
            process.terminate()
            process.communicate()


class Pair:
    """A server and its client, traced if an endpoint is given."""

    def __init__(self, name: str, path: Path, endpoint: str) -> None:
        server, client, _ = LIBRARIES[name]
        self.server = _start(_START + server, str(path), endpoint, "server")
        assert self.server.stdout is not None
        self.server.stdout.readline()
        self.client = _start(_START + client + _LOOP, str(path), endpoint, "client")
        self.processes = (self.server, self.client)

    def take_turn(self, calls: int) -> float:
        """Have the client make calls; return the CPU time of both processes in seconds."""
        assert self.client.stdin is not None
        assert self.client.stdout is not None
        before = _cpu_s(self.server.pid)
        print(calls, file=self.client.stdin, flush=True)
        return float(self.client.stdout.readline()) + _cpu_s(self.server.pid) - before


def _cpu_s(pid: int) -> float:
    """Return the CPU time of a process's threads in seconds, to the nanosecond."""
    return (
        sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
    )


def _start(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


if __name__ == "__main__":
    main()
