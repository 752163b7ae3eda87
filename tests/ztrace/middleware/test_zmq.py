"""Raw ZeroMQ: spans of calls and messages, and frames that only traced peers get."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.asyncio
from zmq.backend import Socket as BackendSocket

import ztrace
from tests.ztrace.middleware.messaging import KINDS, Sockets, echo, of_kind, receive_raw, serving, waited
from tests.ztrace.recording import Recorder
from tests.ztrace.waiting import DEADLINE_S, wait_for
from ztrace.context import get_current
from ztrace.middleware import carriers, replies
from ztrace.middleware.zmq import peers
from ztrace.middleware.zmq.frames import MARKER, take_text
from ztrace.records import ERROR, Span


def test_a_reply_makes_the_peer_known(sockets: Sockets, recorder: Recorder) -> None:
    """The first request is marked as not joined; those after it are in one tree with their service."""
    rep, req = sockets.pair(zmq.REP, zmq.REQ)
    with serving(lambda: echo(rep), 2):
        for _ in range(2):
            with ztrace.span("caller"):
                req.send(b"a")
                assert req.recv() == b"a"
    first, second = of_kind(recorder, "client")
    alone, joined = of_kind(recorder, "server")
    assert first.attributes is not None
    assert first.attributes["zeromq.unjoined"] == "peer not known"
    assert alone.parent_id is None
    assert second.attributes is not None
    assert set(second.attributes) == {"rpc.system.name", "server.address", "server.port"}
    assert (joined.trace_id, joined.parent_id) == (second.trace_id, second.span_id)
    assert joined.attributes == {"rpc.system.name": "zeromq"}
    assert [span.name for span in (second, joined)] == ["request", "request"]
    assert waited(second)
    assert (second.duration_ns or 0) - (second.self_ns or 0) == joined.duration_ns
    works = [span for span in recorder.spans if span.name == "work"]
    assert [span.parent_id for span in works] == [alone.span_id, joined.span_id]


def test_an_error_is_the_one_being_handled(sockets: Sockets, recorder: Recorder) -> None:
    """A reply that is sent in an `except` clause ends the server span with the exception."""
    rep, req = sockets.pair(zmq.REP, zmq.REQ)
    ztrace.carry(req, name="spell")
    with serving(lambda: echo(rep), 1):
        req.send(b"bad")
        assert req.recv() == b"error"
    (server,) = of_kind(recorder, "server")
    (client,) = of_kind(recorder, "client")
    assert (server.name, server.status, server.parent_id) == ("spell", ERROR, client.span_id)
    assert record_of_kind(server) == "no such word"
    assert client.status != ERROR


def record_of_kind(span: Span) -> object:
    """Return the message of the exception in a span."""
    assert span.exception is not None
    return span.exception[1]


def test_a_socket_carries_whenever_the_program_asks(sockets: Sockets, recorder: Recorder) -> None:
    """A socket may be named before it connects: the program uses it, and not ztrace."""
    pull, endpoint = sockets.bind(zmq.PULL)
    push = ztrace.carry(sockets.make(zmq.PUSH), name="resize")
    push.connect(endpoint)
    push.send(b"image")
    pull.recv()
    pull.close()
    sent, received = recorder.spans
    assert (sent.name, received.name, received.parent_id) == ("resize", "resize", sent.span_id)


def test_an_error_handled_before_is_not_the_replys(sockets: Sockets, recorder: Recorder) -> None:
    """A server whose whole loop runs in an `except` clause has no error in every reply."""
    rep, req = sockets.pair(zmq.REP, zmq.REQ)

    def serve() -> None:
        try:
            raise KeyError("no configuration")
        except KeyError:
            rep.send(rep.recv())

    with serving(serve):
        req.send(b"a")
        req.recv()
    (server,) = of_kind(recorder, "server")
    assert server.status != ERROR


@pytest.mark.parametrize("copy", [True, False])
def test_frame_by_frame(sockets: Sockets, recorder: Recorder, copy: bool) -> None:
    """Messages sent and received frame by frame are joined, and every frame arrives as it was sent."""
    rep, req = sockets.pair(zmq.REP, zmq.REQ)
    ztrace.carry(req)

    def serve() -> None:
        parts = [rep.recv(copy=copy)]
        while rep.rcvmore:
            parts.append(rep.recv(copy=copy))
        for part in parts[:-1]:
            rep.send(part, zmq.SNDMORE)
        rep.send(parts[-1])

    with serving(serve, 2):
        for _ in range(2):
            req.send(b"a", zmq.SNDMORE)
            req.send(b"", zmq.SNDMORE)
            req.send(b"c", copy=copy)
            assert req.recv_multipart() == [b"a", b"", b"c"]
    clients, servers = of_kind(recorder, "client"), of_kind(recorder, "server")
    assert [span.parent_id for span in servers] == [span.span_id for span in clients]


def test_receiving_into_a_buffer(sockets: Sockets, recorder: Recorder) -> None:
    """A buffer gets the content, and not the frame before it."""
    if zmq.pyzmq_version_info() < (26, 4):  # It has no such method, and is given none.
        assert not hasattr(zmq.Socket, "recv_into")
        return
    rep, req = sockets.pair(zmq.REP, zmq.REQ)
    ztrace.carry(req)
    buffer = bytearray(200)

    def serve() -> None:
        rep.send(bytes(buffer[: rep.recv_into(buffer)]))

    with serving(serve):
        req.send_json([1, 2])
        assert req.recv_json() == [1, 2]
    (server,), (client,) = of_kind(recorder, "server"), of_kind(recorder, "client")
    assert server.parent_id == client.span_id


def test_a_dealer_with_one_rep(sockets: Sockets, recorder: Recorder) -> None:
    """A DEALER joins its messages once its REP has replied."""
    rep, dealer = sockets.pair(zmq.REP, zmq.DEALER)
    with serving(lambda: echo(rep), 2):
        for _ in range(2):
            dealer.send_multipart([b"", b"a"])
            assert dealer.recv_multipart() == [b"", b"a"]
    (producer,) = of_kind(recorder, "producer")
    assert [span.parent_id for span in of_kind(recorder, "server")] == [None, producer.span_id]


@pytest.mark.parametrize(
    ("bound", "connected", "frames"),
    [
        (zmq.PULL, zmq.PUSH, [b"a"]),
        (zmq.PULL, zmq.PUSH, [b"a", b"b"]),
        (zmq.DEALER, zmq.DEALER, [b"a", b"", b"c"]),
        (zmq.PAIR, zmq.PAIR, [b"a"]),
        (zmq.SUB, zmq.PUB, [b"topic only"]),
        (zmq.SUB, zmq.PUB, [b"topic", b"a"]),
        (zmq.SUB, zmq.PUB, [b"topic", b"", b"c"]),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_messages_that_carry_context(
    sockets: Sockets, recorder: Recorder, bound: int, connected: int, frames: list[bytes], whole: bool
) -> None:
    """A consumer is a child of its producer and linked to it, and is current until the next receive."""
    receiver, sender = sockets.pair(bound, connected)
    ztrace.carry(sender, name=lambda sent: sent[0].decode())
    if bound == zmq.SUB:
        receiver.subscribe(b"")
        wait_for(lambda: sender.send(b"hello") or receiver.poll(5))
        while receiver.poll(20):
            receiver.recv_multipart()
        receiver.unsubscribe(b"")
        receiver.subscribe(b"topic")
        wait_for(lambda: sender.send(b"topic") or receiver.poll(5))
        while receiver.poll(20):
            receiver.recv_multipart()
        recorder.queue.clear()
    with ztrace.span("sender"):
        sender.send_multipart(frames)
    if whole:
        assert receiver.recv_multipart() == frames
    else:
        for number, frame in enumerate(frames, 1):
            assert receiver.recv() == frame
            assert bool(receiver.getsockopt(zmq.RCVMORE)) == (number < len(frames))
    with ztrace.span("work"):
        pass
    with pytest.raises(zmq.Again):
        receiver.recv(zmq.NOBLOCK)
    with ztrace.span("after"):
        pass
    spans = {KINDS[span.kind]: span for span in recorder.spans}
    producer, consumer = spans["producer"], spans["consumer"]
    assert producer.name == consumer.name == frames[0].decode()
    assert consumer.parent_id == producer.span_id
    assert consumer.links == [[producer.trace_id, producer.span_id]]
    assert producer.parent_id == recorder.named("sender").span_id
    assert recorder.named("work").parent_id == consumer.span_id
    assert recorder.named("after").parent_id is None


def test_router_and_dealer(sockets: Sockets, recorder: Recorder) -> None:
    """A ROUTER gets the envelope and the content, and its reply is a message as well."""
    router, dealer = sockets.pair(zmq.ROUTER, zmq.DEALER)
    ztrace.carry(dealer, name="ask")
    ztrace.carry(router, name="answer")
    dealer.send(b"a")
    identity, content = router.recv_multipart()
    assert content == b"a"
    router.send_multipart([identity, content])
    assert dealer.recv() == b"a"
    dealer.close()
    router.close()
    asked, answered = of_kind(recorder, "producer")
    consumers = {span.name: span for span in of_kind(recorder, "consumer")}
    assert consumers["ask"].parent_id == asked.span_id
    assert answered.parent_id == consumers["ask"].span_id
    assert consumers["answer"].parent_id == answered.span_id


def test_a_message_within_a_span(sockets: Sockets, recorder: Recorder) -> None:
    """A message that is received within a span is recorded, and the span stays current."""
    pull, push = sockets.pair(zmq.PULL, zmq.PUSH)
    ztrace.carry(push)
    push.send(b"a")
    with ztrace.span("job") as job:
        pull.recv()
        assert get_current() is job
    (consumer,), (producer,) = of_kind(recorder, "consumer"), of_kind(recorder, "producer")
    assert consumer.parent_id == producer.span_id


def test_a_poller_ends_the_work_on_a_message(sockets: Sockets, recorder: Recorder) -> None:
    """Waiting for the next message is not part of the last one."""
    pull, push = sockets.pair(zmq.PULL, zmq.PUSH)
    ztrace.carry(push)
    push.send(b"a")
    pull.recv()
    assert get_current() is not None
    pull.poll(0)
    assert get_current() is None


def test_an_untraced_server_gets_no_frame(sockets: Sockets, recorder: Recorder) -> None:
    """A server without ztrace gets what the program sends, and the requests say why they are not joined."""
    rep, endpoint = sockets.bind(zmq.REP, BackendSocket)
    req = sockets.connect(zmq.REQ, endpoint)
    for _ in range(3):
        req.send(b"a")
        assert receive_raw(rep) == [b"a"]
        rep.send(b"b")
        assert req.recv() == b"b"
    reasons = [dict(span.attributes or {})["zeromq.unjoined"] for span in of_kind(recorder, "client")]
    assert reasons == ["peer not known", "peer not traced", "peer not traced"]


def test_a_traced_server_comes_back_untraced(sockets: Sockets, recorder: Recorder) -> None:
    """A connection that ends makes the peer unknown again, at the same endpoint."""
    rep, endpoint = sockets.bind(zmq.REP)
    req = sockets.connect(zmq.REQ, endpoint)
    with serving(lambda: echo(rep), 2):
        for _ in range(2):
            req.send(b"a")
            req.recv()
    assert len(of_kind(recorder, "client")) == 2
    rep.close()
    # Not by the monitor's events: asking for them would clear its descriptor.
    ended = req.__dict__["_ztrace"].peer._poll
    wait_for(lambda: ended(0))
    back, _ = sockets.bind(zmq.REP, BackendSocket, endpoint)
    for _ in range(2):
        req.send(b"a")
        assert receive_raw(back) == [b"a"]
        back.send(b"b")
        req.recv()
    back.close()
    wait_for(lambda: ended(0))
    third, _ = sockets.bind(zmq.REP, endpoint=endpoint)
    with serving(lambda: echo(third), 2):
        for _ in range(2):
            req.send(b"a")
            req.recv()
    joined = ["zeromq.unjoined" not in (span.attributes or {}) for span in of_kind(recorder, "client")]
    assert joined == [False, True, False, False, False, True]


def test_an_untraced_client_gets_no_frame(sockets: Sockets, recorder: Recorder) -> None:
    """A reply to a request without context has no frame of ztrace's."""
    rep, endpoint = sockets.bind(zmq.REP)
    req = sockets.connect(zmq.REQ, endpoint, BackendSocket)
    with serving(lambda: echo(rep), 2):
        for message, reply in ((b"a", b"a"), (b"bad", b"error")):
            req.send(message)
            assert receive_raw(req) == [reply]


@pytest.mark.parametrize("kinds", [(zmq.ROUTER, zmq.REQ), (zmq.ROUTER, zmq.DEALER), (zmq.DEALER, zmq.DEALER)])
def test_a_peer_that_may_be_a_proxy_gets_no_frame(
    sockets: Sockets, recorder: Recorder, kinds: tuple[int, int]
) -> None:
    """A ROUTER or DEALER announces itself, but what is behind it is not known."""
    server, client = sockets.pair(*kinds)
    for _ in range(3):
        client.send(b"a")
        frames = receive_raw(server)
        assert frames[-1] == b"a"
        assert not any(frame.startswith(MARKER) for frame in frames)
        server.send_multipart(frames)
        client.recv()


def test_several_peers_get_no_frame(sockets: Sockets, recorder: Recorder) -> None:
    """A REQ that connects twice does not know which peer gets the next request."""
    servers = [sockets.bind(zmq.REP) for _ in range(2)]
    req = sockets.connect(zmq.REQ, servers[0][1])
    req.connect(servers[1][1])
    for number in range(4):
        req.send(b"a")
        rep = servers[number % 2][0]
        assert receive_raw(rep) == [b"a"]
        rep.send(b"b")
        req.recv()


def test_the_programs_own_monitor(sockets: Sockets, recorder: Recorder) -> None:
    """A program that monitors a socket gets its events, and the peer is not asked."""
    rep, endpoint = sockets.bind(zmq.REP)
    req = sockets.connect(zmq.REQ, endpoint)
    with serving(lambda: echo(rep), 2):
        req.send(b"a")
        req.recv()
        monitor = req.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        req.send(b"a")
        req.recv()
    rep.close()
    assert monitor.recv_multipart()[1] == endpoint.encode()
    req.disable_monitor()
    monitor.close()
    assert all("zeromq.unjoined" in (span.attributes or {}) for span in of_kind(recorder, "client"))


def test_too_many_monitors(sockets: Sockets, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Monitors take sockets of the program's context, so there are few of them."""
    monkeypatch.setattr(peers, "MAX_MONITORS", 0)
    rep, req = sockets.pair(zmq.REP, zmq.REQ)
    with serving(lambda: echo(rep), 2):
        for _ in range(2):
            req.send(b"a")
            req.recv()
    assert all("zeromq.unjoined" in (span.attributes or {}) for span in of_kind(recorder, "client"))


def test_monitors_are_closed(sockets: Sockets, recorder: Recorder) -> None:
    """The monitor is closed with its socket, and the context terminates."""
    before = peers._monitored
    rep, req = sockets.pair(zmq.REP, zmq.REQ)
    with serving(lambda: echo(rep)):
        req.send(b"a")
        req.recv()
    assert peers._monitored == before + 1
    req.close()
    assert peers._monitored == before


def test_monitors_never_block_the_context(sockets: Sockets, recorder: Recorder) -> None:
    """Sockets that are closed while their connections end leave the context's I/O thread running."""
    for _ in range(30):
        rep, req = sockets.pair(zmq.REP, zmq.REQ)
        with serving(lambda rep=rep: echo(rep)):  # type: ignore[misc]
            req.send(b"a")
            assert req.recv() == b"a"
        rep.close()
        req.close()


def test_through_a_proxy(sockets: Sockets, recorder: Recorder) -> None:
    """Frames pass `zmq.proxy`, and the answer comes back with them."""
    front, endpoint = sockets.bind(zmq.ROUTER)
    back, behind = sockets.bind(zmq.DEALER)
    control, ours = sockets.bind(zmq.PAIR, endpoint="inproc://control")[0], None
    ours = sockets.connect(zmq.PAIR, "inproc://control")
    proxy = threading.Thread(target=zmq.proxy_steerable, args=(front, back, None, control))
    proxy.start()
    rep, req = sockets.connect(zmq.REP, behind), sockets.connect(zmq.REQ, endpoint)
    ztrace.carry(req)
    with serving(lambda: echo(rep), 2):
        for message in (b"a", b"bad"):
            req.send(message)
            req.recv()
    ours.send(b"TERMINATE")
    proxy.join(DEADLINE_S)
    servers, clients = of_kind(recorder, "server"), of_kind(recorder, "client")
    assert [span.parent_id for span in servers] == [span.span_id for span in clients]
    assert all(waited(span) for span in clients)


def test_a_request_without_a_reply(sockets: Sockets, recorder: Recorder) -> None:
    """A socket that is closed ends its spans, with the exception that is being handled."""
    _, req = sockets.pair(zmq.REP, zmq.REQ)
    BackendSocket.set(req, zmq.RCVTIMEO, 1)
    req.send(b"a")
    try:
        req.recv()
    except zmq.Again:
        req.close()
    (client,) = of_kind(recorder, "client")
    assert client.attributes is not None
    assert client.attributes["zeromq.unanswered"] is True
    assert client.status == ERROR


def test_a_request_that_cannot_be_sent(sockets: Sockets, recorder: Recorder) -> None:
    """An error of `send` is the request's, and the traceback is the program's own."""
    _, req = sockets.pair(zmq.REP, zmq.REQ)
    with pytest.raises(TypeError) as caught:
        req.send("text")
    assert "sockets.py" not in [Path(entry.path).name for entry in caught.traceback]
    (client,) = of_kind(recorder, "client")
    assert client.status == ERROR


def test_a_reply_that_cannot_be_sent(sockets: Sockets, recorder: Recorder) -> None:
    """A failed reply leaves the server span open for the next one."""
    rep, req = sockets.pair(zmq.REP, zmq.REQ)

    def serve() -> None:
        rep.recv()
        try:
            rep.send("text")
        except TypeError:
            rep.send(b"error")

    with serving(serve):
        req.send(b"a")
        assert req.recv() == b"error"
    (server,) = of_kind(recorder, "server")
    assert server.status == ERROR
    assert get_current() is None


@pytest.mark.parametrize("forged", [b"", b"00-x", b"\xff" * 100, b"x" * 1_000_000])
def test_forged_frames(sockets: Sockets, counts: dict[str, int], forged: bytes) -> None:
    """A forged context or reply is taken out and counted, and the call goes on."""
    rep, req = sockets.pair(zmq.REP, zmq.REQ)
    BackendSocket.send(req, MARKER + forged, zmq.SNDMORE)
    BackendSocket.send(req, b"a")
    assert rep.recv_multipart() == [b"a"]
    BackendSocket.send(rep, MARKER + b"d=" + forged, zmq.SNDMORE)
    BackendSocket.send(rep, b"b")
    req.__dict__["_ztrace"].before_send(req, [b""])
    assert req.recv() == b"b"
    rep.close()
    assert counts.pop(carriers.UNREADABLE, 0) == (1 if forged else 0)
    assert counts.pop(replies.UNREADABLE) == 1
    assert counts == {}


@pytest.mark.parametrize("kind", [zmq.REQ, zmq.PUSH])
def test_a_forged_frame_alone(sockets: Sockets, recorder: Recorder, kind: int) -> None:
    """A message that is nothing but a frame like ztrace's is the program's."""
    receiver, sender = sockets.pair(zmq.REP if kind == zmq.REQ else zmq.PULL, kind)
    for receive in (receiver.recv, lambda: receiver.recv_multipart()[0]):
        BackendSocket.send(sender, MARKER + b"00-x")
        assert receive() == MARKER + b"00-x"
        if kind == zmq.REQ:
            receiver.send(b"b")
            sender.recv()


def test_a_name_that_fails(sockets: Sockets, counts: dict[str, int], recorder: Recorder) -> None:
    """A function for names that raises is counted, and the message has the default name."""
    pull, push = sockets.pair(zmq.PULL, zmq.PUSH)
    ztrace.carry(push, name=lambda frames: frames[7])
    push.send(b"a")
    assert pull.recv() == b"a"
    pull.close()
    assert counts.pop("zmq") == 1
    assert {span.name for span in recorder.spans} == {"message"}


@pytest.mark.parametrize("cls", [zmq.Socket, zmq.asyncio.Socket])
def test_carrying_from_the_start(sockets: Sockets, recorder: Recorder, cls: Any) -> None:
    """A socket that is named before it is connected carries context from its first message on."""

    async def main() -> None:
        pull, endpoint = sockets.bind(zmq.PULL)
        push = sockets.make(zmq.PUSH, cls)
        assert ztrace.carry(push, name="first") is push
        push.connect(endpoint)
        sent = push.send(b"a")
        if sent is not None:
            await sent
        assert pull.recv() == b"a"
        pull.close()

    run(main)
    assert [span.name for span in of_kind(recorder, "consumer")] == ["first"]


def test_unconfigured(sockets: Sockets, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent while nothing is recorded, and frames of others are still taken out."""
    monkeypatch.setattr("ztrace.spans.publisher", None)
    rep, req = sockets.pair(zmq.REP, zmq.REQ)
    ztrace.carry(req)
    req.send(b"a")
    assert receive_raw(rep) == [b"a"]
    BackendSocket.send(rep, MARKER + b"d=1", zmq.SNDMORE)
    BackendSocket.send(rep, b"b")
    assert req.recv() == b"b"


def test_frames_of_ztrace_are_found_at_their_places() -> None:
    """Only the first, the last two and the one behind an envelope are looked at; content is never empty."""
    ours = MARKER + b"d=1"
    assert take_text([ours, b"a"]) == ([b"a"], b"d=1")
    assert take_text([b"a", ours]) == ([b"a"], b"d=1")
    assert take_text([b"x", b"", ours, b"a", b"b", b"c"]) == ([b"x", b"", b"a", b"b", b"c"], b"d=1")
    assert take_text([b"x", b"y", ours, b"a", b"b"]) == ([b"x", b"y", ours, b"a", b"b"], None)
    assert take_text([b"", b"x", ours, b"a"]) == ([b"", b"x", b"a"], b"d=1")
    assert take_text([ours]) == ([ours], None)
    assert take_text([b"", b""]) == ([b"", b""], None)
    assert take_text([ours, ours, b"a"]) == ([b"a"], b"d=1")


def run(main: Callable[[], Any]) -> None:
    """Run a coroutine in a new loop."""
    asyncio.run(asyncio.wait_for(main(), DEADLINE_S))


@pytest.mark.parametrize("how", ["recv", "recv_multipart", "recv_json", "wait_for", "poll"])
def test_asyncio(sockets: Sockets, recorder: Recorder, how: str) -> None:
    """A request is current in the task that awaits it, and its reply ends the span."""

    async def receive(socket: Any) -> None:
        if how == "poll":
            await socket.poll()
            await socket.recv()
        elif how == "wait_for":
            await asyncio.wait_for(socket.recv(), DEADLINE_S)
        else:
            await getattr(socket, how)()

    async def main() -> None:
        rep, req = sockets.pair(zmq.REP, zmq.REQ, zmq.asyncio.Socket)
        ztrace.carry(req)

        async def serve() -> None:
            for number in range(2):
                await receive(rep)
                with ztrace.span("work"):
                    await asyncio.sleep(0)
                try:
                    if number:
                        raise ValueError("no")
                    await rep.send_json(1)
                except ValueError:
                    await rep.send_multipart([b"1"])

        server = asyncio.ensure_future(serve())
        for _ in range(2):
            with ztrace.span("caller"):
                await req.send_json(1)
                await receive(req)
        await server
        assert get_current() is None

    run(main)
    clients, servers = of_kind(recorder, "client"), of_kind(recorder, "server")
    assert [span.parent_id for span in servers] == [span.span_id for span in clients]
    assert [span.status == ERROR for span in servers] == [False, True]
    assert all(waited(span) for span in clients)
    works = [span for span in recorder.spans if span.name == "work"]
    assert [span.parent_id for span in works] == [span.span_id for span in servers]


def test_asyncio_negotiates(sockets: Sockets, recorder: Recorder) -> None:
    """An asyncio REQ knows its peer from the first reply on, and messages carry context too."""

    async def main() -> None:
        rep, req = sockets.pair(zmq.REP, zmq.REQ, zmq.asyncio.Socket)
        pull, push = sockets.pair(zmq.PULL, zmq.PUSH, zmq.asyncio.Socket)
        ztrace.carry(push)
        for _ in range(2):
            await req.send(b"a")
            await rep.recv()
            await rep.send(b"b")
            await req.recv()
        await push.send_multipart([b"a", b"b"])
        assert await pull.recv_multipart() == [b"a", b"b"]
        with ztrace.span("work"):
            pass
        pull.close()

    run(main)
    clients, servers = of_kind(recorder, "client"), of_kind(recorder, "server")
    assert [span.parent_id for span in servers] == [None, clients[1].span_id]
    (consumer,), (producer,) = of_kind(recorder, "consumer"), of_kind(recorder, "producer")
    assert consumer.parent_id == producer.span_id
    assert recorder.named("work").parent_id == consumer.span_id
