"""Cost of tracing a zerorpc call: calls per second, traced against untraced, in one run.

    python -m tests.benchmarks.zerorpc

Two pairs of client and server in separate processes, one pair traced with a running collector, one without
ztrace. Turns alternate between the pairs, in changing order, and the median of the ratios of neighbouring
turns is
printed: for one caller that waits for each reply, and for sixteen concurrent greenlets. The method does
nothing,
so a real service's ratio is closer to one.

zerorpc 0.6.3 rarely misses an event and stalls for a second, traced or not; the median is not affected.
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.processes import start_collector

#: Calls per turn, turns of each pair.
CALLS, TURNS = 320, 60
#: Numbers of concurrent callers.
CALLERS = (1, 16)
#: Required ratio of traced to untraced calls.
LIMIT = 0.97

_TRACE = """
if sys.argv[2]:
    import ztrace
    ztrace.configure(service={service!r}, endpoint=sys.argv[2])
    ztrace.instrument("zerorpc")
"""

_SERVER = (
    """
import sys, zerorpc
"""
    + _TRACE.format(service="server")
    + """
class Service:
    def echo(self, value):
        return value
server = zerorpc.Server(Service())
server.bind(sys.argv[1])
print("ready", flush=True)
server.run()
"""
)

_CLIENT = (
    """
import sys, time, gevent.pool, zerorpc
"""
    + _TRACE.format(service="client")
    + """
client = zerorpc.Client(sys.argv[1])
for line in sys.stdin:
    calls, callers = map(int, line.split())
    def work(_):
        for _ in range(calls // callers):
            client.echo(1)
    begun = time.perf_counter()
    if callers == 1:
        work(0)
    else:
        gevent.pool.Pool(callers).map(work, range(callers))
    print(time.perf_counter() - begun, flush=True)
"""
)


def main() -> None:
    """Run both pairs, and print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        collector, endpoint = start_collector(folder)
        pairs = [start_pair(folder / "plain", ""), start_pair(folder / "traced", endpoint)]
        try:
            for _, client in pairs:
                take_turn(client, CALLS, 1)
            print(f"{'callers':>8} {'untraced':>12} {'ratio':>8} {'limit':>8} {'quartiles':>14}")
            for callers in CALLERS:
                print_row(callers, [client for _, client in pairs])
        finally:
            for process in [collector, *(process for pair in pairs for process in pair)]:
                process.terminate()
                process.communicate()


def print_row(callers: int, clients: list[subprocess.Popen[str]]) -> None:
    """Let the clients take turns, and print the ratio."""
    ratios, plain = [], []
    for turn in range(TURNS):
        order = clients if turn % 2 else clients[::-1]
        seconds = {client.pid: take_turn(client, CALLS, callers) for client in order}
        ratios.append(seconds[clients[0].pid] / seconds[clients[1].pid])
        plain.append(CALLS / seconds[clients[0].pid])
    low, middle, high = statistics.quantiles(ratios, n=4)
    rate, spread = statistics.median(plain), f"{low:.2f} {high:.2f}"
    print(f"{callers:8} {rate:10.0f}/s {middle:8.3f} {LIMIT:8.2f} {spread:>14}")


def start_pair(path: Path, endpoint: str) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """Start a server and its client, traced if an endpoint is given."""
    address = f"ipc://{path}"
    server = _start(_SERVER, address, endpoint)
    assert server.stdout is not None
    server.stdout.readline()
    return server, _start(_CLIENT, address, endpoint)


def take_turn(client: subprocess.Popen[str], calls: int, callers: int) -> float:
    """Request a turn of calls from a client; return the seconds taken."""
    assert client.stdin is not None
    assert client.stdout is not None
    print(calls, callers, file=client.stdin, flush=True)
    return float(client.stdout.readline())


def _start(code: str, address: str, endpoint: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, address, endpoint],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


if __name__ == "__main__":
    main()
