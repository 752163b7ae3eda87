"""Effect of failing calls on concurrent ones: calls per second, with and without 100 failing calls a second.

    python -m tests.benchmarks.failing

Two chains of three services, each service in its own process: one chain traced with a running collector, one
without ztrace. A caller makes calls through all three as fast as it can, alternately alone, and while another
process makes calls at a steady rate that raise in the third service and pass the others. For each chain the
rate
with failures over the rate without is printed, as the median of the turns. Failing calls need CPU time
whether
traced or not, so the limit applies to the traced chain's figure over the untraced one's of the same turn.

On two cores, five processes and a collector leave no idle time, so the CPU time of a failing call without
other
calls is printed by process too.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.processes import start_collector

#: Seconds per turn, turns of each kind, failing calls per second.
TURN_S, TURNS, FAILING = 1.0, 30, 100
#: Turns with failing calls only, which give the cost of one.
QUIET_TURNS = 6
#: Required ratio of the traced to the untraced chain.
LIMIT = 0.95

_TRACE = """
if sys.argv[2]:
    import ztrace
    ztrace.configure(service=sys.argv[3], endpoint=sys.argv[2])
    ztrace.instrument("zerorpc")
"""

_SERVER = (
    """
import sys, zerorpc
"""
    + _TRACE
    + """
upstream = zerorpc.Client(sys.argv[4]) if len(sys.argv) > 4 else None
class Service:
    def echo(self, value):
        return upstream.echo(value) if upstream else value
    def fail(self, value):
        if upstream:
            return upstream.fail(value)
        return self.look_up(value, {})
    def look_up(self, value, prices):
        return prices[value]
server = zerorpc.Server(Service())
server.bind(sys.argv[1])
print("ready", flush=True)
server.run()
"""
)

_CALLER = (
    """
import sys, time, zerorpc
"""
    + _TRACE
    + """
client = zerorpc.Client(sys.argv[1])
for line in sys.stdin:
    calls, begun = 0, time.perf_counter()
    end = begun + float(line)
    while time.perf_counter() < end:
        client.echo(1)
        calls += 1
    print(calls / (time.perf_counter() - begun), flush=True)
"""
)

_FAILING = (
    """
import sys, time, gevent, zerorpc
from gevent.fileobject import FileObject
"""
    + _TRACE
    + """
client = zerorpc.Client(sys.argv[1])
failed = 0
def fail(number):
    global failed
    try:
        client.fail(f"part {number}")
    except zerorpc.RemoteError:
        failed += 1
def keep_failing(rate):
    begun, number = time.perf_counter(), 0
    while True:
        number += 1
        gevent.sleep(max(0, begun + number / rate - time.perf_counter()))
        gevent.spawn(fail, number)
task = None
for line in FileObject(0, "r", closefd=False):
    if task is not None:
        task.kill()
        task = None
    if float(line):
        failed, begun = 0, time.perf_counter()
        task = gevent.spawn(keep_failing, float(line))
        gevent.sleep(0.2)
        print("failing", flush=True)
    else:
        print(failed / (time.perf_counter() - begun), flush=True)
"""
)

Process = subprocess.Popen[str]


class Chain:
    """Three services, a caller, and a maker of failing calls."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self.processes: list[Process] = []
        address: list[str] = []
        for name in ("back", "middle", "front"):
            upstream, address = address, [f"ipc://{folder}-{name}"]
            ask(self._start(_SERVER, *address, endpoint, name, *upstream))
        self.caller = self._start(_CALLER, *address, endpoint, "caller")
        self.failing = self._start(_FAILING, *address, endpoint, "failing")
        ask(self.caller, TURN_S)
        self.failed: list[float] = []

    def _start(self, code: str, *arguments: str) -> Process:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.processes.append(process)
        return process

    def take_turn(self, failing: int) -> float:
        """Return the caller's calls per second, with this number of failing calls per second."""
        if failing:
            ask(self.failing, failing)
        rate = float(ask(self.caller, TURN_S))
        if failing:
            self.failed.append(float(ask(self.failing, 0)))
        return rate

    def take_quiet_turn(self, collector: Process) -> list[float]:
        """Return each process's CPU time for one failing call, in µs."""
        processes = [*self.processes, collector]
        ask(self.failing, FAILING)
        begun, before = time.perf_counter(), list(map(read_cpu_us, processes))
        time.sleep(TURN_S * 2)
        used = [after - each for each, after in zip(before, map(read_cpu_us, processes), strict=True)]
        seconds = time.perf_counter() - begun
        calls = float(ask(self.failing, 0)) * seconds
        return [each / calls for each in used]


def main() -> None:
    """Run both chains, and print the tables."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        collector, endpoint = start_collector(folder)
        chains = [Chain(folder / "plain", ""), Chain(folder / "traced", endpoint)]
        try:
            print_table(chains)
            print_costs(chains, collector)
        finally:
            for process in [collector, *(process for chain in chains for process in chain.processes)]:
                process.terminate()
                process.communicate()


def print_table(chains: list[Chain]) -> None:
    """Let the chains take turns, and print their remaining rates."""
    kept: list[list[float]] = [[], []]
    alone: list[list[float]] = [[], []]
    for turn in range(TURNS):
        for place in (0, 1) if turn % 2 else (1, 0):
            rates = {}
            for failing in (0, FAILING) if turn // 2 % 2 else (FAILING, 0):
                rates[failing] = chains[place].take_turn(failing)
            alone[place].append(rates[0])
            kept[place].append(rates[FAILING] / rates[0])
    print(f"{'':>10} {'alone':>10} {'failing':>10} {'kept':>8} {'quartiles':>14}")
    for place, name in enumerate(("untraced", "traced")):
        low, middle, high = statistics.quantiles(kept[place], n=4)
        rate, failed = statistics.median(alone[place]), statistics.median(chains[place].failed)
        print(f"{name:>10} {rate:8.0f}/s {failed:8.0f}/s {middle:8.3f} {f'{low:.2f} {high:.2f}':>14}")
    ratios = [traced / plain for plain, traced in zip(*kept, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"traced against untraced: {middle:.3f} ({low:.2f} {high:.2f}), limit {LIMIT}")


def print_costs(chains: list[Chain], collector: Process) -> None:
    """Print the CPU time of a failing call by process, with the caller idle."""
    costs: list[list[list[float]]] = [[], []]
    for turn in range(QUIET_TURNS):
        for place in (0, 1) if turn % 2 else (1, 0):
            costs[place].append(chains[place].take_quiet_turn(collector))
    print(
        f"{'µs a call':>10}", *(f"{name:>10}" for name in ("back", "middle", "front", "failing", "collector"))
    )
    for place, name in enumerate(("untraced", "traced")):
        back, middle, front, _, failing, collected = (
            statistics.median(each) for each in zip(*costs[place], strict=True)
        )
        print(f"{name:>10}", *(f"{each:10.0f}" for each in (back, middle, front, failing, collected)))


def read_cpu_us(process: Process) -> float:
    """Return the CPU time of a process's threads in µs, from Linux's statistics."""
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1000


def ask(process: Process, number: float | None = None) -> str:
    """Send a number to a process, if given, and return its next line."""
    assert process.stdin is not None
    assert process.stdout is not None
    if number is not None:
        print(number, file=process.stdin, flush=True)
    return process.stdout.readline()


if __name__ == "__main__":
    main()
