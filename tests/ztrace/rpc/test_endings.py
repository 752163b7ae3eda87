"""Last messages of servers, queues and pushers, just before they end."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import msgpack
import pytest
import zmq

from tests.ztrace.programs import started_program
from tests.ztrace.rpc.services import FREE
from tests.ztrace.waiting import DEADLINE_S
from ztrace import rpc
from ztrace.rpc.aio import serving

#: Bytes that no buffer of a connection holds.
LARGE = 30_000_000
#: Start of a program whose sockets have all the time to send what is left.
PATIENT = """
import asyncio, sys
from ztrace import rpc
from ztrace.rpc import sockets
from ztrace.rpc.messaging import sending
from ztrace.rpc.queueing import port
sockets.LINGER_MS = sending.LINGER_MS = port.LINGER_MS = 60_000
large = b"x" * int(sys.argv[1])
"""
#: Server that closes once a call is answered.
SERVER = """
async def main():
    server = rpc.Server({"get": rpc.inline(lambda: large)}, "tcp://127.0.0.1:*", heartbeat_s=None).start()
    print("\\n" + server.endpoints[0], flush=True)
    while not server.counts["answered"]:
        await asyncio.sleep(0.001)
    server.close()

asyncio.run(main())
"""
#: Socket of a queue that closes once a request is answered.
QUEUE = """
way = port.Port("tcp://127.0.0.1:*", None, print)
print("\\n" + way.endpoint, flush=True)
while not (requests := list(way.receive())):
    pass
for route, data in requests:
    way.reply(route, {"response_to": "1"}, "OK", [large])
way.close()
"""
#: Pusher that closes with a message.
PUSHER = """
with rpc.Pusher(bind="tcp://127.0.0.1:*") as pusher:
    print("\\n" + pusher._socket.get_string(32), flush=True)
    pusher.note(large)
"""


class Clock:
    """Clock that stands still, and counts how often it was read."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.reads = 0

    def monotonic(self) -> float:
        """Return the time."""
        self.reads += 1
        return self.now_s


async def _answer_of(call: Awaitable[Any]) -> Any:
    return await call


def test_connections_stay_after_the_last_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A draining server keeps its connections until clients could read the last answer or refusal."""
    clock = Clock()
    monkeypatch.setattr(serving, "time", clock)

    async def run() -> None:
        release = asyncio.Event()

        async def wait() -> str:
            await release.wait()
            return "last"

        async def turn() -> None:
            """Wait until the draining server has looked at the clock again, several times."""
            reads = clock.reads + 5
            while clock.reads < reads and not draining.done():
                await asyncio.sleep(0)

        server = rpc.Server({"wait": wait}, FREE, heartbeat_s=None, grace_s=3600).start()
        async with rpc.AsyncClient(*server.endpoints, heartbeat_s=None, timeout_s=None) as client:
            call = asyncio.ensure_future(_answer_of(client.call("wait")))
            while not server.counts["calls"]:
                await asyncio.sleep(0)
            draining = asyncio.ensure_future(server.drain())
            clock.now_s += 100
            await turn()
            release.set()
            while not server.counts["answered"]:
                await asyncio.sleep(0)
            await turn()
            clock.now_s += serving.READING_S * 0.9
            await turn()
            assert not draining.done()
            assert await call == "last"
            refused = asyncio.ensure_future(_answer_of(client.call("wait")))
            while not server.counts["failed"]:
                await asyncio.sleep(0)
            await turn()
            clock.now_s += serving.READING_S * 0.9
            await turn()
            assert not draining.done()
            clock.now_s += serving.READING_S * 0.2
            await draining
            assert not refused.done()
        with pytest.raises(rpc.PeerLost, match="closed"):
            await refused

    asyncio.run(asyncio.wait_for(run(), DEADLINE_S))


@pytest.mark.process
@pytest.mark.parametrize(
    ("program", "kind"),
    [(SERVER, zmq.DEALER), (QUEUE, zmq.DEALER), (PUSHER, zmq.PULL)],
    ids=["server", "queue", "pusher"],
)
def test_a_process_ends_after_its_last_message(program: str, kind: int) -> None:
    """What a server, a queue or a pusher sends before its process ends arrives whole."""
    with started_program(PATIENT + program, str(LARGE)) as process, zmq.Context() as context:
        assert process.stdout is not None
        assert process.stderr is not None
        with context.socket(kind) as socket:
            socket.linger = 0
            socket.connect(process.stdout.readline().strip())
            if kind == zmq.DEALER:
                socket.send_multipart([b"", msgpack.packb([{"message_id": "1", "v": 3}, "get", []])])
            assert socket.poll(int(DEADLINE_S * 1000)), process.stderr.read()
            assert len(socket.recv_multipart()[-1]) > LARGE
        assert process.wait(DEADLINE_S) == 0
        assert process.stderr.read() == ""
