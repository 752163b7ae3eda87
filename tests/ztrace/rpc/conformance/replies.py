"""Frames that answer a client, and what zerorpc 0.6.3 and, where it differs, ztrace.rpc make of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack

from tests.ztrace.rpc.conformance.raw import HEARTBEAT, pack

#: Replaced in a header by the id of the request
ID = object()

#: Frame of a reply, made from the id of the request
Reply = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Case:
    """One case, which `docs/reference/rpc-conformance.md` has a row for if the outcomes differ.

    Attributes:
        name: of the case, as the page has it.
        replies: frames to send for a request.
        outcome: of the call by zerorpc 0.6.3, as `call.py` prints it.
        ours: outcome by ztrace.rpc, where it differs.
    """

    name: str
    replies: tuple[Reply, ...]
    outcome: list[Any]
    ours: list[Any] | None = None


def reply(name: object, args: object, **changes: object) -> Reply:
    """Return what makes a reply of version 3, with keys of its header added or replaced."""

    def make(message_id: bytes) -> bytes:
        header = {"message_id": b"r", "v": 3, "response_to": message_id, **changes}
        return pack(
            {key: message_id.decode() if value is ID else value for key, value in header.items()}, name, args
        )

    return make


def _bytes(frame: bytes) -> Reply:
    return lambda message_id: frame


_RESULT = reply("OK", ["x"])
_TRACEBACK = "Traceback (most recent call last):\nValueError: x\n"
#: Outcome of a call of zerorpc whose replies settle nothing
EXPIRED = ["raised", ["TimeoutExpired"]]

CASES = (
    Case("result", (_RESULT,), ["returned", "x"]),
    Case("result of nil", (reply("OK", [None]),), ["returned", None]),
    Case("two results", (_RESULT, reply("OK", ["y"])), ["returned", "x"]),
    Case("result of two values", (reply("OK", ["x", "y"]),), ["returned", "x"]),
    Case("heartbeat before the result", (reply(HEARTBEAT, [0]), _RESULT), ["returned", "x"]),
    Case("heartbeat of nil", (reply(HEARTBEAT, None), _RESULT), ["returned", "x"]),
    Case("grant before the result", (reply("_zpc_more", [10]), _RESULT), ["returned", "x"]),
    Case("unknown keys", (reply("OK", ["x"], zt={"v": 1}, origin="00"),), ["returned", "x"]),
    Case("reply without id", (lambda message_id: _headless(message_id),), ["returned", "x"]),
    Case("reply of version 1", (reply("OK", ["x"], v=1),), ["returned", "x"]),
    Case(
        "error",
        (reply("ERR", ["ValueError", "x", _TRACEBACK]),),
        ["raised", ["RemoteError", "ValueError", "x"]],
    ),
    Case(
        "error of version 1",
        (reply("ERR", ["ValueError('x')"], v=1),),
        ["raised", ["RemoteError", "RemoteError", "ValueError('x')"]],
    ),
    Case(
        "error without traceback",
        (reply("ERR", ["ValueError", "x", None]),),
        ["raised", ["RemoteError", "ValueError", "x"]],
    ),
    Case(
        "stream",
        (reply("STREAM", 0), reply("STREAM", 1), reply("STREAM_DONE", None)),
        ["streamed", [0, 1], None],
    ),
    Case("stream as of Node.js", (reply("STREAM", 0), reply("STREAM_DONE", [])), ["streamed", [0], None]),
    Case("empty stream", (reply("STREAM_DONE", None),), ["streamed", [], None]),
    Case(
        "error late in a stream",
        (reply("STREAM", 0), reply("ERR", ["ValueError", "x", _TRACEBACK])),
        ["streamed", [0], ["RemoteError", "ValueError", "x"]],
    ),
    Case("result late in a stream", (reply("STREAM", 0), _RESULT), ["streamed", [0], None]),
    Case("response to another id", (reply("OK", ["y"], response_to=b"other"), _RESULT), ["returned", "x"]),
    Case(
        "response to an id of another type", (reply("OK", ["y"], response_to=ID), _RESULT), ["returned", "x"]
    ),
    Case(
        "rubbish before the result",
        (_bytes(b"\xc1"), _bytes(b""), _bytes(msgpack.packb([1])), _RESULT),
        ["returned", "x"],
    ),
    Case(
        "unknown event", (reply("nope", [0]), _RESULT), ["raised", ["RuntimeError"]], ours=["returned", "x"]
    ),
    Case(
        "error of two",
        (reply("ERR", ["ValueError", "x"]),),
        ["raised", ["ValueError"]],
        ours=["raised", ["RemoteError", "RemoteError", "ValueError"]],
    ),
    Case(
        "error of nil", (reply("ERR", None),), ["raised", ["TypeError"]], ours=["raised", ["ProtocolError"]]
    ),
    Case(
        "result of no value",
        (reply("OK", []),),
        ["raised", ["IndexError"]],
        ours=["raised", ["ProtocolError"]],
    ),
    Case(
        "result of nil in place of a list",
        (reply("OK", None),),
        ["raised", ["TypeError"]],
        ours=["raised", ["ProtocolError"]],
    ),
    Case("result has an int key", (reply("OK", [{1: "one"}]),), EXPIRED, ours=["returned", {"1": "one"}]),
)


def _headless(message_id: bytes) -> bytes:
    return pack({"v": 3, "response_to": message_id}, "OK", ["x"])
