"""Peers without ztrace, with another tracer, or with an older protocol: zerorpc's behaviour is unchanged."""

import re
from typing import Any

import msgpack
import pytest
import zmq

from tests.ztrace.middleware.zerorpc.fleet import Fleet, Outcome
from tests.ztrace.middleware.zerorpc.journal import Entry, read_journals
from tests.ztrace.middleware.zerorpc.trees import Unlogged, compare, find, predict_served, ways
from tests.ztrace.waiting import wait_for

pytestmark = pytest.mark.process

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def cross(fleet: Fleet, to: Fleet, scenario: str, *args: Any) -> Outcome:
    """Run a scenario in one fleet's driver with the other fleet's services."""
    command = fleet.command(scenario, *args, endpoints=to.endpoints)
    return Outcome(command["token"], fleet.driver.ask(command))


def entries_served(fleet: Fleet, token: str, number: int) -> list[Entry]:
    """Wait until a fleet's services have served this number of calls, and return their entries."""

    def served() -> list[Entry]:
        entries = read_journals(fleet.folder, token)
        ended = [entry for entry in entries if entry.kind == "server" and entry.end_ns is not None]
        return entries if len(ended) == number else []

    return wait_for(served, lambda: read_journals(fleet.folder, token))


def test_a_server_without_ztrace(traced: Fleet, plain: Fleet) -> None:
    """A call of an untraced server has a client span only, and the server's result."""
    outcome = cross(traced, plain, "nested", "relay", "relay", "echo", 1)
    assert outcome.seen == plain.run("nested", "relay", "relay", "echo", 1).seen
    tree = traced.check(outcome)
    assert tree["span_count"] == 2
    assert len(entries_served(plain, outcome.token, 3)) == 5


@pytest.mark.parametrize("scenario", ["error", "failing_stream"])
def test_an_error_of_a_server_without_ztrace(traced: Fleet, plain: Fleet, scenario: str) -> None:
    """An error of an untraced server has its origin in the client span, with the remote traceback."""
    outcome = cross(traced, plain, scenario)
    assert outcome.seen == plain.run(scenario).seen
    failing = ("0", "1") if scenario == "failing_stream" else ("0",)
    errors = {("client", f"{outcome.token}.{number}"): "ValueError" for number in failing}
    tree = traced.check(outcome, Unlogged(errors=errors))
    message = {"error": "this went wrong", "failing_stream": "no more numbers"}[scenario]
    way = ("client", "driver", "raised", message)
    assert ways(tree) == [way] * (1 if scenario == "error" else 2)
    for span in tree["roots"][0]["children"]:
        if span["status"] == "error":
            remote = span["attributes"]["zerorpc.remote_traceback"]
            assert isinstance(remote, str)
            assert remote.rstrip().endswith(f"ValueError: {message}")


@pytest.mark.parametrize("path", [["relay", "relay", "echo", 1], ["relay", "fail", "ValueError", "x"]])
def test_a_client_without_ztrace(traced: Fleet, plain: Fleet, path: list[Any]) -> None:
    """The first traced server's span is the root of the tree for an untraced client."""
    outcome = cross(plain, traced, "nested", *path)
    reference = plain.run("nested", *path)
    assert [each[:2] for each in outcome.seen] == [each[:2] for each in reference.seen]
    token = f"{outcome.token}.0"
    served = entries_served(traced, outcome.token, len([name for name in path if name == "relay"]) + 1)
    tree = traced.check_other(token, predict_served(token, served, Unlogged()))
    assert tree["roots"][0]["parent_id"] is None


def test_a_service_without_ztrace_between_two_with(traced: Fleet, plain: Fleet) -> None:
    """A tree ends at an untraced service, and another one starts behind it."""
    child = plain.start_service("gap", "--upstream", traced.endpoints["back"]["rpc"])
    try:
        endpoints = {"front": plain.endpoints["gap"]}
        command = traced.command("nested", "relay", "echo", 1, endpoints=endpoints)
        outcome = Outcome(command["token"], traced.driver.ask(command))
        assert outcome.seen == [[1]]
        assert traced.check(outcome)["span_count"] == 2
        token = f"{outcome.token}.0.0"
        served = entries_served(traced, outcome.token, 1)
        behind = traced.check_other(token, predict_served(token, served, Unlogged()))
        assert behind["trace_id"] != outcome.trace_id
    finally:
        plain.forget_service("gap")
        assert child.finish() == 0


@pytest.mark.parametrize(
    "traceparent",
    [
        f"00-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}-00",
        f"cc-{TRACE_ID}-{SPAN_ID}-01",
        f"cc-{TRACE_ID}-{SPAN_ID}-01-what-the-future-will-bring",
    ],
)
def test_another_tracers_context(traced: Fleet, plain: Fleet, traceparent: str) -> None:
    """A server's span is the child of another tracer's span, and passes on its tracestate."""
    assert traced.collected is not None
    trace_id = f"{next_number():032x}"
    header = {"traceparent": traceparent.replace(TRACE_ID, trace_id), "tracestate": "a=1,b=2"}
    outcome = cross(plain, traced, "header_by_hand", header, "relay", "echo", 1)
    assert outcome.seen == [[1]]
    served = entries_served(traced, outcome.token, 2)
    assert [entry.tracestate for entry in served if entry.kind == "server"] == ["a=1,b=2"] * 2
    tree = traced.wait_for_tree(trace_id, 3)
    token = f"{outcome.token}.0"
    compare(tree, predict_served(token, served, Unlogged()), Unlogged(), complete=False)
    (missing,) = tree["missing"]
    assert (missing["reason"] in ("still running", "not traced"), missing["parent_id"]) == (True, SPAN_ID)


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "garbage",
        f"00-{TRACE_ID}-{SPAN_ID}",
        f"00-{TRACE_ID}-{SPAN_ID}-01-more",
        f"00-{TRACE_ID.upper()}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00_{TRACE_ID}_{SPAN_ID}_01",
        5,
        [TRACE_ID, SPAN_ID],
        {"trace_id": TRACE_ID},
        None,
    ],
)
def test_a_context_that_is_not_valid(traced: Fleet, plain: Fleet, traceparent: object) -> None:
    """An invalid trace context is ignored, and the server's span is a root."""
    header = {"traceparent": traceparent, "tracestate": ["not", "valid"]}
    outcome = cross(plain, traced, "header_by_hand", header, "relay", "echo", 1)
    assert outcome.seen == [[1]]
    served = entries_served(traced, outcome.token, 2)
    token = f"{outcome.token}.0"
    tree = traced.check_other(token, predict_served(token, served, Unlogged()))
    assert tree["trace_id"] != TRACE_ID
    assert tree["roots"][0]["parent_id"] is None


_numbers = iter(range(1, 1000))


def next_number() -> int:
    """Return a trace id that no other test uses."""
    return (0xABCDEF << 100) + next(_numbers)


def converse(endpoint: str, header: dict[str, Any], name: object, args: list[Any]) -> list[Any]:
    """Send one event over a raw socket, and return the replies without heartbeats."""
    replies: list[Any] = []
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.connect(endpoint)
        dealer.send_multipart([b"", msgpack.packb([header, name, args])])
        while not replies or replies[-1][1] == "STREAM":
            assert dealer.poll(5_000)
            reply = msgpack.unpackb(dealer.recv_multipart()[-1])
            if reply[1] != "_zpc_hb":
                replies.append(reply)
                if len(replies) == 1 and reply[1] == "STREAM":
                    # Once, as zerorpc does: an event for a channel being closed makes its server hang.
                    more = {**header, "message_id": "more", "response_to": header["message_id"]}
                    dealer.send_multipart([b"", msgpack.packb([more, "_zpc_more", [99]])])
    return replies


@pytest.mark.parametrize("version", [{"v": 3}, {}])
@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("echo", [1]),
        ("fail", ["ValueError", "raw"]),
        ("count", [9]),
        ("count_and_fail", [1]),
        ("nothing_like_it", []),
        (b"echo", []),
        (b"\xff\xfe", []),
    ],
)
def test_a_client_of_its_own_making(
    traced: Fleet, plain: Fleet, version: dict[str, Any], name: Any, args: list[Any]
) -> None:
    """Replies to a raw client, of the old protocol too, have zerorpc's own names, values and header keys."""
    token = f"raw{next_number():x}"
    answers = []
    for fleet in (traced, plain):
        header = {"message_id": token, **version}
        replies = converse(fleet.endpoints["front"]["rpc"], header, name, [f"{token}.0", *args])
        answers.append([(sorted(header), kind, _first_two(values)) for header, kind, values in replies])
    assert answers[0] == answers[1]
    traced.settle()


def _first_two(values: Any) -> Any:
    """Return a reply's values without the remote traceback."""
    return values[:2] if isinstance(values, list) else values


def test_an_error_of_another_tracers_client(traced: Fleet) -> None:
    """A reply to a request with a context has the server's duration and the origin of the exception."""
    trace_id = f"{next_number():032x}"
    header = {"message_id": "m", "v": 3, "traceparent": f"00-{trace_id}-{SPAN_ID}-01"}
    token = f"raw{trace_id}"
    ((reply, kind, _),) = converse(
        traced.endpoints["front"]["rpc"], header, "fail", [f"{token}.0", "ValueError", "x"]
    )
    assert kind == "ERR"
    tree = traced.wait_for_tree(trace_id, 1)
    span = find(tree, "server", "front")
    found = re.fullmatch(r"d=(\d+);o=(\w{32})-(\w{16})", reply["ztrace"])
    assert found is not None
    assert found.groups()[1:] == (trace_id, span["span_id"])
    assert 0 < int(found[1]) <= (span["duration_ns"] or 0) + 50_000_000
