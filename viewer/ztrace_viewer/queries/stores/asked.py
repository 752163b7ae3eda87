"""Questions about requests for profiles that a store answers, and the rows of the answers."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol


class AskedRow(NamedTuple):
    """A process that a request is for, with its samples and its last answer, None without one."""

    state: str
    last_seen_ns: int
    samples: int
    answer: int | None


class Asked(Protocol):
    """Questions about requests for profiles."""

    def request_sent(self, nonce: bytes) -> int | None:
        """Return when a request was first sent to publishers, None before."""
        ...

    def asked_processes(self, nonce: bytes, service: str) -> Iterable[AskedRow]:
        """Return the processes of a service, or of all if empty, that are live or have answered."""
        ...
