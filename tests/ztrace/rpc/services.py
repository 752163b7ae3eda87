"""Services that the tests of the RPC serve and call."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
import zmq

from ztrace import rpc

#: Address of a free port.
FREE = "tcp://127.0.0.1:*"


class Refused(Exception):
    """Exception of a service's own."""


class Billing:
    """Service with one method of each kind."""

    def charge(self, card: str, amount: int = 1) -> str:
        """Charge a card."""
        return f"{card}:{amount}"

    async def echo(self, value: Any) -> Any:
        """Return the value."""
        return value

    @rpc.inline
    def twice(self, value: Any) -> Any:
        """Return the value twice."""
        return [value, value]

    def count(self, number: int) -> Iterator[int]:
        """Yield numbers in the pool."""
        yield from range(number)

    async def tail(self, number: int) -> AsyncIterator[int]:
        """Yield numbers in the loop."""
        for each in range(number):
            yield each

    async def wait(self) -> None:
        """Wait until cancelled."""
        await asyncio.Event().wait()

    def refuse(self) -> None:
        """Raise an exception with arguments, a note and a cause."""
        try:
            raise KeyError("visa")
        except KeyError as error:
            refused = Refused("no card", 3)
            refused.add_note("ask again")
            raise refused from error


@contextmanager
def answering(answer: Callable[[str, list[Any]], object]) -> Iterator[str]:
    """Yield the address of a bare socket that sends the answers of a function, and none for None.

    So does zerorpc-node to names that it does not know.
    """
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router, context.socket(zmq.PAIR) as ending:
        router.linger = 0
        port = router.bind_to_random_port("tcp://127.0.0.1")
        ending.bind("inproc://ending")

        def run() -> None:
            with context.socket(zmq.PAIR) as end:
                end.connect("inproc://ending")
                poller = zmq.Poller()
                poller.register(router, zmq.POLLIN)
                poller.register(end, zmq.POLLIN)
                while end not in dict(poller.poll()):
                    *route, data = router.recv_multipart()
                    header, name, args = msgpack.unpackb(data)
                    if (value := answer(name, args)) is not None:
                        reply = {"message_id": "1", "v": 3, "response_to": header["message_id"]}
                        router.send_multipart([*route, msgpack.packb([reply, "OK", [value]])])

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{port}"
        finally:
            ending.send(b"")
            thread.join()
