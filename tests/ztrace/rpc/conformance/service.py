"""Service of the conformance tests, with methods of every kind; a server of either library has it."""

from collections.abc import Iterator
from typing import Any


class Service:
    """Methods that answer, fail, stream, and return what no peer can read."""

    def echo(self, value: Any = None) -> Any:
        """Return the argument."""
        return value

    def add(self, first: int, second: int = 2) -> int:
        """Add two numbers."""
        return first + second

    def depth(self, value: Any) -> int:
        """Return how many lists of one element are within another."""
        depth = 0
        while isinstance(value, list):
            depth, value = depth + 1, value[0]
        return depth

    def fail(self, message: str) -> None:
        """Raise a ValueError."""
        raise ValueError(message)

    def pair(self) -> tuple[int, int]:
        """Return a tuple."""
        return 1, 2

    def keyed(self) -> dict[int, str]:
        """Return a dict with an integer as a key."""
        return {1: "one"}

    def unpackable(self) -> object:
        """Return an object that has no form on the wire."""
        return object()

    def count(self, end: int) -> Iterator[int]:
        """Yield the numbers from 0."""
        yield from range(end)

    def count_and_fail(self, end: int) -> Iterator[int]:
        """Yield the numbers from 0, and raise a ValueError."""
        yield from range(end)
        raise ValueError("at the end")
