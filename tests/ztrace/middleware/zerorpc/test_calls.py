"""Every kind of call through real services: the stored tree equals the journals."""

from itertools import pairwise
from typing import Any

import pytest

from tests.ztrace.middleware.zerorpc.fleet import Fleet, run_both
from tests.ztrace.middleware.zerorpc.server import EXOTIC
from tests.ztrace.middleware.zerorpc.trees import TOLERANCE_NS, Unlogged, find, origins, ways
from ztrace_viewer.trees.tree import walk

pytestmark = pytest.mark.process

REMOTE = "zerorpc.exceptions.RemoteError"
EXPIRED = "zerorpc.exceptions.TimeoutExpired"
LOST = "zerorpc.exceptions.LostRemote"


@pytest.mark.parametrize(
    "scenario", ["ok", "error", "raised_through", "asynchronous", "forked_tasks", "bytes_name"]
)
def test_a_call_is_a_client_and_a_server_span(traced: Fleet, plain: Fleet, scenario: str) -> None:
    """A call has one client and one server span, and the caller gets zerorpc's own result."""
    outcome, reference = run_both(traced, plain, scenario)
    assert (outcome.seen, outcome.error) == (reference.seen, reference.error)
    traced.check(outcome)


def test_spans_say_whom_they_called(traced: Fleet) -> None:
    """A client span names the callee's address."""
    outcome = traced.run("ok")
    attributes = find(traced.check(outcome), "client", "driver")["attributes"]
    host, _, port = traced.endpoints["front"]["rpc"].removeprefix("tcp://").rpartition(":")
    assert attributes == {"rpc.system.name": "zerorpc", "server.address": host, "server.port": int(port)}


def test_the_time_of_the_server_is_not_the_callers_own(traced: Fleet) -> None:
    """A client's self time excludes the server's duration."""
    outcome = traced.run("nested", "relay", "slow", 0.2)
    tree = traced.check(outcome)
    for kind, service in (("client", "driver"), ("server", "front"), ("client", "front")):
        span = find(tree, kind, service)
        assert span["duration_ns"] is not None
        assert span["duration_ns"] >= 200_000_000
        assert span["self_ns"] is not None
        assert span["self_ns"] < span["duration_ns"] - 190_000_000
        # The collector counts open children of one process only; the tree knows both ends of a call.
        assert traced.collected is not None
        query = "SELECT self_ns FROM spans WHERE span_id = ?"
        stored = traced.collected.value(query, bytes.fromhex(span["span_id"]))
        assert span["self_ns"] <= stored < span["duration_ns"] - 190_000_000
    asleep = find(tree, "server", "middle")
    assert asleep["self_ns"] == asleep["duration_ns"]
    assert asleep["cpu_ns"] is None  # The thread's, which other greenlets share.


def test_siblings_and_spans_between_them(traced: Fleet, plain: Fleet) -> None:
    """Consecutive calls are siblings, and calls within a span are its children."""
    outcome, reference = run_both(traced, plain, "siblings")
    assert outcome.seen == reference.seen
    inside = {f"{outcome.token}.{number}": "inside" for number in (1, 2)}
    traced.check(outcome, Unlogged(inside=inside))


def test_calls_three_processes_deep(traced: Fleet, plain: Fleet) -> None:
    """Calls through three services are below their callers' spans in each process."""
    path = ("relay_twice", "relay", "echo", "deep")
    outcome, reference = run_both(traced, plain, "nested", *path)
    assert outcome.seen == reference.seen
    tree = traced.check(outcome)
    assert tree["span_count"] == 11
    assert tree["services"] == ["back", "driver", "front", "middle"]


def test_unknown_method(traced: Fleet, plain: Fleet) -> None:
    """An unknown method is an error with its origin in the server."""
    outcome, reference = run_both(traced, plain, "unknown_method")
    assert outcome.seen == reference.seen
    tree = traced.check(outcome, Unlogged(served={f"{outcome.token}.0": ("front", "NameError")}))
    assert ways(tree) == [
        ("client", "driver", "passed", "NameError: nothing_like_it"),
        ("server", "front", "raised", "nothing_like_it"),
    ]


@pytest.mark.parametrize("scenario", ["timeout", "asynchronous_timeout"])
def test_timeout(traced: Fleet, plain: Fleet, scenario: str) -> None:
    """A timeout ends the caller's span with an error, and the server's span ends normally later."""
    outcome, reference = run_both(traced, plain, scenario)
    assert outcome.seen == reference.seen
    tree = traced.check(outcome)
    client, server = find(tree, "client", "driver"), find(tree, "server", "front")
    assert (client["status"], server["status"]) == ("error", "ok")
    assert client["exception"] is not None
    assert client["exception"]["type"] == EXPIRED
    assert client["duration_ns"] is not None
    assert 100_000_000 <= client["duration_ns"] < 300_000_000
    assert origins(tree) == {("client", "driver")}


def test_a_timeout_names_the_line_that_called(traced: Fleet) -> None:
    """The exception of a timeout keeps the frame of the program's own calling line."""
    tree = traced.check(traced.run("timeout"))
    exception = find(tree, "client", "driver")["exception"]
    assert exception is not None
    frames = exception["frames"]
    called = [frame["code"] for frame in frames if frame["in_app"]]
    assert 'caller.attempt("slow", 0.3, timeout=0.1)' in called
    assert not [frame for frame in frames if "/ztrace/" in frame["file"] and "/tests/" not in frame["file"]]


def test_gevent_timeout(traced: Fleet, plain: Fleet) -> None:
    """A gevent timeout ends the interrupted call's span with an error, and no other."""
    outcome, reference = run_both(traced, plain, "gevent_timeout")
    assert outcome.seen == reference.seen
    tree = traced.check(outcome)
    assert ways(tree) == [("client", "driver", "raised", "0.1 seconds")]


def test_killed_greenlet(traced: Fleet, plain: Fleet) -> None:
    """Killing a waiting greenlet ends its call's span."""
    outcome, reference = run_both(traced, plain, "killed_greenlet")
    assert outcome.seen == reference.seen
    tree = traced.check(outcome)
    assert origins(tree) == {("client", "driver")}


def test_unpackable_argument(traced: Fleet, plain: Fleet) -> None:
    """A request that cannot be packed is the caller's error, and the next call is unaffected."""
    outcome, reference = run_both(traced, plain, "unpackable_argument")
    assert outcome.seen == reference.seen
    tree = traced.check(outcome)
    assert origins(tree) == {("client", "driver")}


def test_unpackable_reply(traced: Fleet, plain: Fleet) -> None:
    """A result that cannot be packed ends the server's span with an error, once."""
    outcome, reference = run_both(traced, plain, "unpackable_reply")
    assert outcome.seen == reference.seen
    tree = traced.check(outcome, Unlogged(errors={("server", f"{outcome.token}.0"): "TypeError"}))
    assert origins(tree) == {("server", "front")}


def test_undecodable_reply(traced: Fleet, plain: Fleet) -> None:
    """A reply that the client cannot unpack is a success in the server and a timeout in the caller."""
    outcome, reference = run_both(traced, plain, "undecodable_reply")
    assert outcome.seen == reference.seen
    tree = traced.check(outcome)
    assert origins(tree) == {("client", "driver")}
    assert find(tree, "server", "front")["status"] == "ok"


def test_exotic_names(traced: Fleet, plain: Fleet) -> None:
    """A span is named like the method, even if the name is no identifier."""
    outcome, reference = run_both(traced, plain, "exotic_names", list(EXOTIC))
    assert outcome.seen == reference.seen
    tree = traced.check(outcome)
    assert sorted(span["name"] for span, _ in walk(tree["roots"]) if span["kind"] == "server") == sorted(
        EXOTIC
    )


def test_builtin_methods_are_not_traced(traced: Fleet, plain: Fleet) -> None:
    """Calls of zerorpc's built-in methods are not traced."""
    outcome, reference = run_both(traced, plain, "builtins")
    assert outcome.seen == reference.seen
    assert traced.check_root_only(outcome)
    assert traced.collected is not None
    assert traced.collected.value("SELECT count(*) FROM methods WHERE substr(name, 1, 9) = '_zerorpc_'") == 0


def test_forked_tasks_in_a_server(traced: Fleet, plain: Fleet) -> None:
    """Tasks forked by `zerorpc.fork_task_context` are below the server's span."""
    path = ("fork", "relay", "echo", 1)
    outcome, reference = run_both(traced, plain, "nested", *path)
    assert outcome.seen == reference.seen
    tree = traced.check(outcome)
    assert [child["kind"] for child in find(tree, "server", "front")["children"]] == ["client", "client"]


def test_a_spawned_task_inherits_the_span(traced: Fleet, plain: Fleet) -> None:
    """A call from a greenlet that the caller spawns is part of the caller's tree."""
    outcome, reference = run_both(traced, plain, "spawned_task")
    assert outcome.seen == reference.seen
    traced.check(outcome)


def test_a_spawned_task_in_a_server_inherits_the_span(traced: Fleet, plain: Fleet) -> None:
    """A call from a greenlet that a method spawns is below the method's span."""
    outcome, reference = run_both(traced, plain, "nested", "spawn", "relay", "echo", 1)
    assert outcome.seen == reference.seen
    traced.check(outcome)


def test_a_queue_is_time_of_the_caller(traced: Fleet, plain: Fleet) -> None:
    """Time spent queueing behind ``pool_size=1`` is self time of the client's span."""
    outcome, reference = run_both(traced, plain, "queue")
    assert outcome.seen == reference.seen
    tree = traced.check(outcome)
    clients = tree["roots"][0]["children"]
    servers = sorted((span["children"][0] for span in clients), key=lambda span: span["start_ns"])
    for earlier, later in pairwise(servers):
        assert earlier["start_ns"] + (earlier["duration_ns"] or 0) <= later["start_ns"] + TOLERANCE_NS
    for client in clients:
        queued_ns = client["children"][0]["start_ns"] - client["start_ns"]
        assert queued_ns - TOLERANCE_NS <= (client["self_ns"] or 0) < (client["duration_ns"] or 0)


@pytest.mark.parametrize("kind", ["GreenletExit", "Timeout"])
def test_what_is_no_exception_ends_the_servers_span(traced: Fleet, plain: Fleet, kind: str) -> None:
    """A BaseException, to which zerorpc sends no reply, ends the server's span and times out the caller."""
    outcome, reference = run_both(traced, plain, "short_of_breath", "fail", kind, "")
    assert outcome.seen == reference.seen
    tree = traced.check(outcome)
    assert origins(tree) == {("client", "driver"), ("server", "front")}


def test_an_error_without_words(traced: Fleet, plain: Fleet) -> None:
    """An exception whose text raises gets no reply from zerorpc, and its type is recorded."""
    args: tuple[Any, ...] = ("short_of_breath", "fail", "Unspeakable", "")
    outcome, reference = run_both(traced, plain, *args)
    assert outcome.seen == reference.seen
    tree = traced.check(outcome)
    assert ("server", "front", "raised", "<no message: __str__ failed>") in ways(tree)


def test_an_error_that_cannot_be_copied(traced: Fleet, plain: Fleet) -> None:
    """An exception with arguments that can be neither copied nor sent is recorded at the server."""
    outcome = traced.run("nested", "fail", "Unpicklable", "held")
    assert [each[:2] for each in outcome.seen] == [
        each[:2] for each in plain.run("nested", "fail", "Unpicklable", "held").seen
    ]
    tree = traced.check(outcome)
    assert origins(tree) == {("server", "front")}
