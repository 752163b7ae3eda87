"""Raw ZeroMQ sockets with several peers: ROUTERs that answer, DEALERs, and endpoints that are listed."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.asyncio

import ztrace
from tests.ztrace.middleware.messaging import Sockets, echo, of_kind, serving, waited
from tests.ztrace.programs import run_program
from tests.ztrace.receiving import Receiver
from tests.ztrace.recording import Recorder
from tests.ztrace.waiting import DEADLINE_S
from ztrace.context import get_current
from ztrace.middleware.zmq import endpoints, routers
from ztrace.records import ERROR, Span


def ask(sockets: Sockets, endpoint: str, *frames: bytes, name: str | None = None) -> Any:
    """Send a request with context, and return the REQ."""
    req = sockets.make(zmq.REQ)
    ztrace.carry(req, name=name)
    req.connect(endpoint)
    req.send_multipart(frames)
    return req


def pairs(recorder: Recorder) -> list[tuple[Span, Span]]:
    """Return each server span with its client span, in the order in which the servers ended."""
    clients = {span.span_id: span for span in of_kind(recorder, "client")}
    return [(span, clients[span.parent_id or b""]) for span in of_kind(recorder, "server")]


@pytest.mark.parametrize("frames", [(b"a",), (b"a", b"b"), (b"a", b"", b"c", b"d")])
@pytest.mark.parametrize("copy", [True, False])
def test_a_router_that_answers_is_a_server(
    sockets: Sockets, recorder: Recorder, frames: tuple[bytes, ...], copy: bool
) -> None:
    """A request of a REQ has a server span at the ROUTER, until the reply to the same peer."""
    router, endpoint = sockets.bind(zmq.ROUTER)
    req = ask(sockets, endpoint, *frames, name="spell")
    message = router.recv_multipart(copy=copy)
    assert [bytes(frame if copy else frame.bytes) for frame in message[1:]] == [b"", *frames]
    with ztrace.span("work"):
        pass
    router.send_multipart(message, copy=copy)
    assert get_current() is None
    assert req.recv_multipart() == list(frames)
    ((server, client),) = pairs(recorder)
    assert (server.name, client.name, server.attributes) == ("spell", "spell", {"rpc.system.name": "zeromq"})
    assert waited(client)
    assert (client.duration_ns or 0) - (client.self_ns or 0) == server.duration_ns
    assert recorder.named("work").parent_id == server.span_id


def test_a_router_has_many_requests_at_a_time(sockets: Sockets, recorder: Recorder) -> None:
    """Requests are current one after the other, and end with their replies in any order."""
    router, endpoint = sockets.bind(zmq.ROUTER)
    clients, messages = [], []
    for number in range(3):
        clients.append(ask(sockets, endpoint, b"%d" % number))
        messages.append(router.recv_multipart())
        with ztrace.span(f"work {number}"):
            pass
    router.poll(0)
    assert get_current() is None
    for message in reversed(messages):
        try:
            if message[-1] == b"1":
                raise ValueError("no such word")
            router.send_multipart(message)
        except ValueError:
            # Frame by frame, as the reply may be too.
            router.send(message[0], zmq.SNDMORE)
            router.send(b"", zmq.SNDMORE)
            router.send(b"error")
    assert [client.recv() for client in clients] == [b"0", b"error", b"2"]
    ended = pairs(recorder)
    assert all(waited(client) for _, client in ended)
    assert [server.status == ERROR for server, _ in ended] == [False, True, False]
    assert [server.cpu_ns is None for server, _ in ended] == [True, True, True]
    works = [span.parent_id for span in recorder.spans if span.name.startswith("work")]
    assert works == [server.span_id for server, _ in reversed(ended)]
    assert {server.name for server, _ in ended} == {"request"}


def test_requests_that_a_router_does_not_answer(
    sockets: Sockets, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket keeps few requests, and the last ones end when it is closed."""
    monkeypatch.setattr(routers, "MAX_OPEN", 1)
    router, endpoint = sockets.bind(zmq.ROUTER)
    for _ in range(2):
        ask(sockets, endpoint, b"a")
        router.recv_multipart()
    assert len(of_kind(recorder, "server")) == 1
    router.close()
    servers = of_kind(recorder, "server")
    assert [(span.attributes or {}).get("zeromq.unanswered") for span in servers] == [True, True]


def test_a_router_within_a_span(sockets: Sockets, recorder: Recorder) -> None:
    """A request that is received within a span does not become current, and its span lasts to the reply."""
    router, endpoint = sockets.bind(zmq.ROUTER)
    req = ask(sockets, endpoint, b"a")
    with ztrace.span("job") as job:
        message = router.recv_multipart()
        assert get_current() is job
        router.send_multipart(message)
        assert get_current() is job
    req.recv()
    ((_, client),) = pairs(recorder)
    assert waited(client)


def test_an_asyncio_router(sockets: Sockets, recorder: Recorder) -> None:
    """A task that serves a request has the request's span current, and ends it by its reply."""

    async def main() -> None:
        router, endpoint = sockets.bind(zmq.ROUTER, zmq.asyncio.Socket)

        async def serve(message: list[bytes]) -> None:
            with ztrace.span("work", content=message[-1]):
                await asyncio.sleep(0)
            await router.send_multipart(message)

        clients = [ask(sockets, endpoint, b"%d" % number, b"more") for number in range(3)]
        tasks = [asyncio.ensure_future(serve(await router.recv_multipart())) for _ in clients]
        await asyncio.gather(*tasks)
        for number, client in enumerate(clients):
            assert client.recv_multipart() == [b"%d" % number, b"more"]

    asyncio.run(asyncio.wait_for(main(), DEADLINE_S))
    ended = pairs(recorder)
    assert len(ended) == 3
    assert all(waited(client) for _, client in ended)
    works = {span.parent_id for span in recorder.spans if span.name == "work"}
    assert works == {server.span_id for server, _ in ended}


def test_a_proxy_in_python(sockets: Sockets, recorder: Recorder) -> None:
    """A program that passes messages on by itself is part of the tree, if its own sockets carry context."""
    front, endpoint = sockets.bind(zmq.ROUTER)
    back, behind = sockets.bind(zmq.DEALER)
    ztrace.carry(back, name="pass on")
    rep = sockets.connect(zmq.REP, behind)
    with serving(lambda: echo(rep)):
        req = ask(sockets, endpoint, b"a")
        back.send_multipart(front.recv_multipart())
        front.send_multipart(back.recv_multipart())
        assert req.recv() == b"a"
    (client,), (producer,) = of_kind(recorder, "client"), of_kind(recorder, "producer")
    # Either thread may be the first to end its span.
    server = {span.parent_id: span for span in of_kind(recorder, "server")}
    assert server.keys() == {client.span_id, producer.span_id}
    assert producer.parent_id == server[client.span_id].span_id
    assert waited(client)


def test_a_dealer_with_several_peers(sockets: Sockets, recorder: Recorder) -> None:
    """A named DEALER joins its messages at each of its peers, and all frames of the replies arrive."""
    servers = [sockets.bind(zmq.REP) for _ in range(2)]
    dealer = sockets.make(zmq.DEALER)
    ztrace.carry(dealer, name="ask")
    for _, endpoint in servers:
        dealer.connect(endpoint)
    for rep, _ in servers:
        dealer.send_multipart([b"", b"a", b"b"])
        parts = [rep.recv()]
        while rep.rcvmore:
            parts.append(rep.recv())
        rep.send_multipart([*parts, b"c"])
        assert dealer.recv_multipart() == [b"", b"a", b"b", b"c"]
    producers, consumers = of_kind(recorder, "producer"), of_kind(recorder, "server")
    assert [span.parent_id for span in consumers] == [span.span_id for span in producers]
    assert {span.name for span in consumers} == {"ask"}


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the listed endpoints, which are none again after the test."""
    names: dict[str, Any] = {}
    monkeypatch.setattr(endpoints, "_names", names)
    return names


def test_sockets_of_listed_endpoints_carry(
    sockets: Sockets, recorder: Recorder, listed: dict[str, Any]
) -> None:
    """A socket whose endpoints are all listed carries context; one with another endpoint does not."""
    (first, one), (second, other) = (sockets.bind(zmq.PULL) for _ in range(2))
    assert ztrace.carry([one], name="resize") == [one]
    push = sockets.connect(zmq.PUSH, one)
    push.send(b"a")
    assert first.recv() == b"a"
    push.connect(other)
    for _ in range(2):
        push.send(b"b")
    assert (first.recv(), second.recv()) == (b"b", b"b")
    first.close()
    (producer,), (consumer,) = of_kind(recorder, "producer"), of_kind(recorder, "consumer")
    assert (producer.name, consumer.parent_id) == ("resize", producer.span_id)


def test_a_named_socket_carries_wherever_it_connects(
    sockets: Sockets, recorder: Recorder, listed: dict[str, Any]
) -> None:
    """A list of endpoints changes nothing for sockets that the program names."""
    pull, endpoint = sockets.bind(zmq.PULL)
    ztrace.carry([endpoint], name="listed")
    push = ztrace.carry(sockets.make(zmq.PUSH), name="named")
    push.connect(endpoint)
    push.send(b"a")
    pull.recv()
    pull.close()
    assert {span.name for span in recorder.spans} == {"named"}


@pytest.mark.process
def test_endpoints_in_the_environment(receiver: Receiver, tmp_path: Path) -> None:
    """ZTRACE_ZMQ_CARRY lists endpoints for a program that is not changed."""
    endpoint = f"ipc://{tmp_path}/pull"
    code = """
import sys, ztrace
ztrace.configure("one", sys.argv[1])
ztrace.instrument()
import zmq
context = zmq.Context()
pull, push = context.socket(zmq.PULL), context.socket(zmq.PUSH)
pull.bind(sys.argv[2])
push.connect(sys.argv[2])
push.send(b"a")
print(pull.recv())
pull.close(); push.close(); context.term()
"""
    done = run_program(code, receiver.endpoint, endpoint, ZTRACE_ZMQ_CARRY=f"tcp://127.0.0.1:1, {endpoint}")
    assert (done.stdout, done.stderr) == ("b'a'\n", "")
    sent, received = sorted(receiver.spans, key=lambda span: span.kind)
    assert received.parent_id == sent.span_id
