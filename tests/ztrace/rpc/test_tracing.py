"""Spans of calls: client and server, streams, deadlines, cancellation, and origins of exceptions."""

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import pairwise
from typing import Any

import msgpack
import pytest
import zmq

import ztrace
from tests.ztrace.programs import ROOT
from tests.ztrace.recording import Recorder
from tests.ztrace.rpc.services import FREE, Billing
from tests.ztrace.waiting import DEADLINE_S, wait_for
from ztrace import rpc
from ztrace.publishing.unfinished import AGE_NS, Unfinished
from ztrace.records import Span
from ztrace.rpc import wire


class Shop(Billing):
    """Service whose methods call another service."""

    def __init__(self) -> None:
        self.billing: rpc.Client | None = None
        self.endpoint = ""

    def buy(self) -> str:
        """Call from the pool."""
        assert self.billing is not None
        return str(self.billing.charge("visa"))

    async def order(self) -> Any:
        """Call from the loop."""
        async with rpc.AsyncClient(self.endpoint) as billing:
            return await billing.charge("visa")

    def fail(self) -> None:
        """Pass an exception of the other service on."""
        assert self.billing is not None
        self.billing.refuse()

    def broken(self) -> object:
        """Return what cannot be sent."""
        return {"a": [object()]}

    async def also_broken(self) -> AsyncIterator[object]:
        """Yield what cannot be sent."""
        yield object()


@pytest.fixture
def shop() -> Iterator[rpc.Client]:
    """Client of a shop, which calls a billing service."""
    service = Shop()
    with rpc.Server(Billing(), FREE) as billing, rpc.Client(*billing.endpoints) as client:
        service.billing, service.endpoint = client, billing.endpoints[0]
        with rpc.Server(service, FREE) as server, rpc.Client(*server.endpoints) as shop:
            yield shop


def kinds(recorder: Recorder, count: int) -> dict[tuple[str, str], Any]:
    """Return the spans by name and kind, once there are so many."""
    wait_for(lambda: len(recorder.queue) >= count, lambda: recorder.spans)
    return {(span.name, {2: "server", 3: "client"}.get(span.kind, "other")): span for span in recorder.spans}


@pytest.mark.parametrize("method", ["buy", "order"])
def test_a_tree_leads_through_three_processes(recorder: Recorder, shop: rpc.Client, method: str) -> None:
    """Client and server spans of nested calls are children of one another."""
    with ztrace.span("root"):
        assert shop.call(method) == "visa:1"
    found = kinds(recorder, 5)
    calls = [(name, end) for name in ("charge", method) for end in ("server", "client")]
    for child, parent in pairwise([*calls, ("root", "other")]):
        assert found[child].parent_id == found[parent].span_id
        assert found[child].trace_id == found[("root", "other")].trace_id
    client = found[(method, "client")]
    assert client.attributes["server.address"] == "127.0.0.1"
    assert client.self_ns < client.duration_ns
    # The time of a thread is no measure of a coroutine, between whose steps the thread works for others.
    assert (found[(method, "server")].cpu_ns is None) == (method == "order")


def test_the_origin_of_an_exception_is_the_innermost_span(recorder: Recorder, shop: rpc.Client) -> None:
    """An exception that passes two services is recorded once, where it was raised."""
    with pytest.raises(rpc.RemoteError):
        shop.fail()
    found = kinds(recorder, 4)
    innermost = found[("refuse", "server")]
    assert innermost.exception.type.endswith("Refused")
    assert {span.exception.origin_span_id for span in found.values()} == {innermost.span_id}
    assert {span.status for span in found.values()} == {1}


@pytest.mark.parametrize("method", ["broken", "also_broken"])
def test_a_result_that_cannot_be_sent_fails_both_spans(
    recorder: Recorder, shop: rpc.Client, method: str
) -> None:
    """Client and server agree that a result which cannot be sent is an error."""
    with pytest.raises(rpc.RemoteError) as caught:
        list(shop.call(method))
    assert "cannot be sent: a object" in str(caught.value)
    found = kinds(recorder, 2)
    assert {span.status for span in found.values()} == {1}
    assert found[(method, "client")].exception.origin_span_id == found[(method, "server")].span_id


def test_a_stream_is_one_span_at_each_end(recorder: Recorder, shop: rpc.Client) -> None:
    """A stream's spans last until its end, and tell the number of items and an early end."""
    assert len(list(shop.count(300))) == 300
    found = kinds(recorder, 2)
    assert found[("count", "client")].attributes["rpc.items"] == 300
    stream = shop.tail(10**6)
    assert next(stream) == 0
    stream.close()
    found = kinds(recorder, 4)
    assert found[("tail", "client")].attributes["rpc.stream"] == "abandoned"
    assert found[("tail", "server")].attributes["rpc.cancelled"] is True


def test_a_deadline_is_told_at_both_ends(recorder: Recorder, shop: rpc.Client) -> None:
    """A call that ends at its deadline is an error that says so, and cancelled at the server."""
    shop.echo("connected")
    kinds(recorder, 2)
    with pytest.raises(rpc.DeadlineExceeded), rpc.deadline(0.5):
        shop.wait()
    found = kinds(recorder, 4)
    assert found[("wait", "client")].attributes["rpc.deadline_exceeded"] is True
    assert {"rpc.cancelled", "rpc.deadline_exceeded"} & found[("wait", "server")].attributes.keys()
    assert {found[("wait", end)].status for end in ("client", "server")} == {1}


def test_a_cancelled_task_is_told(recorder: Recorder, shop: rpc.Client) -> None:
    """The spans of a cancelled call end, and tell of the cancellation."""

    async def run(endpoint: str) -> None:
        async with rpc.AsyncClient(endpoint) as client:
            call = asyncio.ensure_future(client.wait())
            while len(recorder.register) < 2:
                await asyncio.sleep(0.001)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    (route,) = shop._connections._pool.routes
    asyncio.run(asyncio.wait_for(run(route.endpoint), DEADLINE_S))
    found = kinds(recorder, 2)
    assert found[("wait", "client")].attributes["rpc.cancelled"] is True
    assert found[("wait", "server")].attributes["rpc.cancelled"] is True


def test_built_in_methods_are_not_traced(recorder: Recorder, shop: rpc.Client) -> None:
    """Introspection leaves no span."""
    assert shop.call("_zerorpc_ping") == ["pong", "Shop"]
    shop.echo(1)
    kinds(recorder, 2)
    assert {span.name for span in recorder.spans} == {"echo"}


def test_a_peer_of_zerorpc_gets_what_its_middleware_reads(recorder: Recorder, shop: rpc.Client) -> None:
    """The text of the reply goes to clients that send W3C trace context, and to no others."""
    source = (ROOT / "ztrace/middleware/zerorpc/calls.py").read_text()
    assert re.search(r'^REPLY_KEY = "(.*)"$', source, re.MULTILINE)[1] == wire.REPLY  # type: ignore[index]
    (route,) = shop._connections._pool.routes
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    with socket:
        socket.connect(route.endpoint)
        replies = []
        for header in ({}, {"traceparent": f"00-{'1' * 32}-{'2' * 16}-03"}):
            request = [{"message_id": "1", "v": 3, **header}, "echo", [1]]
            socket.send_multipart([b"", msgpack.packb(request)])
            assert socket.poll(10_000)
            replies.append(msgpack.unpackb(socket.recv_multipart()[-1])[0])
    assert wire.REPLY not in replies[0]
    assert re.fullmatch(r"d=\d+", replies[1][wire.REPLY])
    wait_for(lambda: len(recorder.queue) == 2)
    assert {span.parent_id for span in recorder.spans} == {None, bytes.fromhex("2" * 16)}


def test_nothing_is_recorded_unconfigured(shop: rpc.Client) -> None:
    """Without `ztrace.configure` no header has a trace context."""
    sent: list[Any] = []
    (route,) = shop._connections._pool.routes
    send = route.core._send

    def note(frames: Sequence[bytes]) -> None:
        sent.append(wire.unpack(frames[-1]))
        send(frames)

    route.core._send = note
    assert shop.echo(1) == 1
    assert set(sent[0][0]) == {"message_id", "v", "zt"}
    assert set(sent[0][0]["zt"]) == {"v", "credit", "ms"}


def test_calls_in_flight_are_published(recorder: Recorder, shop: rpc.Client) -> None:
    """Spans of a call that runs for long are published unfinished, the served one with its parent."""
    recorder.watched = OrderedDict()
    shop.echo("connected")
    kinds(recorder, 2)
    pending = shop.submit("wait")
    wait_for(lambda: len(recorder.register) == 2, lambda: recorder.register)
    for span in recorder.register:
        span.start_ns -= 2 * AGE_NS  # type: ignore[attr-defined]
    unfinished = Unfinished(recorder.register, recorder.watched)  # type: ignore[arg-type]
    unfinished.look([])
    found = {record.kind: record for record in (Span(*each) for each in unfinished.take_due([]))}
    assert found[2].parent_id == found[3].span_id
    assert {record.status for record in found.values()} == {2}
    pending.cancel()
    kinds(recorder, 4)
    assert not recorder.watched
