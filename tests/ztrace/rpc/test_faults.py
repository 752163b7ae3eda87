"""Servers and clients that are killed, restarted, blocked or told to stop while calls are open."""

import asyncio
import os
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.ztrace.programs import run_program, started_program
from tests.ztrace.rpc.services import FREE, Billing
from tests.ztrace.waiting import wait_for
from ztrace import rpc

pytestmark = pytest.mark.process

#: Program that serves, and prints its address; `serve` prints what it exposes to the standard error.
SERVER = """
import asyncio, os, sys, time
from ztrace import rpc

class Service:
    def pid(self):
        return os.getpid()

    def block(self, seconds):
        print("blocked", flush=True)
        time.sleep(seconds)
        return seconds

    async def spin(self, seconds):
        time.sleep(seconds)  # Blocks the loop.
        return seconds

    async def sleep(self, seconds):
        await asyncio.sleep(seconds)
        return seconds

    async def sleep_told(self, seconds):
        print("sleeping", flush=True)
        return await self.sleep(seconds)

    async def pause(self):
        print("paused", flush=True)
        try:
            await asyncio.Event().wait()
        finally:
            print("cancelled", flush=True)

    async def pass_on(self, *addresses):
        async with rpc.AsyncClient(addresses[0], heartbeat_s=1) as client:
            if addresses[1:]:
                return await client.pass_on(*addresses[1:])
            return await client.pause()

    async def remaining(self, *addresses):
        left = rpc.current_call().remaining_s
        if not addresses:
            return [left]
        await asyncio.sleep(0.05)
        async with rpc.AsyncClient(addresses[0]) as client:
            return [left, *await client.remaining(*addresses[1:])]

server = rpc.Server(Service(), sys.argv[1], heartbeat_s=float(sys.argv[2]), grace_s=float(sys.argv[3]))

async def main():
    server.start()
    print(flush=True)
    print(server.endpoints[0], flush=True)
    await server.run()
    print("ended", dict(server.counts), flush=True)

asyncio.run(main())
"""


@contextmanager
def serving(
    endpoint: str = FREE, heartbeat_s: float = 1.0, grace_s: float = 5.0
) -> Iterator[tuple[Any, str]]:
    """Run the server, and yield its process and its address."""
    with started_program(SERVER, endpoint, str(heartbeat_s), str(grace_s)) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()


@contextmanager
def signalled(process: Any, number: signal.Signals) -> Iterator[None]:
    """Send a signal to a server once it tells that it serves the call of the block."""

    def send() -> None:
        assert process.stdout.readline() in ("paused\n", "blocked\n")
        process.send_signal(number)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_a_killed_server_is_noticed_at_once() -> None:
    """Open calls fail with `PeerLost` when their server is killed, and later ones reach its successor."""
    # The deadline comes far before a heartbeat is missed: the connection tells.
    with serving() as (process, endpoint), rpc.Client(endpoint, heartbeat_s=60, timeout_s=30) as client:
        pid = client.pid()
        with signalled(process, signal.SIGKILL), pytest.raises(rpc.PeerLost) as caught:
            client.pause()
        assert "is lost" in str(caught.value)
        process.wait()
        with serving(endpoint):
            assert client.pid() != pid


def test_calls_of_several_servers_go_to_those_that_live() -> None:
    """Of two servers one is killed: no later call fails."""
    with serving() as (_, first), serving() as (_, second), rpc.Client(first, second, timeout_s=20) as client:
        wait_for(lambda: len({client.pid() for _ in range(4)}) == 2)
        victim = client.pid()
        os.kill(victim, signal.SIGKILL)
        lost = 0
        for _ in range(50):
            try:
                assert client.pid()
            except rpc.PeerLost:
                lost += 1
        assert lost <= 2
        assert {client.pid() for _ in range(10)}.isdisjoint({victim})


def test_a_blocked_server_keeps_its_peers() -> None:
    """A handler that blocks the loop or the pool longer than three periods loses neither kind of client."""
    program = (
        "import os, sys, warnings; warnings.simplefilter('ignore')\n"
        "import zerorpc\n"
        "client = zerorpc.Client(sys.argv[1], heartbeat=0.5)\n"
        "print(client.block(1.6), client.spin(1.6), flush=True)\n"
        "os._exit(0)\n"
    )
    with serving(heartbeat_s=0.5) as (_, endpoint), ThreadPoolExecutor() as pool:
        done = pool.submit(run_program, program, endpoint)
        with rpc.Client(endpoint, heartbeat_s=0.5) as client:
            assert client.block(1.6) == 1.6
            assert client.spin(1.6) == 1.6
        assert done.result().stdout == "1.6 1.6\n"


def test_a_server_drains_on_a_signal() -> None:
    """SIGTERM lets open calls end, refuses new ones, and ends the process with its counts in balance."""
    with serving() as (process, endpoint), rpc.Client(endpoint) as client:
        pid = client.pid()
        answers: list[object] = []
        thread = threading.Thread(target=lambda: answers.append(client.sleep_told(0.5)))
        thread.start()
        assert process.stdout.readline() == "sleeping\n"
        with rpc.Client(endpoint) as other:
            other.pid()
            os.kill(pid, signal.SIGTERM)
            refused: BaseException | None = None
            while refused is None:
                try:
                    with rpc.deadline(1):
                        other.pid()
                except (rpc.PeerLost, rpc.DeadlineExceeded) as error:
                    refused = error  # The refused call has waited for another server.
        thread.join()
        assert answers == [0.5]
        assert process.wait() == 0
        text = process.stdout.read()
        counts = {name: int(number) for name, number in re.findall(r"'(\w+)': (\d+)", text)}
        ended = sum(counts.get(name, 0) for name in ("answered", "failed", "cancelled"))
        assert counts["calls"] == ended, text


def test_calls_that_outlast_the_grace_are_cancelled() -> None:
    """A call that does not end in time after SIGTERM fails, and is cancelled in the server."""
    with serving(grace_s=0.1) as (process, endpoint), rpc.Client(endpoint) as client:
        with signalled(process, signal.SIGTERM), pytest.raises(rpc.RpcError):
            client.pause()
        assert process.wait() == 0
        assert "cancelled" in process.stdout.read()


def test_a_cancellation_reaches_three_hops() -> None:
    """Cancelling a call cancels those that its method has made, to the last server."""
    with serving() as (_, first), serving() as (_, second), serving() as (last, third):

        async def run() -> None:
            async with rpc.AsyncClient(first, heartbeat_s=1) as client:
                call = asyncio.ensure_future(client.pass_on(second, third))
                loop = asyncio.get_running_loop()
                assert await loop.run_in_executor(None, last.stdout.readline) == "paused\n"
                call.cancel()
                assert await loop.run_in_executor(None, last.stdout.readline) == "cancelled\n"

        asyncio.run(asyncio.wait_for(run(), 20))


def test_a_deadline_counts_down_over_three_processes() -> None:
    """Each server knows how much is left of the first caller's time."""
    servers = (serving(), serving(), serving())
    with servers[0] as (_, first), servers[1] as (_, second), servers[2] as (_, third):
        client = rpc.Client(first)
        with client, rpc.deadline(20):
            left = client.remaining(second, third)
    assert len(left) == 3
    assert 20 >= left[0] >= left[1] + 0.05 >= left[2] + 0.1


def test_a_paused_client_costs_its_own_replies_alone() -> None:
    """A client that reads nothing is answered as far as there is room, and others meanwhile."""
    with rpc.Server(Billing(), FREE) as server:
        program = (
            "import sys, zmq, msgpack\n"
            "socket = zmq.Context().socket(zmq.DEALER)\n"
            "socket.rcvhwm = 10\n"
            "socket.connect(sys.argv[1])\n"
            "for number in range(2000):\n"
            "    event = [{'message_id': number, 'v': 3}, 'echo', ['x' * 10000]]\n"
            "    socket.send_multipart([b'', msgpack.packb(event)])\n"
            "print('sent', flush=True)\n"
            "sys.stdin.readline()\n"
            "got = set()\n"
            "while len(got) < 2000 and socket.poll(10000):\n"
            "    header, name, args = msgpack.unpackb(socket.recv_multipart()[-1])\n"
            "    got.add(header['response_to']) if name == 'OK' else None\n"
            "print(len(got), flush=True)\n"
        )
        with started_program(program, *server.endpoints) as process, rpc.Client(*server.endpoints) as client:
            wait_for(lambda: server.counts["answered"] >= 2000)
            assert client.echo("meanwhile") == "meanwhile"
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "2000\n"
        assert server.counts["undelivered"] == 0


def test_a_forked_child_has_connections_of_its_own() -> None:
    """A client that was made before a fork works in the child, and goes on in the parent."""
    with serving() as (_, endpoint):
        done = run_program(
            "import os, sys\n"
            "from ztrace import rpc\n"
            "client = rpc.Client(sys.argv[1], heartbeat_s=1)\n"
            "assert client.pid()\n"
            "child = os.fork()\n"
            "if not child:\n"
            "    assert client.pid()\n"
            "    rpc.close(client)\n"
            "    os._exit(0)\n"
            "assert client.pid()\n"
            "assert os.waitpid(child, 0)[1] == 0\n"
            "rpc.close(client)\n"
            "print('done')\n",
            endpoint,
        )
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_a_function_that_never_returns_keeps_no_process() -> None:
    """After SIGTERM and the time that calls have, a server's process ends whatever its functions do."""
    with serving(grace_s=0.1) as (process, endpoint), rpc.Client(endpoint) as client:
        with signalled(process, signal.SIGTERM), pytest.raises(rpc.RpcError):
            client.block(3600)
        assert process.wait(timeout=20) == 0


def test_a_rolling_restart_under_load() -> None:
    """While one of two servers stops and starts again, calls are answered by either."""
    with serving() as (first, endpoint), serving() as (_, other):
        errors: list[BaseException] = []
        pids: set[int] = set()
        ended = threading.Event()

        def work() -> None:
            while not ended.is_set():
                try:
                    client.sleep(0.01)
                    pids.add(client.pid())
                except rpc.RpcError as error:
                    errors.append(error)

        with rpc.Client(endpoint, other, timeout_s=20) as client:
            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            wait_for(lambda: len(pids) == 2)
            first.terminate()
            assert first.wait(timeout=20) == 0
            with serving(endpoint):
                wait_for(lambda: len(pids) == 3)
                ended.set()
                for thread in threads:
                    thread.join()
    # None, unless the machine stalls longer than a server that stops goes on refusing.
    assert len(errors) <= len(threads)


@pytest.mark.slow
def test_a_frozen_server_is_noticed() -> None:
    """Open calls of a server that is stopped fail long before its heartbeats are missed."""
    with serving() as (process, first), serving() as (_, second):
        client = rpc.Client(first, heartbeat_s=60, timeout_s=30)
        with client, rpc.Client(first, second, timeout_s=20) as both:
            pid = client.pid()
            with signalled(process, signal.SIGSTOP), pytest.raises(rpc.PeerLost):
                client.pause()
            wait_for(lambda: _pid_of(both) not in (None, pid))
            os.kill(pid, signal.SIGCONT)
            assert client.pid() == pid


def _pid_of(client: rpc.Client) -> int | None:
    try:
        return int(client.pid())
    except rpc.PeerLost:
        return None
