"""Bytes that each service has brought and not had deleted, to choose whose traces make room.

One idea: when the file is full, room is made by the service that took it. Deleting the oldest traces of all
would let one service delete everything of the others by sending. The count starts with the collector: traces
stored before count for no service.
"""

from collections import Counter

#: Services counted one by one; those beyond count together.
MAX_SERVICES = 1_000
#: Name under which services beyond the bound are counted.
OTHERS = ""
#: Bytes in the file of a span beside its texts: its row and its places in the indexes.
SPAN_BYTES = 200


class Brought:
    """Bytes by service."""

    def __init__(self) -> None:
        self._bytes: Counter[str] = Counter()

    def add(self, service: str, byte_count: int, span_count: int) -> None:
        """Count what a service brought."""
        if service not in self._bytes and len(self._bytes) >= MAX_SERVICES:
            service = OTHERS
        self._bytes[service] += byte_count + SPAN_BYTES * span_count

    def heaviest(self) -> str | None:
        """Return the service that has brought the most, None if none has."""
        return max(self._bytes, key=self._bytes.__getitem__, default=None)

    def pay(self, service: str, byte_count: int) -> None:
        """Subtract what was deleted of a service."""
        self._bytes[service] -= byte_count
        if self._bytes[service] <= 0:
            del self._bytes[service]

    def drop(self, service: str) -> None:
        """Forget a service of which no trace is left to delete."""
        self._bytes.pop(service, None)
