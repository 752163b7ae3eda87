"""Frames, streams and built-in methods of servers, as in `requests`."""

import inspect

from tests.ztrace.rpc.conformance.cases import Case, done, err, item, later, ok, request
from tests.ztrace.rpc.conformance.service import Service

_AT_END = "at the end"
_TOO_MANY = "ServerBase._inject_builtins.<locals>.<lambda>() takes 0 positional arguments but 1 was given"
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
    Case(
        "grant of a float",
        (request("count", [3], "s20"), later("_zpc_more", [1.5], "s20")),
        (item(0, "s20"), item(1, "s20")),
    ),
    Case(
        "grant of a str",
        (request("count", [3], "s21"), later("_zpc_more", ["7"], "s21")),
        (item(0, "s21"), item(1, "s21"), item(2, "s21"), done("s21")),
    ),
    Case(
        "grant of a bool",
        (request("count", [3], "s22"), later("_zpc_more", [True], "s22")),
        (item(0, "s22"), item(1, "s22")),
    ),
    Case(
        "endless grant",
        (request("count", [3], "s23"), later("_zpc_more", [2**63], "s23")),
        (item(0, "s23"), item(1, "s23"), item(2, "s23"), done("s23")),
    ),
    Case("grant of zero", (request("count", [3], "s24"), later("_zpc_more", [0], "s24")), (item(0, "s24"),)),
    Case(
        "grant of two numbers",
        (request("count", [3], "s25"), later("_zpc_more", [1, 5], "s25")),
        (item(0, "s25"), item(1, "s25")),
    ),
    Case("empty grant", (request("count", [3], "s26"), later("_zpc_more", [], "s26")), (item(0, "s26"),)),
    Case(
        "grant outside of a list",
        (request("count", [3], "s27"), later("_zpc_more", 5, "s27")),
        (item(0, "s27"),),
    ),
    Case(
        "OK on a channel",
        (request("count", [2], "s28"), later("OK", ["x"], "s28"), later("_zpc_more", [7], "s28")),
        (item(0, "s28"), item(1, "s28"), done("s28")),
    ),
    Case(
        "ERR on a channel",
        (request("count", [2], "s29"), later("ERR", ["a", "b", "c"], "s29"), later("_zpc_more", [7], "s29")),
        (item(0, "s29"), item(1, "s29"), done("s29")),
    ),
    Case(
        "STREAM_DONE on a channel",
        (request("count", [2], "s30"), later("STREAM_DONE", None, "s30"), later("_zpc_more", [7], "s30")),
        (item(0, "s30"), item(1, "s30"), done("s30")),
    ),
    Case(
        "method on a channel",
        (request("count", [2], "s31"), later("echo", ["x"], "s31"), later("_zpc_more", [7], "s31")),
        (item(0, "s31"), item(1, "s31"), done("s31")),
    ),
    Case(
        "grant after the end", (request("count", [0], "s32"), later("_zpc_more", [7], "s32")), (done("s32"),)
    ),
    Case("header grants below zero", (request("count", [2], "s33", zt={"credit": -5}),), (item(0, "s33"),)),
    Case("header grants a str", (request("count", [2], "s34", zt={"credit": "x"}),), (item(0, "s34"),)),
    Case("header grants endlessly", (request("count", [2], "s35", zt={"credit": 2**63}),), (item(0, "s35"),)),
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
    Case("_zerorpc_help of nil", (request("_zerorpc_help", [None]),), (err("KeyError", "None"),)),
    Case(
        "_zerorpc_ping with an argument",
        (request("_zerorpc_ping", ["x"]),),
        (
            err(
                "TypeError",
                _TOO_MANY,
            ),
        ),
        ours=(err("TypeError", "_zerorpc_ping(): too many positional arguments"),),
    ),
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
