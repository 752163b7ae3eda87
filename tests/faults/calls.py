"""Faults of calls: servers that die, freeze, stop, block or are slow, and clients that read nothing.

One idea: each call has one outcome, which the client counts; what a server has done is in its own counts.
"""

import asyncio
import os
import signal
import statistics
import time
from collections import Counter
from contextlib import ExitStack
from typing import Any

import msgpack
import zmq

from tests.faults.rpc_serving import BEAT_S, resident, running, serving
from tests.faults.running import Length
from tests.faults.table import Row
from tests.ztrace.programs import run_program
from tests.ztrace.waiting import DEADLINE_S
from ztrace import rpc

#: Counts of a server of which each call is in one
_ENDS = ("answered", "failed", "cancelled")


def kill_server(length: Length) -> Row:
    """Kill a server under load, and start the next one at its address."""
    noticed, outcomes = _lose_servers(signal.SIGKILL, int(length.of(20, 2)))
    worst = max(noticed)
    seen = f"{worst:.2f} s; {outcomes['answered']:,} answered, {outcomes['lost']} lost with their servers"
    return Row(
        "kill_server", "noticed in 0.5 s", seen, outcomes["other"], worst <= 0.5 and not outcomes["other"]
    )


def freeze_server(length: Length) -> Row:
    """Stop a server by SIGSTOP under load, and start another one at its address."""
    noticed, outcomes = _lose_servers(signal.SIGSTOP, int(length.of(5, 1)))
    worst = max(noticed)
    seen = f"{worst:.2f} s; {outcomes['answered']:,} answered, {outcomes['lost']} lost with their servers"
    return Row(
        "freeze_server", "noticed in 3 s", seen, outcomes["other"], worst <= 3 and not outcomes["other"]
    )


def _lose_servers(number: signal.Signals, turns: int) -> tuple[list[float], Counter[str]]:
    """Signal one server after the other, while 16 tasks call and one call is held."""

    async def turn(outcomes: Counter[str]) -> float:
        with serving() as (process, address):
            async with rpc.AsyncClient(address, heartbeat_s=BEAT_S, timeout_s=DEADLINE_S) as client:
                assert await client.pid() == process.pid
                held = asyncio.ensure_future(_await(client.hold()))
                ended = asyncio.Event()
                tasks = [asyncio.ensure_future(_call(client, outcomes, ended)) for _ in range(16)]
                while outcomes["answered"] < 100:
                    await asyncio.sleep(0.001)
                os.kill(process.pid, number)
                started_s = time.monotonic()
                try:
                    await held
                except rpc.PeerLost:
                    noticed_s = time.monotonic() - started_s
                process.kill()
                process.wait()
                with serving(address) as (_, _):
                    answered = outcomes["answered"]
                    while outcomes["answered"] < answered + 100:
                        await asyncio.sleep(0.001)
                    ended.set()
                    await asyncio.gather(*tasks)
        return noticed_s

    total: Counter[str] = Counter()
    noticed = []
    for _ in range(turns):
        outcomes: Counter[str] = Counter()
        noticed.append(asyncio.run(turn(outcomes)))
        total += outcomes
    return noticed, total


async def _call(client: Any, outcomes: Counter[str], ended: asyncio.Event) -> None:
    """Call until the end, and count the outcomes."""
    while not ended.is_set():
        try:
            await client.echo("hello")
            outcomes["answered"] += 1
        except rpc.PeerLost:
            outcomes["lost"] += 1
        except rpc.RpcError:
            outcomes["other"] += 1


async def _await(call: Any) -> Any:
    return await call


def stop_servers(length: Length) -> Row:
    """Stop one of two servers after the other by SIGTERM and start it again, while 16 tasks call."""
    turns = int(length.of(10, 2))

    async def run(outcomes: Counter[str]) -> None:
        with ExitStack() as stack:
            servers = [stack.enter_context(serving()) for _ in range(2)]
            addresses = [address for _, address in servers]
            async with rpc.AsyncClient(*addresses, heartbeat_s=BEAT_S, timeout_s=DEADLINE_S) as client:
                ended = asyncio.Event()
                tasks = [asyncio.ensure_future(_call(client, outcomes, ended)) for _ in range(16)]
                for turn in range(turns):
                    process, address = servers[turn % 2]
                    answered = outcomes["answered"]
                    while outcomes["answered"] < answered + 200:
                        await asyncio.sleep(0.001)
                    process.terminate()
                    assert await asyncio.to_thread(process.wait, DEADLINE_S) == 0
                    servers[turn % 2] = await asyncio.to_thread(stack.enter_context, serving(address))
                ended.set()
                await asyncio.gather(*tasks)

    outcomes: Counter[str] = Counter()
    asyncio.run(run(outcomes))
    failed = outcomes["lost"] + outcomes["other"]
    seen = f"{turns} restarts, {outcomes['answered']:,} answered, {failed} failed"
    return Row("stop_servers", "no call fails", seen, failed, not failed)


def pause_client(length: Length) -> Row:
    """Send requests whose replies of 10 KB are read only later, while another client calls."""
    number = int(length.of(20_000, 2_000))
    with serving() as (_, address), zmq.Context() as context, context.socket(zmq.DEALER) as paused:
        paused.linger = 0
        paused.rcvhwm = 100
        paused.connect(address)
        with rpc.Client(address, heartbeat_s=BEAT_S, timeout_s=DEADLINE_S) as other:
            before = other.resident()
            for each in range(number):
                event = [{"message_id": each, "v": 3}, "echo", ["x" * 10_000]]
                paused.send_multipart([b"", msgpack.packb(event)])
            worst = own = 0
            slowest_s = 0.0
            counts: dict[str, int] = {}
            while sum(counts.get(each, 0) for each in _ENDS) < number + own:
                started_s = time.monotonic()
                worst = max(worst, other.resident())
                counts = other.counts()
                own += 2
                slowest_s = max(slowest_s, (time.monotonic() - started_s) / 2)
            got = set()
            while paused.poll(2000):
                header, name, _ = msgpack.unpackb(paused.recv_multipart()[-1])
                if name == "OK":
                    got.add(header["response_to"])
            counts = other.counts()
    discarded = counts.get("undelivered", 0) + counts.get("cancelled", 0)
    uncounted = number - len(got) - discarded
    grown = (worst - before) / 1e6
    seen = (
        f"{len(got):,} read, {discarded:,} counted as undelivered, {uncounted} neither;"
        f" the server grew by {grown:.0f} MB, others waited {slowest_s * 1000:.0f} ms at most"
    )
    return Row("pause_client", "none lost uncounted", seen, uncounted, uncounted == 0 and grown < 250)


def slow_server(length: Length) -> Row:
    """Call three servers of which one is ten times slower, from 16 tasks."""
    seconds = length.of(10, 1)

    async def run(addresses: list[str]) -> tuple[int, list[float]]:
        took_s: list[float] = []
        end_s = time.monotonic() + seconds

        async def work(client: Any) -> None:
            while time.monotonic() < end_s:
                started_s = time.monotonic()
                await client.work()
                took_s.append(time.monotonic() - started_s)

        async with rpc.AsyncClient(*addresses, heartbeat_s=BEAT_S) as client:
            await asyncio.gather(*(work(client) for _ in range(16)))
        return len(took_s), statistics.quantiles(took_s, n=100)

    with serving(delay_s=0.01) as (_, first), serving(delay_s=0.01) as (_, second):
        _, alone = asyncio.run(run([first, second]))
        with serving(delay_s=0.1) as (_, slow):
            number, quantiles = asyncio.run(run([first, second, slow]))
    p50, p99 = quantiles[49] * 1000, quantiles[98] * 1000
    seen = f"{number / seconds:,.0f} calls/s, p50 {p50:.0f} ms, p99 {p99:.0f} ms"
    reached = quantiles[49] < 5 * alone[49]
    return Row("slow_server", "the fast ones take the calls", seen, 0, reached)


def block_server(length: Length) -> Row:
    """Block the pool and the event loop of a server for four periods of the heartbeat."""
    period_s = length.of(1.0, 0.2)
    blocked_s = 4 * period_s
    with serving(beat_s=period_s) as (_, address):
        with rpc.Client(address, heartbeat_s=period_s, timeout_s=DEADLINE_S) as client:
            ours = [client.block(blocked_s), client.spin(blocked_s)]
        theirs = run_program(
            "import os, sys, warnings; warnings.simplefilter('ignore')\n"
            "import zerorpc\n"
            "address, period_s = sys.argv[1], float(sys.argv[2])\n"
            "client = zerorpc.Client(address, heartbeat=period_s)\n"
            "print(client.block(4 * period_s), client.spin(4 * period_s), flush=True)\n"
            "os._exit(0)\n",
            address,
            str(period_s),
        ).stdout.split()
    reached = ours == [blocked_s] * 2 and theirs == [str(blocked_s)] * 2
    seen = f"{blocked_s:g} s with heartbeats of {period_s:g} s: {'no' if reached else 'a'} call failed"
    return Row("block_server", "no call fails", seen, 0, reached)


def hop_on(length: Length) -> Row:
    """Cancel calls that went through three servers, and have others end at their deadline."""
    number = int(length.of(200, 20))

    async def run(addresses: list[str]) -> tuple[float, int]:
        async with (
            rpc.AsyncClient(addresses[0], heartbeat_s=BEAT_S) as client,
            rpc.AsyncClient(addresses[-1], heartbeat_s=BEAT_S) as last,
        ):
            calls = [asyncio.ensure_future(_await(client.pass_on(*addresses[1:]))) for _ in range(number)]
            async with asyncio.timeout(DEADLINE_S):
                while await last.held() < number:
                    await asyncio.sleep(0.001)
                started_s = time.monotonic()
                for call in calls:
                    call.cancel()
                while await last.held():
                    await asyncio.sleep(0.001)
            took_s = time.monotonic() - started_s
            with rpc.deadline(1.0):
                results = await asyncio.gather(
                    *(_await(client.pass_on(*addresses[1:])) for _ in range(number)),
                    return_exceptions=True,
                )
            late = sum(isinstance(each, rpc.DeadlineExceeded) for each in results)
            late_s = time.monotonic()
            while (held := await last.held()) and time.monotonic() < late_s + DEADLINE_S:
                await asyncio.sleep(0.001)
            return took_s, number - late + held

    with serving() as (_, first), serving() as (_, second), serving() as (_, third):
        took_s, wrong = asyncio.run(run([first, second, third]))
    seen = f"{number} calls cancelled at the last server within {took_s * 1000:.0f} ms; {wrong} went on"
    return Row("hop_on", "all end at all servers", seen, wrong, wrong == 0)


def hold_calls(length: Length) -> Row:
    """Have calls in flight at once, all between one client and one server."""
    number = int(length.of(10_000, 1_000))
    with serving() as (process, address), rpc.Client(address, heartbeat_s=BEAT_S) as client:
        client.echo(None)
        before = resident(process.pid)
        with running("hold", address, number) as (holder, client_bytes):
            server_bytes = resident(process.pid) - before
            client.release()
            assert holder.stdin is not None
            assert holder.stdout is not None
            holder.stdin.write("\n")
            holder.stdin.flush()
            answered = int(holder.stdout.readline())
    mine, theirs = int(client_bytes) / number / 1000, server_bytes / number / 1000
    seen = f"{answered:,} answered; {mine:.1f} kB a call at the client, {theirs:.1f} kB at the server"
    # Few calls weigh less than the buffers that the first of them need.
    reached = answered == number and (length.short or max(mine, theirs) <= 4.1)
    return Row("hold_calls", "all, 4 kB a call and side", seen, number - answered, reached)
