"""Cases of frames that are sent to servers, and the builders of their frames and answers."""

from dataclasses import dataclass
from typing import Any

from tests.ztrace.rpc.conformance.raw import Event, pack

#: A request, as a frame or as all the frames of a message, and later events of the channel
Messages = tuple[bytes | tuple[bytes, ...], *tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class Case:
    """One case, which `docs/reference/rpc-conformance.md` has a row for if the answers differ.

    Attributes:
        name: of the case, as the page has it.
        sent: messages to send.
        answers: events that zerorpc 0.6.3 answers, heartbeats aside.
        ours: events that ztrace.rpc answers, where they differ.
    """

    name: str
    sent: Messages
    answers: tuple[Event, ...]
    ours: tuple[Event, ...] | None = None


def request(name: object, args: object, message_id: object = "1", **header: object) -> bytes:
    """Return the frame of a request of version 3, with further keys in its header."""
    return pack({"message_id": message_id, "v": 3, **header}, name, args)


def later(name: str, args: object, channel: object) -> bytes:
    """Return the frame of a later event of a channel."""
    return pack({"message_id": "2", "v": 3, "response_to": channel}, name, args)


def ok(value: Any, channel: object = "1") -> Event:
    """Return the event of a result."""
    return Event(channel, "OK", [value])


def err(kind: str, message: str, channel: object = "1") -> Event:
    """Return the event of an error, with the last line of its traceback."""
    return Event(channel, "ERR", [kind, message, f"{kind}: {message}"])


def item(value: Any, channel: object) -> Event:
    """Return the event of an item of a stream."""
    return Event(channel, "STREAM", value)


def done(channel: object) -> Event:
    """Return the event of the end of a stream."""
    return Event(channel, "STREAM_DONE", None)


def refusal(message: str) -> Event:
    """Return the event with which ztrace.rpc refuses a message."""
    return err("ProtocolError", message)


def with_args(packed: bytes) -> bytes:
    """Return a request of `echo` whose arguments are packed by hand."""
    return request("echo", [])[:-1] + packed
