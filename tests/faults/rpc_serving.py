"""Servers and clients of the faults of RPC, each in its own process.

    python -m tests.faults.rpc_serving serve ENDPOINT DELAY_S BEAT_S
    python -m tests.faults.rpc_serving hold ENDPOINT CALLS

One idea: a service tells its own memory and counts as methods, so a fault needs nothing but calls to see what
it has cost.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.ztrace.programs import ROOT
from ztrace import rpc

#: Period of heartbeats at both ends, so that a lost peer is not noticed by them within a fault's target.
BEAT_S = 60.0
#: Address of a free port
FREE = "tcp://127.0.0.1:*"


class Service:
    """Service of all faults.

    Args:
        delay_s: of each `work`.
    """

    def __init__(self, delay_s: float = 0.0) -> None:
        self.server_counts: Counter[str] = Counter()
        self._delay_s = delay_s
        self._held = 0
        self._released = asyncio.Event()

    @rpc.inline
    def pid(self) -> int:
        """Return the process's id."""
        return os.getpid()

    @rpc.inline
    def resident(self) -> int:
        """Return the resident memory of the process, in bytes."""
        return resident(os.getpid())

    @rpc.inline
    def counts(self) -> dict[str, int]:
        """Return the server's own counts."""
        return dict(self.server_counts)

    async def echo(self, value: Any) -> Any:
        """Return the value."""
        return value

    async def work(self) -> int:
        """Return the process's id, after the delay of this server."""
        await asyncio.sleep(self._delay_s)
        return os.getpid()

    async def hold(self) -> None:
        """Wait until `release` is called."""
        self._held += 1
        try:
            await self._released.wait()
        finally:
            self._held -= 1

    @rpc.inline
    def held(self) -> int:
        """Return the number of calls that wait."""
        return self._held

    async def release(self) -> None:
        """End all calls of `hold`."""
        self._released.set()

    def block(self, seconds: float) -> float:
        """Block a thread of the pool."""
        time.sleep(seconds)
        return seconds

    async def spin(self, seconds: float) -> float:
        """Block the event loop."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            pass
        return seconds

    async def pass_on(self, *addresses: str) -> list[float | None]:
        """Hold through servers at other addresses; return how much time each had, if they are released."""
        serving = rpc.current_call()
        assert serving is not None
        left = serving.remaining_s
        if not addresses:
            await self.hold()
            return [left]
        async with rpc.AsyncClient(addresses[0], heartbeat_s=BEAT_S) as client:
            return [left, *await client.pass_on(*addresses[1:])]


def resident(process_id: int) -> int:
    """Return the resident memory of a process, in bytes."""
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def running(*arguments: object) -> "Iterator[tuple[subprocess.Popen[str], str]]":
    """Run this module; yield its process and its first line, and kill the process at the end."""
    command = [sys.executable, "-m", "tests.faults.rpc_serving", *map(str, arguments)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@contextmanager
def serving(
    endpoint: str = FREE, delay_s: float = 0.0, beat_s: float = BEAT_S
) -> "Iterator[tuple[subprocess.Popen[str], str]]":
    """Serve in a process of its own; yield the process and the address."""
    with running("serve", endpoint, delay_s, beat_s) as found:
        yield found


async def _serve(endpoint: str, delay_s: float, beat_s: float) -> None:
    service = Service(delay_s)
    server = rpc.Server(service, endpoint, heartbeat_s=beat_s).start()
    service.server_counts = server.counts
    print(server.endpoints[0], flush=True)
    await server.run()


async def _hold(endpoint: str, number: int) -> None:
    """Hold calls open; print the memory that they take, and how many were answered after the release."""
    async with rpc.AsyncClient(endpoint, timeout_s=None, heartbeat_s=BEAT_S) as client:
        await client.echo(None)
        before = resident(os.getpid())
        calls = [asyncio.ensure_future(_await(client.hold())) for _ in range(number)]
        while await client.held() < number:
            pass
        print(resident(os.getpid()) - before, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        print(sum(result is None for result in await asyncio.gather(*calls)), flush=True)


async def _await(call: Any) -> Any:
    return await call


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", endpoint, delay_s, beat_s]:
            asyncio.run(_serve(endpoint, float(delay_s), float(beat_s)))
        case ["hold", endpoint, number]:
            asyncio.run(_hold(endpoint, int(number)))
