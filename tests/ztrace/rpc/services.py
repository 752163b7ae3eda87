"""Services that the tests of the RPC serve and call."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

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
