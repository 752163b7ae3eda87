"""Requests to servers, and the answers of zerorpc 0.6.3 and, where they differ, of ztrace.rpc."""

import msgpack

from tests.ztrace.rpc.conformance.cases import Case, err, later, ok, refusal, request, with_args
from tests.ztrace.rpc.conformance.raw import Event, pack

_UNPACKABLE = err("TypeError", "can not serialize 'object' object")
_NO_CALL = (refusal("_zt_call takes a name, a list and a map"),)
_LATE = (err("DeadlineExceeded", "echo: no answer in time: it arrived after its deadline"),)

CASES = (
    # Identifiers and versions
    Case("id is bin", (request("add", [1, 5], b"1"),), (ok(6, b"1"),)),
    Case("id is str", (request("add", [1, 5]),), (ok(6),)),
    Case("id is int", (request("add", [1, 5], 7),), (ok(6, 7),)),
    Case("id is nil", (request("add", [1, 5], None),), (ok(6, None),), ours=()),
    Case("id is a list", (request("add", [1, 5], [1]),), ()),
    Case("id is empty", (request("echo", ["x"], b""),), (ok("x", b""),)),
    Case("id is long", (request("echo", ["x"], b"i" * 5000),), (ok("x", b"i" * 5000),)),
    Case("id is float", (request("echo", ["x"], 1.5),), (ok("x", 1.5),), ours=()),
    Case("id is bool", (request("echo", ["x"], True),), (ok("x", True),), ours=()),
    Case(
        "id is an extension type",
        (request("echo", ["x"], msgpack.ExtType(3, b"a")),),
        (ok("x", msgpack.ExtType(3, b"a")),),
        ours=(),
    ),
    Case("id is a map", (request("echo", ["x"], {"a": 1}),), ()),
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
    Case("error to version 0", (request("fail", ["x"], v=0),), (Event("1", "ERR", ["ValueError('x')"]),)),
    Case("error to version -1", (request("fail", ["x"], v=-1),), (Event("1", "ERR", ["ValueError('x')"]),)),
    Case("error to version 2.5", (request("fail", ["x"], v=2.5),), (err("ValueError", "x"),)),
    Case("version is nil", (request("fail", ["x"], v=None),), (), ours=(err("ValueError", "x"),)),
    Case("version is a list", (request("fail", ["x"], v=[]),), (), ours=(err("ValueError", "x"),)),
    Case(
        "version is bool",
        (request("fail", ["x"], v=True),),
        (Event("1", "ERR", ["ValueError('x')"]),),
        ours=(err("ValueError", "x"),),
    ),
    # Methods
    Case("unknown method", (request("nope", ["x"]),), (err("NameError", "nope"),)),
    Case(
        "method is bin",
        (request(b"echo", ["x"]),),
        (err("NameError", "b'echo'"),),
        ours=(refusal("the name is a bytes, not text"),),
    ),
    Case(
        "method is int",
        (request(3, ["x"]),),
        (err("NameError", "3"),),
        ours=(refusal("the name is a int, not text"),),
    ),
    Case(
        "method is nil",
        (request(None, ["x"]),),
        (err("NameError", "None"),),
        ours=(refusal("the name is a NoneType, not text"),),
    ),
    Case(
        "method is a list",
        (request(["echo"], ["x"]),),
        (err("TypeError", "unhashable type: 'list'"),),
        ours=(refusal("the name is a list, not text"),),
    ),
    Case("private method", (request("__init__", []),), (err("NameError", "__init__"),)),
    Case(
        "_zt_call",
        (request("_zt_call", ["add", [1], {"second": 5}]),),
        (err("NameError", "_zt_call"),),
        ours=(ok(6),),
    ),
    Case("OK as a request", (request("OK", [1]),), (err("NameError", "OK"),)),
    Case(
        "heartbeat as a request",
        (request("_zpc_hb", [0]),),
        (),
        ours=(err("NameError", "_zpc_hb; did you mean _zerorpc_help?"),),
    ),
    Case(
        "grant as a request",
        (request("_zpc_more", [1]),),
        (),
        ours=(err("NameError", "_zpc_more; did you mean _zerorpc_name?"),),
    ),
    Case("_zt_cancel as a request", (request("_zt_cancel", [1]),), (err("NameError", "_zt_cancel"),)),
    Case("method with a zero", (request("f\0", []),), (err("NameError", "f\0"),)),
    Case(
        "misspelled method",
        (request("ecko", []),),
        (err("NameError", "ecko"),),
        ours=(err("NameError", "ecko; did you mean echo?"),),
    ),
    Case(
        "_zt_call with another keyword",
        (request("_zt_call", ["add", [1], {"nope": 5}]),),
        (err("NameError", "_zt_call"),),
        ours=(
            err(
                "TypeError",
                "add(first: int, second: int = 2) -> int: got an unexpected keyword argument 'nope'",
            ),
        ),
    ),
    Case(
        "_zt_call of two",
        (request("_zt_call", ["add", [1]]),),
        (err("NameError", "_zt_call"),),
        ours=_NO_CALL,
    ),
    Case(
        "_zt_call with a list",
        (request("_zt_call", ["add", [1], [2]]),),
        (err("NameError", "_zt_call"),),
        ours=_NO_CALL,
    ),
    Case(
        "_zt_call of an int",
        (request("_zt_call", [3, [1], {}]),),
        (err("NameError", "_zt_call"),),
        ours=_NO_CALL,
    ),
    Case("_zt_call with an int key", (request("_zt_call", ["add", [1], {1: 2}]),), (), ours=_NO_CALL),
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
    Case("zt is a list", (request("echo", ["x"], zt=[1]),), (ok("x"),)),
    Case("no time left", (request("echo", ["x"], zt={"ms": 0}),), (ok("x"),), ours=_LATE),
    Case("negative time left", (request("echo", ["x"], zt={"ms": -5}),), (ok("x"),), ours=_LATE),
    Case("time left is a str", (request("echo", ["x"], zt={"ms": "x"}),), (ok("x"),)),
    Case("time left is long", (request("echo", ["x"], zt={"ms": 2**63}),), (ok("x"),)),
    Case("traceparent is int", (request("echo", ["x"], traceparent=5),), (ok("x"),)),
    Case("response to nil", (request("echo", ["x"], response_to=None),), (ok("x"),)),
    Case(
        "id given twice",
        (
            b"\x93\x83\xaamessage_id\xa12\xaamessage_id\xa11\xa1v\x03"
            + msgpack.packb("echo")
            + msgpack.packb(["x"]),
        ),
        (ok("x"),),
    ),
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
        ours=(refusal("the arguments are a NoneType, not an array"),),
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
        ours=(refusal("the arguments are a int, not an array"),),
    ),
    Case(
        "arguments are a map",
        (request("echo", {"value": 3}),),
        (ok("value"),),
        ours=(refusal("the arguments are a dict, not an array"),),
    ),
    Case(
        "arguments are str",
        (request("echo", "x"),),
        (ok("x"),),
        ours=(refusal("the arguments are a str, not an array"),),
    ),
    Case(
        "arguments are bin",
        (request("echo", b"x"),),
        (ok(120),),
        ours=(refusal("the arguments are a bytes, not an array"),),
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
        (with_args(b"\x91" + msgpack.packb(msgpack.ExtType(5, b"x"))),),
        (ok(msgpack.ExtType(5, b"x")),),
    ),
    Case(
        "timestamp",
        (with_args(b"\x91" + msgpack.packb(msgpack.Timestamp(1, 0))),),
        (ok(msgpack.Timestamp(1, 0)),),
    ),
    Case("infinity", (request("echo", [float("inf")]),), (ok(float("inf")),)),
    Case("lowest integer", (request("echo", [-(2**63)]),), (ok(-(2**63)),)),
    Case(
        "lone surrogate",
        (with_args(b"\x91\xa3\xed\xa0\x80"),),
        (),
        ours=(refusal("the message cannot be read: its text is not UTF-8"),),
    ),
    Case(
        "invalid UTF-8",
        (with_args(b"\x91\xa1\xff"),),
        (),
        ours=(refusal("the message cannot be read: its text is not UTF-8"),),
    ),
    Case("60 nested lists", (request("depth", [])[:-1] + b"\x91" * 61 + b"\xc0",), (ok(60),)),
    Case("1000 nested lists", (request("depth", [])[:-1] + b"\x91" * 1001 + b"\xc0",), (ok(1000),)),
    Case(
        "5000 nested lists",
        (request("depth", [])[:-1] + b"\x91" * 5001 + b"\xc0",),
        (),
        ours=(refusal("the message cannot be read: it is nested too deep"),),
    ),
    # Events
    Case(
        "event of two",
        (msgpack.packb([{"message_id": "1", "v": 3}, "echo"]),),
        (),
        ours=(refusal("an event is an array of header, name and arguments"),),
    ),
    Case(
        "event of four",
        (msgpack.packb([{"message_id": "1", "v": 3}, "echo", ["x"], 1]),),
        (),
        ours=(refusal("an event is an array of header, name and arguments"),),
    ),
    Case("event is a map", (msgpack.packb({"message_id": "1"}),), ()),
    Case("event is int", (msgpack.packb(1),), ()),
    Case(
        "truncated event",
        (request("echo", ["x" * 50])[:-10],),
        (),
        ours=(refusal("the message cannot be read: it is incomplete or damaged"),),
    ),
    Case("unused byte of msgpack", (b"\xc1",), ()),
    Case(
        "rubbish behind the event",
        (request("echo", ["x"]) + b"\xc1\xc1",),
        (ok("x"),),
        ours=(refusal("the message cannot be read: there is more behind the event"),),
    ),
    Case(
        "two events in a frame",
        (request("echo", ["x"]) + request("echo", ["y"], "2"),),
        (ok("x"),),
        ours=(refusal("the message cannot be read: there is more behind the event"),),
    ),
)
