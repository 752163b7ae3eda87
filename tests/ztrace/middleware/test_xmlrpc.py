"""Calls by xmlrpc, between processes that are traced or not."""

import pytest

from tests.ztrace.middleware.peers import TRACED, Calls, call
from tests.ztrace.receiving import Receiver
from ztrace.records import PASSED, RAISED, ExceptionRecord

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def untraced() -> list[str]:
    """Return the output of the client without ztrace."""
    lines = call("xmlcalling", Receiver(), "neither")
    assert len(lines) == 14
    return lines


@pytest.mark.parametrize("traced", [name for name in TRACED if name != "neither"])
def test_answers_are_those_without_ztrace(receiver: Receiver, untraced: list[str], traced: str) -> None:
    """The client gets the same results and faults, whichever sides are traced."""
    assert call("xmlcalling", receiver, traced) == untraced
    calls = Calls(receiver)
    if traced == "both":
        assert_joined(calls)
    elif traced == "server":
        assert calls.kinds() == {"server", "internal"}
    else:
        assert calls.kinds() == {"client", "internal"}
        (client,) = calls.within("error")
        assert client.exception is not None
        exception = ExceptionRecord(*client.exception)
        assert (exception.how, exception.type, exception.message) == (RAISED, "KeyError", "'piano'")


def assert_joined(calls: Calls) -> None:
    """Assert the tree of each scenario."""
    assert calls.outline("add") == ["client add", "server add", "internal inner"]
    assert calls.outline("own transport") == ["client add", "server add", "internal inner"]
    assert calls.outline("own dispatcher") == ["client own", "server own"]
    assert calls.outline("large") == ["client large", "server large"]
    assert calls.outline("unwritable argument") == ["client add"]
    assert calls.outline("refused") == ["client add"]
    client = calls.within("add")[0]
    port = (client.attributes or {}).pop("server.port")
    assert type(port) is int
    assert client.attributes == {"rpc.system.name": "xmlrpc", "server.address": "127.0.0.1"}
    assert calls.assert_origin("error", "raise KeyError(article)").message == "'piano'"
    calls.assert_origin("fault", 'raise Fault(42, "sold out")', "xmlrpc.client.Fault")
    (client, _) = calls.within("error")
    assert client.exception is not None
    assert ExceptionRecord(*client.exception).message == "KeyError: 'piano'"
    for name, type_ in (("unwritable result", "TypeError"), ("unknown", "Exception")):
        client, server = calls.within(name)
        assert client.exception is not None
        assert server.exception is not None
        origin, passed = ExceptionRecord(*server.exception), ExceptionRecord(*client.exception)
        assert (origin.type, origin.how) == (type_, RAISED)
        assert (passed.how, passed.origin_span_id) == (PASSED, server.span_id)
    batch = ["client system.multicall", "server system.multicall"]
    each = ["server add", "server refuse", "server add", "internal inner", "internal inner"]
    assert calls.outline("multicall error") == [*batch, *each]
    (outer,) = (span for span in calls.spans if span.name == "multicall error")
    refused = calls.within("multicall error")[3]
    assert outer.exception is not None
    passed = ExceptionRecord(*outer.exception)
    assert (passed.how, passed.origin_span_id) == (PASSED, refused.span_id)
    assert passed.message == "KeyError: 'lamp'"
    assert (calls.within("multicall error")[0].attributes or {})["xmlrpc.batch"] == 3
