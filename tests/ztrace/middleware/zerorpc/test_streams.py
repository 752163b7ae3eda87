"""Streams, in every way they can end: one client span and one server span each."""

import pytest

from tests.ztrace.middleware.zerorpc.fleet import Fleet, run_both
from tests.ztrace.middleware.zerorpc.trees import Unlogged, find, origins, ways

pytestmark = pytest.mark.process

LOST = "zerorpc.exceptions.LostRemote"


@pytest.mark.parametrize("scenario", ["stream", "stream_with_calls", "stream_from_another_greenlet"])
def test_a_stream_read_to_its_end(traced: Fleet, plain: Fleet, scenario: str) -> None:
    """The spans of a stream last until its last item, and calls in its body are below the server's span."""
    outcome, reference = run_both(traced, plain, scenario)
    assert outcome.seen == reference.seen
    tree = traced.check(outcome)
    assert tree["error_count"] == 0


def test_a_stream_that_fails(traced: Fleet, plain: Fleet) -> None:
    """A stream's error, before the first item or later, has its origin in the server."""
    outcome, reference = run_both(traced, plain, "failing_stream")
    assert outcome.seen == reference.seen
    tree = traced.check(outcome)
    assert ways(tree) == 2 * [
        ("client", "driver", "passed", "ValueError: no more numbers"),
        ("server", "front", "raised", "no more numbers"),
    ]


@pytest.mark.parametrize(("how", "error"), [("close", None), ("throw", "LookupError"), ("forget", None)])
def test_a_stream_abandoned_half_way(traced: Fleet, plain: Fleet, how: str, error: str | None) -> None:
    """An abandoned stream ends the caller's span at once, and the server's at its heartbeat timeout."""
    outcome, reference = run_both(traced, plain, "abandoned_stream", how)
    assert outcome.seen == reference.seen
    token = f"{outcome.token}.0"
    tree = traced.check(outcome, Unlogged(errors={("client", token): error, ("server", token): LOST}))
    abandoned = find(tree, "client", "driver")["attributes"].get("zerorpc.stream")
    assert abandoned == (None if error else "abandoned")


@pytest.mark.parametrize("number", [5, 1, 0])
def test_a_stream_never_read(traced: Fleet, plain: Fleet, number: int) -> None:
    """A stream discarded unread ends the caller's span, and the server's once the client disconnects."""
    outcome, reference = run_both(traced, plain, "unread_stream", number)
    assert outcome.seen == reference.seen
    token = f"{outcome.token}.0"
    errors = {("server", token): LOST} if number else {}
    tree = traced.check(outcome, Unlogged(errors=errors))
    client = find(tree, "client", "driver")
    assert (client["status"], client["attributes"]["zerorpc.stream"]) == ("ok", "abandoned")
    assert origins(tree) == ({("server", "front")} if number else set())
