"""CPU time of traced calls of `ztrace.rpc` beside untraced ones: client and server together.

    python -m tests.benchmarks.rpc_tracing [--callers N] [--turns N]

Two pairs of a client and a server, each a process of its own, one of them traced, with a running collector.
The pairs take short turns, in changing order. CPU time is that of all threads of both processes, so the
publishers are included, and the collector is not. The table has the medians over the turns.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ztrace
from tests.benchmarks.processes import start_collector
from ztrace import rpc

#: Calls of a turn.
CALLS = 2048


class Service:
    """Service whose method does nothing."""

    async def echo(self, value: Any) -> Any:
        """Return the value."""
        return value

    async def cpu(self) -> float:
        """Return the CPU time of the process."""
        return time.process_time()


def serve() -> None:
    """Serve, and print the address."""

    async def run() -> None:
        server = rpc.Server(Service(), "tcp://127.0.0.1:*").start()
        print(server.endpoints[0], flush=True)
        await server.run()

    asyncio.run(run())


def call(endpoint: str, callers: int) -> None:
    """Make a turn of calls for each line of stdin, and print the CPU time of a call in µs."""

    async def run() -> None:
        async with rpc.AsyncClient(endpoint) as client:

            async def work(count: int) -> None:
                for _ in range(count):
                    await client.echo("hello")

            await client.echo("hello")
            for _ in sys.stdin:
                before_s = time.process_time() + await client.cpu()
                await asyncio.gather(*(work(CALLS // callers) for _ in range(callers)))
                after_s = time.process_time() + await client.cpu()
                print((after_s - before_s) / (CALLS // callers * callers) * 1e6, flush=True)

    asyncio.run(run())


def start(arguments: list[str]) -> "subprocess.Popen[str]":
    """Start a process of this program."""
    program = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.rpc_tracing", *arguments]
    return subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(process: "subprocess.Popen[str]") -> float:
    """Have a client make a turn of calls, and return the CPU time of a call."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main(callers: int, turns: int) -> None:
    """Measure both pairs, and print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        collector, endpoint = start_collector(Path(folder))
        processes, clients = [], {}
        try:
            for pair in ("untraced", "traced"):
                tracing = endpoint if pair == "traced" else "-"
                server = start(["serve", tracing])
                processes.append(server)
                assert server.stdout is not None
                clients[pair] = start(["call", tracing, server.stdout.readline().strip(), str(callers)])
                processes.append(clients[pair])
            for pair in clients:
                ask(clients[pair])
            taken: dict[str, list[float]] = {pair: [] for pair in clients}
            for turn in range(turns):
                for pair in sorted(clients, reverse=bool(turn % 2)):
                    taken[pair].append(ask(clients[pair]))
        finally:
            for process in processes:
                process.kill()
                process.communicate()
            collector.kill()
            collector.wait()
    ratios = [traced / plain for traced, plain in zip(taken["traced"], taken["untraced"], strict=True)]
    first, _, third = statistics.quantiles(ratios, n=4)
    plain, traced = (statistics.median(taken[pair]) for pair in ("untraced", "traced"))
    print(f"{callers} callers: {plain:.1f} µs untraced, {traced:.1f} µs traced", end="")
    print(f", {statistics.median(ratios):.2f} times (quartiles {first:.2f}, {third:.2f})")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve" | "call" as role, tracing, *rest]:
            if tracing != "-":
                ztrace.configure(service=role, endpoint=tracing)
            serve() if role == "serve" else call(rest[0], int(rest[1]))
        case _:
            parser = argparse.ArgumentParser(description=__doc__)
            parser.add_argument("--callers", type=int, default=16)
            parser.add_argument("--turns", type=int, default=21)
            options = parser.parse_args()
            main(options.callers, options.turns)
