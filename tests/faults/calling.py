"""Process whose traced calls are timed: ``python -m tests.faults.calling ENDPOINT KIND [ADDRESS]``.

Each input line is a number of seconds; the process makes calls for that time and prints their durations.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

#: Work of a traced function: about 100 µs.
_WORK = range(2_500)


class Calls(NamedTuple):
    """Durations of the calls of one turn, in µs."""

    number: int
    p50: float
    p99: float


def measure(call: Callable[[], object], seconds: float) -> Calls:
    """Make consecutive calls for a time, and return their number and quantiles."""
    took_ns = []
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        before_ns = time.perf_counter_ns()
        call()
        took_ns.append(time.perf_counter_ns() - before_ns)
    took_ns.sort()
    count = len(took_ns)
    return Calls(count, took_ns[count // 2] / 1e3, took_ns[count * 99 // 100] / 1e3)


def make_function() -> Callable[[], object]:
    """Return a traced function that computes a sum."""
    import ztrace

    @ztrace.trace
    def compute() -> int:
        return sum(_WORK)

    return compute


def make_call(address: str) -> Callable[[], object]:
    """Return a function that makes one call with a traced zerorpc client."""
    import zerorpc

    client = zerorpc.Client(address)
    return lambda: client.echo(1)


def serve(address: str) -> None:
    """Run the zerorpc server."""
    import zerorpc

    class Service:
        def echo(self, value: int) -> int:
            return value

    server = zerorpc.Server(Service())
    server.bind(address)
    print("ready", flush=True)
    server.run()


def main() -> None:
    """Run the server or the timed caller."""
    import ztrace

    endpoint, kind, *rest = sys.argv[1:]
    ztrace.configure(kind, endpoint)
    if kind != "function":
        ztrace.instrument("zerorpc")
    if kind == "server":
        serve(*rest)
        return
    call = make_function() if kind == "function" else make_call(*rest)
    for line in sys.stdin:
        print(json.dumps(measure(call, float(line))), flush=True)


if __name__ == "__main__":
    main()
