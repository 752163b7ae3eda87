"""Calls of `ztrace.rpc` beside rpyc, Pyro5 and grpc.aio, and streams and large values beside zerorpc.

    python -m tests.benchmarks.rpc_peers

Each pair of a client and a server runs in two processes, one pair after the other in each round, and the
tables have medians. Calls come from 16 callers: threads with a connection each for rpyc and Pyro5, tasks of
one connection for grpc.aio and `ztrace.rpc`. A library that is not installed is left out, with a line.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import msgpack

from tests.benchmarks.rpc_engine import Service, report, serve_zerorpc, serve_ztrace
from ztrace import rpc

ROUNDS = 3
CALLERS = 16
#: Calls of a round by peer, and the module that it needs.
CALLS = {"ztrace": 4096, "grpc": 2048, "rpyc": 4096, "Pyro5": 4096}
#: Items of a stream, and bytes and number of large values, by peer.
ITEMS = {"zerorpc": 4_000, "ztrace": 100_000}
LARGE, LARGE_CALLS = 10_000_000, 5


def serve_rpyc() -> None:
    """Serve by rpyc, with a thread for each connection."""
    import rpyc
    from rpyc.utils.server import ThreadedServer

    class Peer(rpyc.Service):  # type: ignore[misc]
        def exposed_echo(self, value: str) -> str:
            return value

        def exposed_cpu(self) -> float:
            return time.process_time()

    server = ThreadedServer(Peer, hostname="127.0.0.1", port=0)
    print(f"127.0.0.1:{server.port}", flush=True)
    server.start()


def serve_pyro5() -> None:
    """Serve by Pyro5, with a thread for each connection."""
    import Pyro5.api

    @Pyro5.api.expose
    class Peer:
        def echo(self, value: str) -> str:
            return value

        def cpu(self) -> float:
            return time.process_time()

    daemon = Pyro5.api.Daemon("127.0.0.1")
    print(daemon.register(Peer()), flush=True)
    daemon.requestLoop()


def serve_grpc() -> None:
    """Serve by grpc.aio, with msgpack in place of generated messages."""
    import grpc

    service = Service()

    async def call(request: Any, context: Any) -> Any:
        name, *args = request
        return await getattr(service, name)(*args)

    async def run() -> None:
        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(call, msgpack.unpackb, msgpack.packb)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("peer", {"call": handler}),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(f"127.0.0.1:{port}", flush=True)
        await server.wait_for_termination()

    asyncio.run(run())


def call_threads(connect: Callable[[], Any], count: int) -> None:
    """Call from threads, each with a connection of its own."""
    peers = [connect() for _ in range(CALLERS)]

    def work(count: int) -> None:
        def call(peer: Any) -> None:
            if hasattr(peer, "_pyroClaimOwnership"):
                peer._pyroClaimOwnership()
            for _ in range(count // CALLERS):
                peer.echo("hello")

        threads = [threading.Thread(target=call, args=(peer,)) for peer in peers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    other = connect()
    work(2 * CALLERS)
    report(count, other.cpu, lambda: work(count))


def call_tasks(call: Callable[..., Any], count: int) -> None:
    """Call from tasks, all by one connection."""
    loop = asyncio.get_event_loop_policy().get_event_loop()

    async def work(count: int) -> None:
        async def caller() -> None:
            for _ in range(count // CALLERS):
                await call("echo", "hello")

        await asyncio.gather(*(caller() for _ in range(CALLERS)))

    async def cpu() -> float:
        return float(await call("cpu"))

    loop.run_until_complete(work(2 * CALLERS))
    report(count, lambda: loop.run_until_complete(cpu()), lambda: loop.run_until_complete(work(count)))


def call_peer(peer: str, address: str) -> None:
    """Call a peer, and print its figures."""
    count = CALLS[peer]
    match peer:
        case "rpyc":
            import rpyc

            host, port = address.split(":")
            call_threads(lambda: rpyc.connect(host, int(port)).root, count)
        case "Pyro5":
            import Pyro5.api

            call_threads(lambda: Pyro5.api.Proxy(address), count)
        case _:
            asyncio.set_event_loop(asyncio.new_event_loop())
            if peer == "ztrace":
                call_tasks(rpc.AsyncClient(address).call, count)
                return
            import grpc

            async def connect() -> Any:
                return grpc.aio.insecure_channel(address)

            channel = asyncio.get_event_loop_policy().get_event_loop().run_until_complete(connect())
            method = channel.unary_unary("/peer/call", msgpack.packb, msgpack.unpackb)
            call_tasks(lambda *request: method(request), count)


def read_peer(peer: str, address: str) -> None:
    """Read a stream and echo large values; print items a second, and milliseconds and CPU time of an echo."""
    if peer == "zerorpc":
        import zerorpc

        client: Any = zerorpc.Client(address)
    else:
        client = rpc.Client(address)
    client.echo(b"")
    started_s = time.perf_counter()
    assert sum(1 for _ in client.items(ITEMS[peer])) == ITEMS[peer]
    print(ITEMS[peer] / (time.perf_counter() - started_s))
    value = os.urandom(LARGE)
    theirs_s, mine_s, started_s = client.cpu(), time.process_time(), time.perf_counter()
    for _ in range(LARGE_CALLS):
        assert client.echo(value) == value
    took_s, mine_s = time.perf_counter() - started_s, time.process_time() - mine_s
    print(took_s / LARGE_CALLS * 1000, (mine_s + client.cpu() - theirs_s) / LARGE_CALLS * 1000, flush=True)


def measure(verb: str, peer: str) -> list[float]:
    """Return the figures of one client and its server, each in its own process."""
    program = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.rpc_peers"]
    with subprocess.Popen(
        [*program, "serve", peer], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            done = subprocess.run(
                [*program, verb, peer, address], capture_output=True, text=True, timeout=120, check=True
            )
        finally:
            server.kill()
    return [float(each) for each in done.stdout.split()]


def medians(verb: str, peers: list[str]) -> dict[str, list[float]]:
    """Return the medians of the peers' figures, measured in turn."""
    rounds: dict[str, list[list[float]]] = {peer: [] for peer in peers}
    for _ in range(ROUNDS):
        for peer in peers:
            rounds[peer].append(measure(verb, peer))
    return {
        peer: [statistics.median(each) for each in zip(*found, strict=True)] for peer, found in rounds.items()
    }


def main() -> None:
    """Measure all peers, and print both tables."""
    peers = []
    for peer in CALLS:
        if find_spec(peer):
            peers.append(peer)
        else:
            print(f"{peer} is not installed, and left out")
    figures = medians("call", peers)
    print(f"{'peer':8} {'calls/s':>9} {'of ztrace':>10} {'CPU client':>11} {'server':>9}")
    for peer, (rate, mine, theirs) in figures.items():
        print(f"{peer:8} {rate:9,.0f} {rate / figures['ztrace'][0]:10.2f} {mine:9.1f}µs {theirs:7.1f}µs")
    read = medians("read", list(ITEMS))
    print(f"{'peer':8} {'items/s':>9} {'10 MB echo':>11} {'CPU':>7}")
    for peer, (rate, echo_ms, cpu_ms) in read.items():
        print(f"{peer:8} {rate:9,.0f} {echo_ms:9.0f}ms {cpu_ms:5.0f}ms")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", peer]:
            {
                "ztrace": serve_ztrace,
                "zerorpc": serve_zerorpc,
                "rpyc": serve_rpyc,
                "Pyro5": serve_pyro5,
                "grpc": serve_grpc,
            }[peer]()
        case ["call" | "read" as verb, peer, address]:
            (call_peer if verb == "call" else read_peer)(peer, address)
            sys.stdout.flush()
            os._exit(0)  # zerorpc's client keeps the process for seconds.
        case _:
            main()
