"""Items of a stream that go to a client of ztrace in one event, which costs far less than one event each."""

from collections.abc import Callable
from typing import Final

from ztrace.rpc import wire
from ztrace.rpc.core.results import unsendable

#: Most items of one event, and bytes after which the event is not kept for more.
MAX_ITEMS: Final = 64
MAX_BYTES: Final = 32 << 10
_PACKED_NAME: Final = wire.make_packer()(wire.ITEMS)


class Batch:
    """Packed items that wait to be sent."""

    __slots__ = ("_items", "_size")

    def __init__(self) -> None:
        self._items: list[bytes] = []
        self._size = 0

    def __len__(self) -> int:
        return len(self._items)

    def pack(self, name: str, item: object, pack: Callable[[object], bytes]) -> bytes:
        """Pack an item of the stream of a method.

        Raises:
            TypeError: the item cannot be sent.
        """
        try:
            packed = pack(item)
        except Exception:
            raise unsendable(name, item, "an item") from None
        if len(packed) > wire.MAX_MESSAGE - MAX_BYTES:
            raise wire.refuse_size(f"an item of {name}", packed)
        return packed

    def add(self, packed: bytes) -> bool:
        """Add a packed item; return whether the items are to be sent without waiting for more."""
        self._items.append(packed)
        self._size += len(packed)
        return len(self._items) >= MAX_ITEMS or self._size >= MAX_BYTES

    def take(self, header: bytes) -> bytes:
        """Return an event with all items, and empty the batch."""
        items, self._items, self._size = self._items, [], 0
        length = b"\xdc" + len(items).to_bytes(2, "big")
        return b"".join((b"\x93", header, _PACKED_NAME, length, *items))
