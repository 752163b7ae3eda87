"""Calls through proxies of managers, in processes that are traced or not."""

import pytest

from tests.ztrace.middleware.peers import TRACED, Calls, call
from tests.ztrace.receiving import Receiver
from ztrace.records import PASSED, RAISED, ExceptionRecord

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def untraced() -> list[str]:
    """Return the output of the client without ztrace."""
    lines = call("managing", Receiver(), "neither")
    assert len(lines) == 14
    return lines


@pytest.mark.parametrize("traced", [name for name in TRACED if name != "neither"])
def test_answers_are_those_without_ztrace(receiver: Receiver, untraced: list[str], traced: str) -> None:
    """The client gets the same results and exceptions, whichever sides are traced."""
    assert call("managing", receiver, traced) == untraced
    calls = Calls(receiver)
    if traced == "both":
        assert_joined(calls)
    elif traced == "server":
        assert calls.kinds() == {"server", "internal"}
    else:
        assert calls.kinds() == {"client", "internal"}
        assert all(len(calls.within(name)) == 1 for name in ("add", "error", "attribute", "lost"))


def assert_joined(calls: Calls) -> None:
    """Assert the tree of each scenario."""
    calls.assert_nested()
    assert calls.outline("add") == ["client add", "server add", "internal inner"]
    assert calls.outline("large") == ["client echo", "server echo"]
    assert calls.outline("proxy") == ["client basket", "client weigh", "server basket", "server weigh"]
    assert calls.outline("attribute") == ["client __getattribute__", "server __getattribute__"]
    assert calls.outline("queue") == ["client put", "client get", "server put", "server get"]
    assert calls.outline("value") == []
    client = calls.within("add")[0]
    address = {name: client.attributes.pop(name) for name in ("server.address", "server.port")}  # type: ignore[union-attr]
    assert address["server.address"] == "127.0.0.1"
    assert client.attributes == {"rpc.system.name": "multiprocessing", "multiprocessing.type": "shop"}
    calls.assert_origin("error", "raise KeyError(article)")
    assert [span.status for span in calls.within("odd error")] == [1, 1]
    (_, odd) = calls.within("odd error")
    assert ExceptionRecord(*odd.exception or ()).type.endswith("managing.Odd")
    (client, server) = calls.within("unpicklable result")
    for span, how in ((client, PASSED), (server, RAISED)):
        assert span.exception is not None
        assert ExceptionRecord(*span.exception).how == how
    (client,) = calls.within("unpicklable argument")
    assert client.exception is not None
    client, server = calls.within("unknown")
    assert server.exception is not None
    assert ExceptionRecord(*server.exception).type == "KeyError"
    client, server = calls.within("lost")
    assert client.exception is not None
    assert (ExceptionRecord(*client.exception).type, server.status) == ("EOFError", 0)
