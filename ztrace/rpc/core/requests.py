"""Requests as a server reads them: with keyword arguments, or refused without running a method."""

from collections.abc import Sequence
from typing import Any

from ztrace.rpc import wire
from ztrace.rpc.errors import ProtocolError
from ztrace.rpc.failures import Refused


class ServerClosing(Refused):
    """Call that came while the server was shutting down."""


class ServerBusy(Refused):
    """Call beyond the number that the server takes at once."""


def explain_invalid(frames: Sequence[bytes]) -> tuple[bytes | str | int | None, ProtocolError] | None:
    """Return the id of a request that cannot be served, None if it cannot be answered, and what is wrong.

    Returns:
        None for an event of a call, of which nothing can be made.
    """
    event: Any = None
    try:
        event = wire.unpack(frames[-1])
        wire.check_event(event)
        return None
    except ProtocolError as error:
        header = event[0] if type(event) is list and event else None
        if type(header) is not dict or "response_to" in header:
            return None, error
        return wire.take_id(header), error
    except Exception as error:
        told = ProtocolError(f"the message cannot be read: {wire.explain_unreadable(error)}")
        return wire.read_id(frames[-1]), told


def are_keywords(args: list[Any]) -> bool:
    """Return whether arguments are those of a call with keywords: a name, a list and a map of names."""
    if [type(each) for each in args] != [str, list, dict]:
        return False
    return all(type(key) is str for key in args[2])
