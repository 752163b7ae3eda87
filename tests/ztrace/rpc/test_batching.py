"""Items of a stream that share an event, without sockets."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ztrace.rpc.test_core import VALUES, Server, is_balanced
from ztrace.rpc import failures, wire
from ztrace.rpc.core import batching
from ztrace.rpc.core.calling import Call, ClientCore
from ztrace.rpc.core.serving import Served

OWN = {"v": 1, "credit": 100}


def batched() -> tuple[Server, list[Served]]:
    """Return a server that batches, and the streams that it was asked to send soon."""
    server, soon = Server(), list[Served]()
    server.core.send_soon = soon.append
    return server, soon


def names(server: Server) -> list[str]:
    """Return the names of the events that were sent."""
    return [event[1] for _, event in server.sent]


def test_items_share_an_event_until_they_are_sent() -> None:
    """The first item goes alone, with the credit; later ones wait for one another, and go before the end."""
    server, soon = batched()
    call = server.open(zt=OWN)
    for item in range(4):
        server.core.put(call, item)
    assert names(server) == [wire.STREAM]
    assert server.last[0][wire.OWN]["credit"] == 100
    assert soon == [call]
    server.core.send_batch(call)
    assert server.last[1:] == [wire.ITEMS, [1, 2, 3]]
    server.core.put(call, 4)
    server.core.finish(call)
    assert [event[1:] for _, event in server.sent[-2:]] == [[wire.ITEMS, [4]], [wire.STREAM_DONE, None]]
    server.core.send_batch(call)
    assert names(server)[-1] == wire.STREAM_DONE


@pytest.mark.parametrize("own", [None, {}, {"v": 0, "credit": 100}, {"credit": 100}])
def test_other_clients_get_each_item_by_itself(own: dict[str, Any] | None) -> None:
    """A client that has not shown that it knows shared events gets none."""
    server, soon = batched()
    call = server.open(**({} if own is None else {"zt": own}))
    call.credit = 100
    for item in range(3):
        server.core.put(call, item)
    assert (names(server), soon) == ([wire.STREAM] * 3, [])


def test_a_full_event_is_sent_at_once() -> None:
    """An event holds a bounded number of items and of bytes, and a large item has its own."""
    server, _ = batched()
    call = server.open(zt={"v": 1, "credit": 1000})
    for item in range(1 + 2 * batching.MAX_ITEMS):
        server.core.put(call, item)
    assert [len(event[2]) for _, event in server.sent[1:]] == [batching.MAX_ITEMS] * 2
    for data in (b"small", bytes(2 * batching.MAX_BYTES), b"last"):
        server.core.put(call, data)
    server.core.send_batch(call)
    assert [[len(item) for item in event[2]] for _, event in server.sent[3:]] == [
        [5],
        [2 * batching.MAX_BYTES],
        [4],
    ]


def test_a_failure_comes_after_the_items_before_it() -> None:
    """Items that wait are sent before the exception; a cancelled stream sends none."""
    server, _ = batched()
    call = server.open(zt=OWN)
    for item in range(3):
        server.core.put(call, item)
    with pytest.raises(TypeError, match="an item of echo cannot be sent: a object"):
        server.core.put(call, object())
    server.core.fail(call, failures.describe(ValueError("bad")))
    assert names(server) == [wire.STREAM, wire.ITEMS, wire.ERR]
    other = server.open(message_id=b"2", zt=OWN)
    server.core.put(other, 0)
    server.core.put(other, 1)
    server.core.cancel(other, "cancelled")
    server.core.send_batch(other)
    assert names(server)[-1] == wire.STREAM
    assert is_balanced(server.core)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(VALUES, max_size=70), max_size=4))
def test_a_client_reads_what_was_put(turns: list[list[Any]]) -> None:
    """Whatever the turns in which items are sent, the client has the same in order, within its credit."""
    server, _ = batched()
    client = ClientCore(lambda frames: server.core.receive([b"peer", *frames], 0.0))
    call = Call("echo")
    client.open(call, [1], 0.0)
    served = server.started[-1]
    got: list[Any] = []

    def read() -> None:
        for _, event in server.sent:
            client.receive([b"", wire.make_packer()(event)], 0.0)
        server.sent.clear()
        while call.items:
            got.append(client.take(call))

    for turn in turns:
        for item in turn:
            if served.credit <= 0:
                server.core.send_batch(served)
                read()
            server.core.put(served, item)
        server.core.send_batch(served)
        read()
    server.core.finish(served)
    read()
    assert repr(got) == repr([item for turn in turns for item in turn])
    assert call.done
    assert is_balanced(client)
    assert is_balanced(server.core)


def test_more_items_than_granted_end_the_call() -> None:
    """A server that sends far more in an event than was granted is cancelled, and one of no array ignored."""
    sent: list[Any] = []
    client = ClientCore(lambda frames: sent.append(wire.unpack(frames[-1])))
    call = Call("echo")
    client.open(call, [], 0.0)
    pack = wire.make_packer()
    for args in (5, None, list(range(1000))):
        client.receive([b"", pack([{"response_to": call.id}, wire.ITEMS, args])], 0.0)
    assert "more items than it was granted" in str(call.error)
    assert sent[-1][1] == wire.CANCEL
