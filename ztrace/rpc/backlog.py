"""Messages that wait for peers without room, one queue a peer: a paused one holds nobody else up."""

from collections import OrderedDict
from collections.abc import Sequence


class Backlog:
    """Queues of messages by the first frame, which is the peer's identity, or empty for a client's server.

    Args:
        max_bytes: kept for one peer; None is unlimited.
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        self._queues: dict[bytes, OrderedDict[int, Sequence[bytes]]] = {}
        self._bytes: dict[bytes, int] = {}
        self._max_bytes = max_bytes

    def __bool__(self) -> bool:
        return bool(self._queues)

    def holds(self, peer: bytes) -> bool:
        """Return whether messages for a peer are kept, behind which others have to wait."""
        return peer in self._queues

    def add(self, frames: Sequence[bytes]) -> bool:
        """Keep a message; return False if the peer's queue is full."""
        peer = frames[0]
        size = self._bytes.get(peer, 0) + len(frames[-1])
        if self._max_bytes is not None and size > self._max_bytes:
            return False
        self._queues.setdefault(peer, OrderedDict())[id(frames)] = frames
        self._bytes[peer] = size
        return True

    def peers(self) -> list[bytes]:
        """Return the peers for which messages are kept."""
        return list(self._queues)

    def first(self, peer: bytes) -> Sequence[bytes] | None:
        """Return a peer's oldest message, None if there is none."""
        queue = self._queues.get(peer)
        return None if queue is None else next(iter(queue.values()))

    def discard(self, frames: Sequence[bytes]) -> bool:
        """Take a message out; return False if it is not kept."""
        peer = frames[0]
        queue = self._queues.get(peer)
        if queue is None or queue.pop(id(frames), None) is None:
            return False
        if queue:
            self._bytes[peer] -= len(frames[-1])
        else:
            del self._queues[peer], self._bytes[peer]
        return True
