"""Messages beyond the size that a peer accepts: refused by the sender, and no end of a connection."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.ztrace.rpc.services import FREE, answering
from ztrace import rpc
from ztrace.rpc import wire
from ztrace.rpc.aio import link as aio_link
from ztrace.rpc.blocking import link as blocking_link

#: Limit of the tests' messages, in bytes.
LIMIT = 1_000_000


@pytest.fixture(autouse=True)
def _limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_MESSAGE", LIMIT)


class Storage:
    """Service of data of any size."""

    def get(self, size: int) -> bytes:
        """Return data."""
        return bytes(size)

    async def get_later(self, size: int) -> bytes:
        """Return data from the event loop."""
        return bytes(size)

    def parts(self, *sizes: int) -> Iterator[bytes]:
        """Yield data."""
        for size in sizes:
            yield bytes(size)

    def put(self, data: bytes) -> int:
        """Return the size of data."""
        return len(data)

    def fail(self, size: int) -> None:
        """Raise an exception with a long text."""
        raise ValueError("x" * size)


def test_messages_beyond_the_limit_fail_their_call_alone() -> None:
    """A result, an item or arguments that are too large fail the call, with the limit, and no other call."""
    with rpc.Server(Storage, FREE) as server, rpc.Client(*server.endpoints) as storage:
        for name in ("get", "get_later"):
            with pytest.raises(rpc.RemoteError, match=f"the result of {name} cannot be sent"):
                storage.call(name, LIMIT)
        parts = storage.parts(10, LIMIT)
        assert next(parts) == bytes(10)
        with pytest.raises(rpc.RemoteError, match="an item of parts cannot be sent"):
            next(parts)
        with pytest.raises(TypeError, match="the arguments of put cannot be sent"):
            storage.put(bytes(LIMIT))
        with pytest.raises(rpc.RemoteError, match="ValueError: xxx"):
            storage.fail(LIMIT)
        assert storage.put(bytes(LIMIT // 2)) == LIMIT // 2
        assert server.counts["calls"] == server.counts["answered"] + server.counts["failed"]


def test_jobs_and_messages_beyond_the_limit_are_refused() -> None:
    """A job or message that is too large is refused when it is sent, and such a result fails its job."""
    with rpc.Queue("tcp://127.0.0.1:0") as queue, rpc.Worker(Storage, queue.endpoint):
        with pytest.raises(TypeError, match="put cannot be sent"):
            queue.put("put", bytes(LIMIT))
        job = queue.options(max_attempts=1).put("get", LIMIT)
        with pytest.raises(rpc.RemoteError, match="the result of get cannot be sent"):
            job.result(timeout_s=30)
        assert queue.put("put", bytes(10)).result(timeout_s=30) == 10
    with (
        rpc.Pusher(bind="tcp://127.0.0.1:*", timeout_s=0) as pusher,
        pytest.raises(TypeError, match="put cannot be sent"),
    ):
        pusher.put(bytes(LIMIT))


def test_a_client_connects_again_after_an_answer_beyond_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is too large loses the connection, which libzmq does not open again by itself."""
    for module in (aio_link, blocking_link):
        monkeypatch.setattr(module, "REVIVE_S", 0.05)

    async def ask(client: Any) -> None:
        async with client:
            with pytest.raises(rpc.PeerLost):
                await client.get(LIMIT)
            assert await client.get(10) == bytes(10)

    # The size that is asked for, without a limit.
    with answering(lambda name, args: bytes(args[0]) if args[0] else None) as address:
        with rpc.Client(address, heartbeat_s=None) as client:
            with pytest.raises(rpc.PeerLost):
                client.get(LIMIT)
            assert client.get(10) == bytes(10)
        asyncio.run(ask(rpc.AsyncClient(address, heartbeat_s=None)))
