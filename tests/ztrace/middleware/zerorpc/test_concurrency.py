"""Concurrent calls from many greenlets in every process."""

import pytest

from tests.ztrace.middleware.zerorpc.fleet import Fleet
from tests.ztrace.middleware.zerorpc.journal import Entry
from tests.ztrace.middleware.zerorpc.trees import Unlogged, compare, predict_scenario

NUMBER = 50


@pytest.mark.process
def test_fifty_greenlets_three_processes_deep(traced: Fleet, plain: Fleet) -> None:
    """Fifty concurrent trees of five calls each through three services equal the journals."""
    outcome = traced.run("crowd", NUMBER)
    reference = plain.run("crowd", NUMBER)
    results = [result for _, _, result in outcome.seen]
    assert len(results) == NUMBER
    assert results == [result for _, _, result in reference.seen]
    entries = traced.entries(outcome.token)
    servers = [entry for entry in entries if entry.kind == "server"]
    assert len(servers) >= 150
    assert max(_at_once(servers, service) for service in ("front", "middle", "back")) >= 10
    trace_ids = [trace_id for _, trace_id, _ in outcome.seen]
    assert len(set(trace_ids)) == NUMBER
    traced.settle()
    for token, trace_id, _ in outcome.seen:
        own = [entry for entry in entries if entry.token.startswith(f"{token}.")]
        expected = predict_scenario(token, own, ("driver", traced.driver.pid), Unlogged(), None)
        tree = traced.wait_for_tree(trace_id, expected.count())
        compare(tree, expected, Unlogged())


def _at_once(entries: list[Entry], service: str) -> int:
    """Return the largest number of calls that a service was serving concurrently."""
    moments = []
    for entry in entries:
        if entry.service == service:
            moments += [(entry.begin_ns, 1), (entry.end_ns or 0, -1)]
    at_once, most = 0, 0
    for _, change in sorted(moments):
        at_once += change
        most = max(most, at_once)
    return most
