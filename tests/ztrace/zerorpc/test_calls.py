"""Every kind of call, from a caller through real services: the stored tree is what they wrote down."""

import pytest

from tests.ztrace.zerorpc.fleet import Fleet

PLAIN = [("ok",), ("siblings",)]


@pytest.mark.parametrize("scenario", ["ok", "error", "asynchronous", "forked_tasks", "bytes_name"])
def test_a_call_is_a_client_and_a_server_span(traced: Fleet, plain: Fleet, scenario: str) -> None:
    """One client span and one server span per call, as journalled, and the caller sees what it always saw."""
    outcome = traced.run(scenario)
    assert outcome.seen == plain.run(scenario).seen
    traced.check(outcome)
