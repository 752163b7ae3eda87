"""Clients and a server by their cores, over a network that is played: it delays, damages and breaks.

No call is lost: each ends once, as answered, failed or cancelled, and a stream's items come in order, without
a gap, and never more at once than the client has room for.
"""

from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ztrace.rpc import failures, wire
from ztrace.rpc.core.calling import Call, ClientCore
from ztrace.rpc.core.serving import Served, ServerCore

PERIOD_S = 5.0
CLIENTS = (b"a", b"b")


class Caller(Call):
    """Call that counts its ends, and keeps the items that were read."""

    __slots__ = ("argument", "ends", "read", "streams")

    def __init__(self, argument: int, streams: bool, slots: int) -> None:
        super().__init__("items" if streams else "value", slots)
        self.argument, self.streams = argument, streams
        self.read: list[int] = []
        self.ends = 0

    def wake(self) -> None:
        """Count the end."""
        self.ends += self.done


class Network(RuleBasedStateMachine):
    """Server, clients, and the messages between them."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 100.0
        self.up: dict[bytes, deque[bytes]] = {peer: deque() for peer in CLIENTS}
        self.down: dict[bytes, deque[bytes]] = {peer: deque() for peer in CLIENTS}
        self.clients = {peer: ClientCore(partial(self.ask, peer), heartbeat_s=PERIOD_S) for peer in CLIENTS}
        self.started: dict[bytes, list[int]] = {}
        self.open: list[Served] = []
        self.server = ServerCore(self.reply, self.start, self.stop, heartbeat_s=PERIOD_S)
        self.calls: list[tuple[bytes, Caller]] = []

    def ask(self, peer: bytes, frames: Sequence[bytes]) -> None:
        """Put a message of a client on its way."""
        self.up[peer].append(frames[-1])

    def reply(self, frames: Any) -> None:
        """Put a message of the server on its way."""
        self.down[frames[0]].append(frames[-1])

    def start(self, call: Served) -> None:
        """Begin to serve a call, which must not have been served before."""
        key = bytes(call.id) if isinstance(call.id, bytes) else b""
        assert key not in self.started
        self.started[key] = [0]
        self.open.append(call)

    def stop(self, call: Served) -> None:
        """Stop serving a call."""
        self.open.remove(call)

    @rule(
        peer=st.sampled_from(CLIENTS),
        argument=st.integers(0, 12),
        streams=st.booleans(),
        slots=st.sampled_from([2, 4, 100]),
        timeout_s=st.none() | st.floats(0.5, 20.0),
    )
    def call(self, peer: bytes, argument: int, streams: bool, slots: int, timeout_s: float | None) -> None:
        """A client calls a method."""
        caller = Caller(argument, streams, slots)
        if timeout_s is not None:
            caller.deadline_s = self.now_s + timeout_s
        self.clients[peer].open(caller, [argument], self.now_s)
        self.calls.append((peer, caller))

    @rule(peer=st.sampled_from(CLIENTS), most=st.sampled_from([1, 100]))
    def deliver_requests(self, peer: bytes, most: int) -> None:
        """Messages of a client arrive."""
        for _ in range(min(most, len(self.up[peer]))):
            self.server.receive([peer, b"", self.up[peer].popleft()], self.now_s)

    @rule(peer=st.sampled_from(CLIENTS), most=st.sampled_from([100, 1]))
    def deliver_replies(self, peer: bytes, most: int) -> None:
        """Messages of the server arrive."""
        for _ in range(min(most, len(self.down[peer]))):
            self.clients[peer].receive([b"", self.down[peer].popleft()], self.now_s)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), fails=st.sampled_from([False, False, True]))
    def work(self, data: st.DataObject, fails: bool) -> None:
        """A method goes on: it returns, raises, or yields as many items as there is room for."""
        self.go_on(self.open[data.draw(st.integers(0, len(self.open) - 1))], fails)

    def go_on(self, call: Served, fails: bool = False) -> None:
        """Continue a method until it ends, or has to wait."""
        if call.name == "items":
            assert isinstance(call.id, bytes)
            progress = self.started[call.id]
            while progress[0] < call.args[0] and call.credit > 0:
                self.server.put(call, progress[0])
                progress[0] += 1
            if progress[0] < call.args[0] or call.credit <= 0:
                return
        self.open.remove(call)
        if fails:
            self.server.fail(call, failures.describe(ValueError("x")))
        elif call.name == "items":
            self.server.finish(call)
        else:
            self.server.answer(call, call.args[0])

    @rule()
    def turn(self) -> None:
        """All messages arrive, and all methods go on."""
        for peer in CLIENTS:
            self.deliver_requests(peer, 1000)
        for call in list(self.open):
            self.go_on(call)
        for peer in CLIENTS:
            self.deliver_replies(peer, 1000)

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), most=st.sampled_from([1, 5, 100]))
    def read(self, data: st.DataObject, most: int) -> None:
        """A caller reads some items of its stream."""
        peer, caller = self.calls[data.draw(st.integers(0, len(self.calls) - 1))]
        self.take(peer, caller, most)

    def take(self, peer: bytes, caller: Caller, most: int) -> None:
        """Have a caller read items."""
        for _ in range(min(most, len(caller.items or ()))):
            caller.read.append(self.clients[peer].take(caller))

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """A caller stops waiting."""
        peer, caller = self.calls[data.draw(st.integers(0, len(self.calls) - 1))]
        if not caller.done:
            self.clients[peer].cancel(caller)
            caller.ends += 1

    @rule(data=st.data(), peer=st.sampled_from(CLIENTS), replies=st.booleans())
    def damage(self, data: st.DataObject, peer: bytes, replies: bool) -> None:
        """The end of a request or of a reply is cut off."""
        messages = (self.down if replies else self.up)[peer]
        whole = [number for number, each in enumerate(messages) if is_damageable(each)]
        if whole:
            number = data.draw(st.sampled_from(whole))
            messages[number] = messages[number][:-1]

    @rule(peer=st.sampled_from(CLIENTS))
    def break_connection(self, peer: bytes) -> None:
        """A connection breaks, which both ends notice, and loses what is on the way."""
        self.up[peer].clear()
        self.down[peer].clear()
        self.clients[peer].lose("gone")
        self.server.drop_peer(peer)

    @rule(passed_s=st.sampled_from([0.1, 1.0, PERIOD_S + 1.0, 20.0]))
    def pass_time(self, passed_s: float) -> None:
        """Time passes, and both ends send heartbeats and judge who is silent."""
        self.now_s += passed_s
        self.server.beat(self.now_s)
        for client in self.clients.values():
            client.beat(self.now_s)

    @invariant()
    def holds(self) -> None:
        """Each call has ended at most once, and its items are in order."""
        cores: list[ClientCore | ServerCore] = [self.server, *self.clients.values()]
        for core in cores:
            counts = core.counts
            ended = counts["answered"] + counts["failed"] + counts["cancelled"]
            assert counts["calls"] == ended + len(core.calls)
        for _, caller in self.calls:
            assert caller.ends == caller.done
            items = [*caller.read, *(caller.items or ())]
            assert items == list(range(len(items)))
            assert len(caller.items or ()) <= caller.slots
            if caller.done and caller.error is None and not caller.streams and caller.ends and caller.value:
                assert caller.value == caller.argument
        assert all(call.credit >= 0 for call in self.open)

    def teardown(self) -> None:
        """Let everything settle: every call ends, and nothing is left at either end."""
        for _ in range(40):
            self.turn()
            for peer, caller in self.calls:
                self.take(peer, caller, 1000)
            self.holds()
            self.pass_time(1.0)
        assert all(caller.done for _, caller in self.calls)
        assert not any(client.calls for client in self.clients.values())
        assert not self.server.calls
        assert not self.open
        for _, caller in self.calls:
            if caller.streams and caller.error is None and caller.items is not None and caller.read:
                assert len(caller.read) <= caller.argument


def is_damageable(message: bytes) -> bool:
    """Return whether a message is a request, or a reply that ends or feeds a call: it is not sent again."""
    try:
        _, name, _ = wire.unpack(message)
    except Exception:
        return False
    return name in ("items", "value", wire.OK, wire.ERR, wire.STREAM, wire.STREAM_DONE)


TestNetwork = Network.TestCase
TestNetwork.settings = settings(max_examples=settings().max_examples * 2, stateful_step_count=40)
