"""Frames that are sent to servers, and the answers of zerorpc 0.6.3 and, where they differ, of ztrace.rpc."""

import inspect
from dataclasses import dataclass
from typing import Any

import msgpack

from tests.ztrace.rpc.conformance.raw import Event, pack
from tests.ztrace.rpc.conformance.service import Service

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


def _refusal(message: str) -> Event:
    """Return the event with which ztrace.rpc refuses a message."""
    return err("ProtocolError", message)


def _with_args(packed: bytes) -> bytes:
    """Return a request of `echo` whose arguments are packed by hand."""
    return request("echo", [])[:-1] + packed


_UNPACKABLE = err("TypeError", "can not serialize 'object' object")
_AT_END = "at the end"
_NO_ARGSPEC = err("AttributeError", "module 'inspect' has no attribute 'getargspec'")

_METHODS = {
    name: {
        "args": [
            {"name": each.name}
            if each.default is each.empty
            else {"name": each.name, "default": each.default}
            for each in list(inspect.signature(method).parameters.values())[1:]
        ],
        "doc": method.__doc__,
    }
    for name, method in sorted(vars(Service).items())
    if inspect.isfunction(method)
}

CASES = (
    # Identifiers and versions
    Case("id is bin", (request("add", [1, 5], b"1"),), (ok(6, b"1"),)),
    Case("id is str", (request("add", [1, 5]),), (ok(6),)),
    Case("id is int", (request("add", [1, 5], 7),), (ok(6, 7),)),
    Case("id is nil", (request("add", [1, 5], None),), (ok(6, None),), ours=()),
    Case("id is a list", (request("add", [1, 5], [1]),), ()),
    Case("no id", (pack({"v": 3}, "echo", ["x"]),), ()),
    Case("no version", (pack({"message_id": "1"}, "add", [1]),), (ok(3),)),
    Case(
        "error without version",
        (pack({"message_id": "1"}, "fail", ["x"]),),
        (Event("1", "ERR", ["ValueError('x')"]),),
    ),
    Case("error to version 1", (request("fail", ["x"], v=1),), (Event("1", "ERR", ["ValueError('x')"]),)),
    Case("error to version 2", (request("fail", ["x"], v=2),), (err("ValueError", "x"),)),
    Case("error to version 3", (request("fail", ["x"]),), (err("ValueError", "x"),)),
    Case("error to version 4", (request("fail", ["x"], v=4),), (err("ValueError", "x"),)),
    Case("version is a str", (request("echo", ["x"], v="3"),), (), ours=(ok("x"),)),
    # Methods
    Case("unknown method", (request("nope", ["x"]),), (err("NameError", "nope"),)),
    Case(
        "method is bin",
        (request(b"echo", ["x"]),),
        (err("NameError", "b'echo'"),),
        ours=(_refusal("the name is a bytes, not text"),),
    ),
    Case(
        "method is int",
        (request(3, ["x"]),),
        (err("NameError", "3"),),
        ours=(_refusal("the name is a int, not text"),),
    ),
    Case(
        "method is nil",
        (request(None, ["x"]),),
        (err("NameError", "None"),),
        ours=(_refusal("the name is a NoneType, not text"),),
    ),
    Case(
        "method is a list",
        (request(["echo"], ["x"]),),
        (err("TypeError", "unhashable type: 'list'"),),
        ours=(_refusal("the name is a list, not text"),),
    ),
    Case("private method", (request("__init__", []),), (err("NameError", "__init__"),)),
    Case(
        "_zt_call",
        (request("_zt_call", ["add", [1], {"second": 5}]),),
        (err("NameError", "_zt_call"),),
        ours=(ok(6),),
    ),
    # Headers
    Case("unknown keys", (request("echo", ["x"], zt={"ms": [1]}, traceparent="00-"),), (ok("x"),)),
    Case("kwargs in the header", (request("add", [1], kwargs={"second": 4}),), (ok(3),)),
    Case(
        "header key is int",
        (msgpack.packb([{"message_id": "1", "v": 3, 1: 2}, "echo", ["x"]]),),
        (),
        ours=(ok("x"),),
    ),
    Case("header is a list", (msgpack.packb([["1"], "echo", ["x"]]),), ()),
    Case("response to no channel", (later("_zpc_hb", [0], "none"),), ()),
    Case("result for no channel", (later("OK", ["x"], "none"),), ()),
    # Arguments and results
    Case("tuple", (request("pair", []),), (ok([1, 2]),)),
    Case("no arguments", (request("echo", []),), (ok(None),)),
    Case(
        "too many arguments",
        (request("add", [1, 2, 3]),),
        (err("TypeError", "Service.add() takes from 2 to 3 positional arguments but 4 were given"),),
        ours=(err("TypeError", "add(first: int, second: int = 2) -> int: too many positional arguments"),),
    ),
    Case(
        "arguments are nil",
        (request("echo", None),),
        (
            err(
                "TypeError",
                "<zerorpc.decorators.rep object at 0x…> argument after * must be an iterable, not NoneType",
            ),
        ),
        ours=(_refusal("the arguments are a NoneType, not an array"),),
    ),
    Case(
        "arguments are int",
        (request("echo", 4),),
        (
            err(
                "TypeError",
                "<zerorpc.decorators.rep object at 0x…> argument after * must be an iterable, not int",
            ),
        ),
        ours=(_refusal("the arguments are a int, not an array"),),
    ),
    Case(
        "arguments are a map",
        (request("echo", {"value": 3}),),
        (ok("value"),),
        ours=(_refusal("the arguments are a dict, not an array"),),
    ),
    Case(
        "arguments are str",
        (request("echo", "x"),),
        (ok("x"),),
        ours=(_refusal("the arguments are a str, not an array"),),
    ),
    Case(
        "arguments are bin",
        (request("echo", b"x"),),
        (ok(120),),
        ours=(_refusal("the arguments are a bytes, not an array"),),
    ),
    Case("argument has an int key", (request("echo", [{1: 2}]),), (), ours=(ok({1: 2}),)),
    Case("result has an int key", (request("keyed", []),), (ok({1: "one"}),)),
    Case(
        "result has no form",
        (request("unpackable", []),),
        (_UNPACKABLE,),
        ours=(err("TypeError", "the result of unpackable cannot be sent: a object"),),
    ),
    Case("integer of 64 bits", (request("echo", [2**64 - 1]),), (ok(2**64 - 1),)),
    Case(
        "extension type",
        (_with_args(b"\x91" + msgpack.packb(msgpack.ExtType(5, b"x"))),),
        (ok(msgpack.ExtType(5, b"x")),),
    ),
    Case(
        "timestamp",
        (_with_args(b"\x91" + msgpack.packb(msgpack.Timestamp(1, 0))),),
        (ok(msgpack.Timestamp(1, 0)),),
    ),
    Case(
        "invalid UTF-8",
        (_with_args(b"\x91\xa1\xff"),),
        (),
        ours=(_refusal("the message cannot be read: its text is not UTF-8"),),
    ),
    Case("60 nested lists", (request("depth", [])[:-1] + b"\x91" * 61 + b"\xc0",), (ok(60),)),
    Case("1000 nested lists", (request("depth", [])[:-1] + b"\x91" * 1001 + b"\xc0",), (ok(1000),)),
    Case(
        "5000 nested lists",
        (request("depth", [])[:-1] + b"\x91" * 5001 + b"\xc0",),
        (),
        ours=(_refusal("the message cannot be read: it is nested too deep"),),
    ),
    # Events
    Case(
        "event of two",
        (msgpack.packb([{"message_id": "1", "v": 3}, "echo"]),),
        (),
        ours=(_refusal("an event is an array of header, name and arguments"),),
    ),
    Case(
        "event of four",
        (msgpack.packb([{"message_id": "1", "v": 3}, "echo", ["x"], 1]),),
        (),
        ours=(_refusal("an event is an array of header, name and arguments"),),
    ),
    Case("event is a map", (msgpack.packb({"message_id": "1"}),), ()),
    Case("event is int", (msgpack.packb(1),), ()),
    Case(
        "truncated event",
        (request("echo", ["x" * 50])[:-10],),
        (),
        ours=(_refusal("the message cannot be read: it is incomplete or damaged"),),
    ),
    Case("unused byte of msgpack", (b"\xc1",), ()),
    Case(
        "rubbish behind the event",
        (request("echo", ["x"]) + b"\xc1\xc1",),
        (ok("x"),),
        ours=(_refusal("the message cannot be read: there is more behind the event"),),
    ),
    Case(
        "two events in a frame",
        (request("echo", ["x"]) + request("echo", ["y"], "2"),),
        (ok("x"),),
        ours=(_refusal("the message cannot be read: there is more behind the event"),),
    ),
    # Frames
    Case("empty frame", (b"",), ()),
    Case("no delimiter", ((request("echo", ["x"]),),), (ok("x"),)),
    Case("two delimiters", ((b"", b"", request("echo", ["x"])),), (ok("x"),)),
    Case("frame behind the event", ((b"", request("echo", ["x"]), b"more"),), ()),
    Case("delimiter alone", ((b"",),), ()),
    # Streams
    Case("empty stream", (request("count", [0], "s1"),), (done("s1"),)),
    Case("stream without a grant", (request("count", [3], "s2"),), (item(0, "s2"),)),
    Case(
        "stream with a grant",
        (request("count", [3], "s3"), later("_zpc_more", [10], "s3")),
        (item(0, "s3"), item(1, "s3"), item(2, "s3"), done("s3")),
    ),
    Case(
        "stream with two small grants",
        (request("count", [4], "s4"), later("_zpc_more", [1], "s4"), later("_zpc_more", [1], "s4")),
        (item(0, "s4"), item(1, "s4"), item(2, "s4")),
    ),
    Case(
        "error late in a stream",
        (request("count_and_fail", [2], "s5"), later("_zpc_more", [10], "s5")),
        (item(0, "s5"), item(1, "s5"), err("ValueError", _AT_END, "s5")),
    ),
    Case(
        "error in place of a stream",
        (request("count_and_fail", [0], "s6"),),
        (err("ValueError", _AT_END, "s6"),),
    ),
    Case(
        "grant by an id of another type",
        (request("count", [3], b"s7"), later("_zpc_more", [10], "s7")),
        (item(0, b"s7"),),
    ),
    Case(
        "grant of nil",
        (request("count", [2], "s8"), later("_zpc_more", None, "s8")),
        (item(0, "s8"),),
    ),
    Case(
        "negative grant",
        (request("count", [3], "s9"), later("_zpc_more", [-5], "s9"), later("_zpc_more", [7], "s9")),
        (item(0, "s9"), item(1, "s9"), item(2, "s9")),
        ours=(item(0, "s9"), item(1, "s9"), item(2, "s9"), done("s9")),
    ),
    Case(
        "heartbeat of nil",
        (request("count", [2], "s10"), later("_zpc_hb", None, "s10"), later("_zpc_more", [7], "s10")),
        (item(0, "s10"), item(1, "s10"), done("s10")),
    ),
    Case(
        "unknown event on a channel",
        (request("count", [2], "s11"), later("nope", [0], "s11"), later("_zpc_more", [7], "s11")),
        (item(0, "s11"), item(1, "s11"), done("s11")),
    ),
    Case(
        "_zt_cancel on a channel",
        (request("count", [2], "s12"), later("_zt_cancel", None, "s12"), later("_zpc_more", [7], "s12")),
        (item(0, "s12"), item(1, "s12"), done("s12")),
        ours=(item(0, "s12"),),
    ),
    Case(
        "heartbeat of version 2 grants",
        (request("count", [2], "s13", v=2), later("_zpc_hb", [7], "s13")),
        (item(0, "s13"), item(1, "s13"), done("s13")),
    ),
    Case(
        "header grants credit",
        (request("count", [2], "s14", zt={"credit": 100}),),
        (item(0, "s14"),),
        ours=(item(0, "s14"), item(1, "s14"), done("s14")),
    ),
    # Built-ins
    Case(
        "_zerorpc_list",
        (request("_zerorpc_list", []),),
        (
            ok(
                [
                    "add",
                    "count",
                    "count_and_fail",
                    "depth",
                    "echo",
                    "fail",
                    "keyed",
                    "pair",
                    "unpackable",
                ]
            ),
        ),
    ),
    Case("_zerorpc_name", (request("_zerorpc_name", []),), (ok("Service"),)),
    Case("_zerorpc_ping", (request("_zerorpc_ping", []),), (ok(["pong", "Service"]),)),
    Case("_zerorpc_help", (request("_zerorpc_help", ["add"]),), (ok("Add two numbers."),)),
    Case("_zerorpc_help of none", (request("_zerorpc_help", ["nope"]),), (err("KeyError", "'nope'"),)),
    Case(
        "_zerorpc_args",
        (request("_zerorpc_args", ["add"]),),
        (_NO_ARGSPEC,),
        ours=(ok([["first", "second"], None, None, [2]]),),
    ),
    Case(
        "_zerorpc_inspect",
        (request("_zerorpc_inspect", []),),
        (_NO_ARGSPEC,),
        ours=(ok({"name": "Service", "methods": _METHODS}),),
    ),
)
