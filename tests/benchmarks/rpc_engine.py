"""Calls of `ztrace.rpc` beside zerorpc and raw sockets: calls a second and CPU time a call.

    python -m tests.benchmarks.rpc_engine [CALLERS…]

"raw" is a DEALER and a ROUTER that exchange the same messages in msgpack and do nothing else. Each pair of a
client and a server runs in two processes, one pair after the other in each round, and the table has medians.
CPU time is that of the whole process, ZeroMQ's own threads included. Streams have 100 slots.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import msgpack
import zmq

from ztrace import rpc

#: Rounds, and calls of a round by client.
ROUNDS = 3
CALLS = {"raw": 8192, "zerorpc": 768, "asyncio": 4096, "threads": 4096}
#: Items of a stream, by client.
ITEMS = {"zerorpc": 4000, "asyncio": 30_000, "threads": 30_000}
#: Servers of the clients.
SERVERS = {"raw": "raw", "zerorpc": "zerorpc", "asyncio": "ztrace", "threads": "ztrace"}


class Service:
    """Service of all servers but the raw one."""

    async def echo(self, value: Any) -> Any:
        """Return the value."""
        return value

    async def cpu(self) -> float:
        """Return the CPU time of the server's process."""
        return time.process_time()

    async def items(self, number: int) -> Any:
        """Yield numbers."""
        for each in range(number):
            yield each


def serve_ztrace() -> None:
    """Serve by `ztrace.rpc`."""

    async def run() -> None:
        server = rpc.Server(Service(), "tcp://127.0.0.1:*").start()
        print(server.endpoints[0], flush=True)
        await server.run()

    asyncio.run(run())


def serve_zerorpc() -> None:
    """Serve by zerorpc."""
    import zerorpc

    methods = {
        "echo": lambda value: value,
        "cpu": time.process_time,
        "items": zerorpc.stream(lambda number: iter(range(number))),
    }
    server = zerorpc.Server(methods)
    server.bind("tcp://127.0.0.1:*")
    print(server._events._socket.last_endpoint.decode().rstrip("\0"), flush=True)
    server.run()


def serve_raw() -> None:
    """Serve by a ROUTER that only packs and unpacks."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    socket.bind("tcp://127.0.0.1:*")
    print(socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0"), flush=True)
    pack = msgpack.Packer().pack
    while True:
        *peer, data = socket.recv_multipart()
        header, name, args = msgpack.unpackb(data)
        result = time.process_time() if name == "cpu" else args[0]
        reply = {"message_id": header["message_id"], "v": 3, "response_to": header["message_id"]}
        socket.send_multipart([*peer, pack((reply, "OK", (result,)))])


def call_raw(endpoint: str, callers: int, count: int) -> None:
    """Call by a DEALER that only packs and unpacks, as many calls at a time as there are callers."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    socket.connect(endpoint)
    pack = msgpack.Packer().pack
    sent = 0

    def send(name: str, *args: Any) -> None:
        nonlocal sent
        sent += 1
        socket.send_multipart([b"", pack(({"message_id": b"%032d" % sent, "v": 3}, name, args))])

    def receive() -> Any:
        return msgpack.unpackb(socket.recv_multipart()[-1])[2][0]

    def work(count: int) -> None:
        for _ in range(callers):
            send("echo", "hello")
        for _ in range(count - callers):
            receive()
            send("echo", "hello")
        for _ in range(callers):
            receive()

    def cpu() -> Any:
        send("cpu")
        return receive()

    work(2 * callers)
    report(count, cpu, lambda: work(count))


def call_zerorpc(endpoint: str, callers: int, count: int) -> None:
    """Call by zerorpc, from greenlets."""
    import gevent
    import zerorpc

    client = zerorpc.Client(endpoint)

    def work(count: int) -> None:
        def call() -> None:
            for _ in range(count // callers):
                client.echo("hello")

        gevent.joinall([gevent.spawn(call) for _ in range(callers)])

    work(2 * callers)
    report(count, client.cpu, lambda: work(count))
    report_stream(ITEMS["zerorpc"], lambda: sum(1 for _ in client.items(ITEMS["zerorpc"])))


def call_threads(endpoint: str, callers: int, count: int) -> None:
    """Call by `rpc.Client`, from threads."""
    with rpc.Client(endpoint) as client:

        def call(count: int) -> None:
            for _ in range(count // callers):
                client.echo("hello")

        def work(count: int) -> None:
            threads = [threading.Thread(target=call, args=(count,)) for _ in range(callers - 1)]
            for thread in threads:
                thread.start()
            call(count)
            for thread in threads:
                thread.join()

        work(2 * callers)
        report(count, client.cpu, lambda: work(count))
        report_stream(ITEMS["threads"], lambda: sum(1 for _ in client.items(ITEMS["threads"])))


def call_asyncio(endpoint: str, callers: int, count: int) -> None:
    """Call by `rpc.AsyncClient`, from tasks."""
    loop = asyncio.new_event_loop()
    client = rpc.AsyncClient(endpoint)

    async def call(count: int) -> None:
        for _ in range(count // callers):
            await client.echo("hello")

    async def work(count: int) -> None:
        await asyncio.gather(*(call(count) for _ in range(callers)))

    async def read() -> None:
        async for _ in client.items(ITEMS["asyncio"]):
            pass

    async def cpu() -> float:
        return float(await client.cpu())

    loop.run_until_complete(work(2 * callers))
    report(count, lambda: loop.run_until_complete(cpu()), lambda: loop.run_until_complete(work(count)))
    report_stream(ITEMS["asyncio"], lambda: loop.run_until_complete(read()))


def report(count: int, server_cpu: Callable[[], float], work: Callable[[], object]) -> None:
    """Run the calls, and print their number a second and the CPU time of client and server a call, in µs."""
    theirs_s, mine_s, started_s = server_cpu(), time.process_time(), time.perf_counter()
    work()
    ended_s, mine_s = time.perf_counter(), time.process_time() - mine_s
    theirs_s = server_cpu() - theirs_s
    print(count / (ended_s - started_s), mine_s / count * 1e6, theirs_s / count * 1e6, flush=True)


def report_stream(count: int, read: Callable[[], object]) -> None:
    """Read a stream, and print its items a second."""
    started_s = time.perf_counter()
    read()
    print(count / (time.perf_counter() - started_s), flush=True)


def measure(client: str, callers: int) -> list[float]:
    """Return the figures of one client and its server, each in its own process."""
    program = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.rpc_engine"]
    serve = [*program, "serve", SERVERS[client]]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            endpoint = server.stdout.readline().strip()
            arguments = ["call", client, endpoint, str(callers), str(CALLS[client])]
            done = subprocess.run(
                [*program, *arguments], capture_output=True, text=True, timeout=120, check=True
            )
        finally:
            server.kill()
    return [float(each) for each in done.stdout.split()]


def main(callers: list[int]) -> None:
    """Measure all clients in turn, and print the table."""
    figures: dict[tuple[int, str], list[list[float]]] = {}
    for _ in range(ROUNDS):
        for count in callers:
            for client in CALLS:
                figures.setdefault((count, client), []).append(measure(client, count))
    print(
        f"{'callers':>7} {'client':8} {'calls/s':>9} {'of raw':>7} {'zerorpc':>8} {'CPU client':>11}", end=""
    )
    print(f" {'server':>8} {'of zerorpc':>11} {'items/s':>9}")
    for (count, client), rounds in figures.items():
        rate, mine, theirs, *items = (statistics.median(each) for each in zip(*rounds, strict=True))
        raw, old = (figures[count, name] for name in ("raw", "zerorpc"))
        raw_rate, old_rate = (statistics.median(each[0] for each in rounds) for rounds in (raw, old))
        old_cpu = statistics.median(each[1] + each[2] for each in old)
        print(f"{count:7} {client:8} {rate:9,.0f} {rate / raw_rate:7.2f} {rate / old_rate:7.1f}x", end="")
        print(f" {mine:9.1f}µs {theirs:6.1f}µs {f'1/{old_cpu / (mine + theirs):.1f}':>11}", end="")
        print(f" {items[0]:9,.0f}" if items else "")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", kind]:
            {"ztrace": serve_ztrace, "zerorpc": serve_zerorpc, "raw": serve_raw}[kind]()
        case ["call", kind, endpoint, callers, count]:
            call = {
                "raw": call_raw,
                "zerorpc": call_zerorpc,
                "threads": call_threads,
                "asyncio": call_asyncio,
            }
            call[kind](endpoint, int(callers), int(count))
            sys.stdout.flush()
            os._exit(0)  # zerorpc's client keeps the process for seconds.
        case numbers:
            main([int(number) for number in numbers] or [1, 16, 256])
