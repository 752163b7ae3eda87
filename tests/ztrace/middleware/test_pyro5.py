"""Calls by Pyro5, between processes that are traced or not."""

import pytest

from tests.ztrace.middleware.peers import TRACED, Calls, call
from tests.ztrace.middleware.pyrocalling import SERIALIZERS
from tests.ztrace.receiving import Receiver
from ztrace.records import PASSED, RAISED, ExceptionRecord, Span

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def untraced() -> list[str]:
    """Return the output of the client without ztrace."""
    lines = call("pyrocalling", Receiver(), "neither")
    assert len(lines) == 31
    return lines


@pytest.mark.parametrize("traced", [name for name in TRACED if name != "neither"])
def test_answers_are_those_without_ztrace(receiver: Receiver, untraced: list[str], traced: str) -> None:
    """The client gets the same results and exceptions, whichever sides are traced."""
    lines = call("pyrocalling", receiver, traced)
    if traced == "client":  # A method of an untraced server sees every annotation.
        lines = [line.replace("'CUST', 'ZTRC'", "'CUST'") for line in lines]
    assert lines == untraced
    calls = Calls(receiver)
    if traced == "both":
        assert_joined(calls)
        assert_streams(calls)
    elif traced == "server":
        assert calls.kinds() == {"server", "consumer", "internal"}
    else:
        assert calls.kinds() == {"client", "producer", "internal"}
        (client,) = calls.within("serpent error")
        assert client.exception is not None
        assert ExceptionRecord(*client.exception).how == RAISED
        assert "in refuse" in str((client.attributes or {})["pyro5.remote_traceback"])


def assert_joined(calls: Calls) -> None:
    """Assert the tree of each scenario but those of streams."""
    for serializer in SERIALIZERS:
        outline = calls.outline(f"{serializer} add")
        assert outline == ["client add", "server add", "internal inner"]
        origin = calls.assert_origin(f"{serializer} error", "raise error")
        assert origin.message == "'piano'"
        client, server = calls.within(f"{serializer} unsendable")
        if server.status:
            assert_passed(client, server)
    client = calls.within("serpent add")[0]
    assert type((client.attributes or {}).pop("server.port")) is int
    assert client.attributes == {"rpc.system.name": "pyro5", "server.address": "127.0.0.1"}
    assert calls.outline("get") == calls.outline("set") == ["client shelf", "server shelf"]
    calls.assert_origin("set error", "raise ValueError(number)", "ValueError")
    assert_passed(*calls.within("unknown"))
    assert calls.outline("oneway") == ["producer note", "client noted", "consumer note", "server noted"]
    producer, _, consumer, _ = calls.within("oneway")
    assert consumer.links == [[producer.trace_id, producer.span_id]]
    assert producer.attributes["messaging.system"] == "pyro5"  # type: ignore[index]
    each = ["server add", "server add", "internal inner", "internal inner"]
    assert calls.outline("batch") == ["client <batch>", *each]
    assert (calls.within("batch")[0].attributes or {})["pyro5.batch"] == 2
    client, _, refused, _ = calls.within("batch error")
    (outer,) = (span for span in calls.spans if span.name == "batch error")
    assert_passed(client, refused)
    assert_passed(outer, refused)
    client, server = calls.within("lost")
    assert client.status == 1
    assert calls.outline("lost daemon") == []


def assert_streams(calls: Calls) -> None:
    """Assert that the spans of a stream last as long as the stream, and fail with it."""
    for serializer in SERIALIZERS:
        outline = calls.outline(f"{serializer} stream")
        assert outline == ["client count", "server count", "internal step", "internal step"]
    client, server, *_ = calls.within("failing stream")
    assert_passed(client, server)
    for name in ("abandoned stream", "closed stream"):
        client, server, *_ = calls.within(name)
        assert client.attributes["pyro5.stream"] == "abandoned"  # type: ignore[index]
        assert server.attributes["pyro5.stream"] == "abandoned"  # type: ignore[index]


def assert_passed(outer: Span, server: Span) -> None:
    """Assert that an exception began at the server, and has passed another span."""
    assert server.exception is not None
    assert outer.exception is not None
    assert ExceptionRecord(*server.exception).how == RAISED
    passed = ExceptionRecord(*outer.exception)
    assert (passed.how, passed.origin_span_id) == (PASSED, server.span_id)
