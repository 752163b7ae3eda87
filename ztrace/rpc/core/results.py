"""Results of calls as bytes, and the error for what cannot be sent."""

from collections.abc import Callable
from typing import Final

from ztrace.rpc import wire


class Packed(bytes):
    """Result of a call, packed in an array of its own."""

    __slots__ = ()


#: Name of the event of an answer, packed.
PACKED_OK: Final = wire.make_packer()(wire.OK)


def pack_result(name: str, value: object, pack: Callable[[object], bytes]) -> Packed:
    """Pack the result of a method ahead, in another thread than the core's.

    Raises:
        TypeError: the value cannot be sent.
    """
    try:
        return Packed(pack((value,)))
    except Exception:
        raise unsendable(name, value) from None


def unsendable(name: str, value: object, what: str = "the result") -> TypeError:
    """Return the error for a result or an item that cannot be sent, with the place in it."""
    return TypeError(f"{what} of {name} cannot be sent: {wire.find_unpackable(value)}")
