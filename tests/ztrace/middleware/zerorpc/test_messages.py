"""Messages without replies: a producer span, with a linked consumer span per receiver below it."""

from typing import Any

import pytest

from tests.ztrace.middleware.zerorpc.fleet import Fleet, run_both
from tests.ztrace.middleware.zerorpc.journal import read_journals
from tests.ztrace.middleware.zerorpc.trees import Unlogged, find, origins, ways
from tests.ztrace.waiting import wait_for
from ztrace_viewer.documents.trees import TreeDocument
from ztrace_viewer.queries.database import open_database
from ztrace_viewer.trees.tree import walk

pytestmark = pytest.mark.process


def links_of(fleet: Fleet, tree: TreeDocument) -> dict[str, Any]:
    """Return the links of each linked span, by span id."""
    assert fleet.collected is not None
    with open_database(fleet.collected.path) as db:
        rows = db.execute(
            "SELECT hex(span_id), json_extract(links, '$') FROM spans"
            " WHERE trace_id = ? AND links IS NOT NULL",
            (bytes.fromhex(tree["trace_id"]),),
        )
        return {span_id.lower(): links for span_id, links in rows}


def check_links(fleet: Fleet, tree: TreeDocument) -> None:
    """Assert that each consumer is linked to its producer, and that no other span has links."""
    expected = {}
    for span, _ in walk(tree["roots"]):
        assert ("messaging.system" in span["attributes"]) == (span["kind"] in ("producer", "consumer"))
        if span["kind"] == "consumer":
            expected[span["span_id"]] = (
                f'[{{"trace_id":"{tree["trace_id"]}","span_id":"{span["parent_id"]}"}}]'
            )
    assert links_of(fleet, tree) == expected


def wait_for_messages(fleet: Fleet, token: str, number: int) -> None:
    """Wait until this number of messages has been served."""

    def served() -> bool:
        entries = read_journals(fleet.folder, token)
        return sum(entry.kind == "consumer" and entry.end_ns is not None for entry in entries) == number

    wait_for(served, lambda: read_journals(fleet.folder, token))


def wait_for_consumer(fleet: Fleet, token: str) -> None:
    """Wait until a message is being served."""
    wait_for(lambda: any(entry.kind == "consumer" for entry in read_journals(fleet.folder, token)))


def test_push_and_pull(traced: Fleet, plain: Fleet) -> None:
    """A pushed message is a producer span that ends at once, with the consumer's span below it."""
    calls = [["slow", 0.1], ["echo", 1], ["relay", "echo", 2]]
    outcome, reference = run_both(traced, plain, "push", calls)
    assert outcome.seen == reference.seen
    for fleet, token in ((traced, outcome.token), (plain, reference.token)):
        wait_for_messages(fleet, token, 3)
    tree = traced.check(outcome)
    check_links(traced, tree)
    assert [span["name"] for span in tree["roots"][0]["children"]] == ["slow", "echo", "relay"]
    slow = tree["roots"][0]["children"][0]
    assert (slow["duration_ns"] or 0) < 100_000_000 <= (slow["children"][0]["duration_ns"] or 0)


def test_messages_that_fail(traced: Fleet, plain: Fleet) -> None:
    """A consumer's error does not reach the producer, and the next message has its own span."""
    calls = [["fail", "ValueError", "no use"], ["relay_wrapping", "fail", "ValueError", "x"], ["echo", 1]]
    outcome, reference = run_both(traced, plain, "push", calls)
    assert outcome.seen == reference.seen
    for fleet, token in ((traced, outcome.token), (plain, reference.token)):
        wait_for_messages(fleet, token, 3)
    tree = traced.check(outcome)
    check_links(traced, tree)
    assert ways(tree) == [
        ("consumer", "front", "raised", "no use"),
        ("consumer", "front", "wrapped", "wrapped"),
        ("client", "front", "passed", "ValueError: x"),
        ("server", "middle", "raised", "x"),
    ]


def test_a_message_of_an_unknown_method(traced: Fleet, plain: Fleet) -> None:
    """A message for an unknown method is a failed consumer span below its own producer."""
    calls = [["echo", 1], ["nothing_like_it"], ["nothing_like_it"], ["echo", 2]]
    outcome, reference = run_both(traced, plain, "push", calls)
    assert outcome.seen == reference.seen
    for fleet, token in ((traced, outcome.token), (plain, reference.token)):
        wait_for_messages(fleet, token, 2)
    unknown = {f"{outcome.token}.{number}": ("front", "NameError") for number in (1, 2)}
    tree = traced.check(outcome, Unlogged(served=unknown))
    check_links(traced, tree)


def test_a_message_that_cannot_be_packed(traced: Fleet, plain: Fleet) -> None:
    """A message that cannot be packed ends the producer's span with an error and is not received."""
    calls = [["echo", "object"], ["echo", 1]]
    outcome, reference = run_both(traced, plain, "push", calls)
    assert outcome.seen == reference.seen
    wait_for_messages(traced, outcome.token, 1)
    tree = traced.check(outcome)
    assert origins(tree) == {("producer", "driver")}


def test_a_puller_stopped_in_a_message(traced: Fleet, plain: Fleet) -> None:
    """Stopping a puller ends the span of the message being served, and a restarted puller continues."""
    token = ""
    for fleet in (plain, traced):
        outcome = fleet.run("push", [["slow", 30], ["echo", 1]])
        token = f"{outcome.token}.0"
        wait_for_consumer(fleet, outcome.token)
        fleet.services["front"].ask("stop puller")
        wait_for_messages(fleet, outcome.token, 2)
        stopped = [e.error for e in fleet.entries(outcome.token) if (e.kind, e.token) == ("consumer", token)]
        assert stopped == ["greenlet.GreenletExit"]
    tree = traced.check(outcome)
    check_links(traced, tree)
    assert origins(tree) == {("consumer", "front")}


def test_publish_and_subscribe(traced: Fleet, plain: Fleet) -> None:
    """A published message is one producer span, with a consumer span per subscriber."""
    calls = [["echo", 1], ["slow", 0.05]]
    outcome, reference = run_both(traced, plain, "publish", calls)
    assert outcome.seen == reference.seen
    for fleet, token in ((traced, outcome.token), (plain, reference.token)):
        wait_for_messages(fleet, token, 4)
    tree = traced.check(outcome)
    check_links(traced, tree)
    assert len(tree["roots"][0]["children"]) == 2
    for producer in tree["roots"][0]["children"]:
        assert sorted(child["service"] for child in producer["children"]) == ["back", "front"]


def test_a_consumer_is_no_part_of_its_senders_time(traced: Fleet) -> None:
    """A producer's self time includes the consumer's time, since nothing waits for a message."""
    outcome = traced.run("push", [["slow", 0.05]])
    wait_for_messages(traced, outcome.token, 1)
    producer = find(traced.check(outcome), "producer", "driver")
    assert producer["self_ns"] == producer["duration_ns"]
