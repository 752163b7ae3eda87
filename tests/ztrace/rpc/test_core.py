"""Protocol of calls without sockets: any input, each call ended once, nothing that grows without bound."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ztrace.rpc import failures, wire
from ztrace.rpc.core import serving
from ztrace.rpc.core.calling import Call, ClientCore
from ztrace.rpc.core.pool import Pool, Request, Route
from ztrace.rpc.core.serving import Served, ServerCore
from ztrace.rpc.errors import DeadlineExceeded, PeerLost, ProtocolError, RemoteError

PEER = b"peer"

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=8,
)
IDS: st.SearchStrategy[Any] = st.sampled_from([b"1", "2", 3, None, [], b"4", True])
NAMES: st.SearchStrategy[Any] = st.sampled_from(
    [
        "echo",
        "_zpc_more",
        "_zpc_hb",
        "_zt_cancel",
        "_zt_call",
        "OK",
        "ERR",
        "STREAM",
        "STREAM_DONE",
        "_zt_items",
        b"x",
        5,
    ]
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "message_id": IDS,
        "response_to": IDS,
        "v": st.integers(0, 4) | VALUES,
        "zt": st.fixed_dictionaries(
            {},
            optional={"v": VALUES, "ms": st.integers(-1, 10**6) | VALUES, "credit": VALUES, "error": VALUES},
        )
        | VALUES,
    },
)
EVENTS = st.tuples(HEADERS | VALUES, NAMES | VALUES, VALUES) | VALUES
MESSAGES = st.one_of(
    EVENTS.map(msgpack.packb),
    st.tuples(EVENTS, st.integers(0, 60)).map(lambda pair: msgpack.packb(pair[0])[: pair[1]]),
    st.binary(max_size=40),
)


class Server:
    """Core of a server whose calls stay open until the test ends them."""

    def __init__(self, **settings: Any) -> None:
        self.sent: list[tuple[list[bytes], Any]] = []
        self.started: list[Served] = []
        self.stopped: list[Served] = []
        self.core = ServerCore(self._send, self.started.append, self.stopped.append, **settings)

    def _send(self, frames: Sequence[bytes]) -> None:
        self.sent.append((list(frames[:-1]), wire.unpack(frames[-1])))

    def receive(self, header: object, name: object, args: object, now_s: float = 0.0) -> None:
        """Take an event of the only peer."""
        self.core.receive([PEER, b"", msgpack.packb([header, name, args])], now_s)

    def open(self, **header: Any) -> Served:
        """Open a call, and return it."""
        self.receive({"message_id": b"1", "v": 3, **header}, "echo", [1])
        return self.started[-1]

    @property
    def last(self) -> Any:
        """Last event that was sent."""
        return self.sent[-1][1]


def is_balanced(core: ServerCore | ClientCore) -> bool:
    """Return whether each call is open, or has been answered, failed or cancelled once."""
    counts = core.counts
    return counts["calls"] == counts["answered"] + counts["failed"] + counts["cancelled"] + len(core.calls)


@settings(max_examples=100, deadline=None)
@given(messages=st.lists(MESSAGES, max_size=20), ends=st.lists(st.integers(0, 3), max_size=20))
def test_a_server_survives_any_message(messages: list[bytes], ends: list[int]) -> None:
    """Any bytes leave a server sound, and each call with exactly one end."""
    server = Server(max_calls_per_peer=3)
    core = server.core
    for number, message in enumerate(messages):
        core.receive([PEER, b"", message], float(number))
        if server.started and ends:
            call = server.started[-1]
            end = ends.pop()
            if end == 0:
                core.answer(call, 1)
            elif end == 1:
                core.fail(call, failures.describe(ValueError("bad")))
            elif end == 2 and call.credit > 0:
                core.put(call, 1)
            else:
                core.cancel(call, serving.CANCELLED)
        core.beat(float(number))
        assert len(core.calls) <= 3
        assert is_balanced(core)
    core.drop_peer(PEER)
    assert not core.calls
    assert is_balanced(core)
    assert not core._per_peer


@settings(max_examples=100, deadline=None)
@given(messages=st.lists(MESSAGES, max_size=20))
def test_a_client_survives_any_message(messages: list[bytes]) -> None:
    """Any bytes leave a client sound, and each call with exactly one end."""
    core = ClientCore(lambda frames: None)
    calls = []
    for message_id in (b"1", b"4"):
        call = Call("echo")
        core.open(call, [], 0.0)
        core.calls[message_id] = core.calls.pop(call.id)
        call.id = message_id
        calls.append(call)
    for number, message in enumerate(messages):
        core.receive([b"", message], float(number))
        assert is_balanced(core)
        for call in calls:
            assert len(call.items or ()) <= 2 * call.slots
            if call.items:
                core.take(call)
    core.lose("gone")
    assert all(call.done for call in calls)
    assert is_balanced(core)


@settings(max_examples=100, deadline=None)
@given(value=VALUES, slots=st.integers(2, 200), length=st.integers(0, 300))
def test_a_stream_arrives_whole_within_its_credit(value: Any, slots: int, length: int) -> None:
    """A stream of any length arrives in order, and never has more on the way than there is room for."""
    to_server: list[Sequence[bytes]] = []
    to_client: list[Sequence[bytes]] = []
    started: list[Served] = []
    server = ServerCore(to_client.append, started.append, started.remove)
    client = ClientCore(to_server.append)
    call = Call("tail", slots)
    client.open(call, [value], 0.0)
    sent, read = 0, 0
    while True:
        for frames in to_server:
            server.receive([PEER, *frames], 0.0)
        to_server.clear()
        (served,) = started
        while served.credit > 0 and served.key in server.calls:
            if sent == length:
                server.finish(served)
            else:
                server.put(served, sent)
                sent += 1
        for frames in to_client:
            client.receive(frames[1:], 0.0)
        to_client.clear()
        assert len(call.items or ()) <= slots
        while call.items:
            assert client.take(call) == read
            read += 1
        if call.done:
            break
    assert (read, call.error) == (length, None)
    assert is_balanced(server)
    assert is_balanced(client)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ([{"message_id": "1", "v": 3}, "echo", [1], 4], "an event is an array of header, name and arguments"),
        ([{"message_id": "1", "v": 3}, "echo", {"a": 1}], "the arguments are a dict, not an array"),
        ([{"message_id": "1", "v": 3}, b"echo", [1]], "the name is a bytes, not text"),
        (
            [{"message_id": "1", "v": 3}, "_zt_call", ["echo", [], {1: 2}]],
            "_zt_call takes a name, a list and a map",
        ),
    ],
)
def test_a_bad_request_is_answered(event: list[Any], message: str) -> None:
    """A request that breaks the wire format is answered with ProtocolError, where its id can be read."""
    server = Server()
    server.core.receive([PEER, b"", msgpack.packb(event)], 0.0)
    header, name, args = server.last
    assert header["response_to"] == "1"
    assert (name, args[0], args[1]) == ("ERR", "ProtocolError", message)
    assert not server.started
    assert is_balanced(server.core)


def test_damaged_msgpack_is_answered() -> None:
    """Truncated data is answered if the header came first; otherwise the message is counted."""
    server = Server()
    data = msgpack.packb([{"message_id": b"1"}, "echo", ["x" * 100]])
    server.core.receive([PEER, b"", data[:-5]], 0.0)
    assert server.last[2][0] == "ProtocolError"
    server.core.receive([PEER, b"", data[:5]], 0.0)
    assert len(server.sent) == 1
    assert server.core.counts["no_id"] == 1


def test_depth_is_limited() -> None:
    """Arguments that are nested beyond the decoder's limit are refused, and results beyond the encoder's."""
    server = Server()
    deep = b"\x91" * 3000 + b"\xc0"
    server.core.receive([PEER, b"", b"\x93" + msgpack.packb({"message_id": b"1"}) + b"\xa1x" + deep], 0.0)
    assert server.last[2][0] == "ProtocolError"
    value: Any = None
    for _ in range(5000):
        value = [value]
    call = server.open()
    with pytest.raises(TypeError, match="nested more than"):
        server.core.answer(call, value)
    assert call.key in server.core.calls


def test_the_type_of_an_id_is_echoed() -> None:
    """A reply refers to the request's id with its own type: clients compare them."""
    for message_id in (b"a", "a", 7):
        server = Server()
        server.core.answer(server.open(message_id=message_id), 1)
        assert server.last[0]["response_to"] == message_id
        assert type(server.last[0]["response_to"]) is type(message_id)


def test_calls_of_one_peer_are_limited() -> None:
    """A call beyond the limit is refused, and runs once another has ended."""
    server = Server(max_calls_per_peer=2)
    for number in range(3):
        server.receive({"message_id": b"%d" % number}, "echo", [])
    assert len(server.started) == 2
    assert server.last[1] == "ERR"
    server.core.answer(server.started[0], 1)
    server.receive({"message_id": b"9"}, "echo", [])
    assert len(server.started) == 3


def test_a_call_that_is_late_does_not_run() -> None:
    """A call whose deadline has passed on arrival is refused; one that passes it later is stopped."""
    server = Server()
    server.receive({"message_id": b"1", "zt": {"ms": 0}}, "echo", [])
    assert not server.started
    assert "echo: no answer in time: it arrived after its deadline" in server.last[2][0]
    call = server.open(zt={"ms": 500})
    server.core.beat(0.4)
    assert call.key in server.core.calls
    server.core.beat(0.5)
    assert server.stopped == [call]
    assert (server.last[1], *server.last[2][:2]) == ("ERR", "DeadlineExceeded", "echo: no answer in time")
    assert is_balanced(server.core)


def test_heartbeats_of_a_server() -> None:
    """A server beats once a period for each call, and cancels the calls of a peer that has fallen silent."""
    server = Server(heartbeat_s=1.0)
    call = server.open()
    for now_s in (0.5, 1.0, 1.5, 2.0, 2.9):
        server.core.beat(now_s)
    assert [event[1] for _, event in server.sent] == ["_zpc_hb", "_zpc_hb"]
    server.receive({"response_to": b"1"}, "_zpc_hb", [0], 2.9)
    server.core.beat(5.8)
    assert call.key in server.core.calls
    server.core.beat(6.0)
    assert server.stopped == [call]
    assert server.core.counts["cancelled"] == 1


def test_a_peer_of_version_one_gets_no_heartbeat_before_its_own() -> None:
    """A client of version 1 beats first; its errors are a single text."""
    server = Server(heartbeat_s=1.0)
    call = server.open(v=1)
    server.core.beat(10.0)
    assert server.sent == []
    server.receive({"response_to": b"1"}, "_zpc_hb", [0], 10.0)
    server.core.beat(11.0)
    assert server.last[1] == "_zpc_hb"
    server.core.fail(call, failures.describe(KeyError("visa")))
    assert server.last[2] == ["KeyError(\"'visa'\")"]


def test_a_heartbeat_of_version_two_grants_credit() -> None:
    """Clients of version 2 grant credit by heartbeats."""
    server = Server()
    call = server.open(v=2)
    server.receive({"response_to": b"1"}, "_zpc_hb", [50])
    assert call.credit == 51


def test_closing_servers_refuse() -> None:
    """A server that shuts down refuses new calls for a reason that lets the client try another."""
    server = Server()
    server.core.closing = True
    server.receive({"message_id": b"1", "v": 3, "zt": {"v": 1}}, "echo", [])
    assert server.last[2][0] == "ServerClosing"
    assert server.last[0]["zt"]["error"] == {"refused": "closing"}


class Client:
    """Core of a client, and the events that it has sent."""

    def __init__(self, **settings: Any) -> None:
        self.sent: list[Any] = []
        self.core = ClientCore(lambda frames: self.sent.append(wire.unpack(frames[-1])), **settings)

    def open(self, slots: int = 100) -> Call:
        """Open a call, and return it."""
        call = Call("tail", slots)
        self.core.open(call, [], 0.0)
        return call

    def receive(self, call: Call, name: str, args: object, now_s: float = 0.0, **header: Any) -> None:
        """Take an event of a call."""
        event = [{"response_to": call.id, "v": 3, **header}, name, args]
        self.core.receive([b"", msgpack.packb(event)], now_s)

    @property
    def grants(self) -> list[int]:
        """Credit that was granted so far."""
        return [args[0] for _, name, args in self.sent if name == "_zpc_more"]


def test_an_old_server_is_granted_as_zerorpc_does() -> None:
    """A server that confirms no credit has one, then 100, then 51 whenever fewer than 50 are left."""
    client = Client()
    call = client.open()
    for number in range(301):
        client.receive(call, "STREAM", number)
        assert client.core.take(call) == number
    assert client.grants == [100, 51, 51, 51, 51, 51]


def test_a_server_that_confirms_the_credit_is_granted_by_halves() -> None:
    """The credit of the request counts once the first item confirms it."""
    client = Client()
    call = client.open(slots=10)
    client.receive(call, "STREAM", 0, zt={"credit": 10})
    for number in range(1, 10):
        client.receive(call, "STREAM", number)
    for _ in range(10):
        client.core.take(call)
    assert client.grants == [6]


def test_a_server_beyond_its_credit_is_cut_off() -> None:
    """A server that ignores the credit fails its stream, and holds no more memory than twice the slots."""
    client = Client()
    call = client.open(slots=10)
    for number in range(100):
        client.receive(call, "STREAM", number)
    assert isinstance(call.error, ProtocolError)
    assert len(call.items or ()) <= 20
    assert client.sent[-1][1] == "_zt_cancel"


def test_a_cancelled_call_is_told_once() -> None:
    """Cancelling twice sends one event, and later answers are ignored."""
    client = Client()
    call = client.open()
    client.core.cancel(call)
    client.core.cancel(call)
    assert [name for _, name, _ in client.sent] == ["tail", "_zt_cancel"]
    client.receive(call, "OK", [1])
    assert call.value is None
    assert client.core.counts["unknown"] == 1
    assert is_balanced(client.core)


def test_a_silent_server_is_lost() -> None:
    """Calls fail after three periods without a word, and beat before."""
    client = Client(heartbeat_s=1.0)
    call = client.open()
    for now_s in (1.0, 2.0, 3.0):
        client.core.beat(now_s)
    assert [name for _, name, _ in client.sent] == ["tail", "_zpc_hb", "_zpc_hb", "_zpc_hb"]
    client.core.beat(3.1)
    assert isinstance(call.error, PeerLost)


def test_a_deadline_ends_a_call() -> None:
    """A call past its deadline fails, and its server is told."""
    client = Client()
    call = Call("tail")
    call.deadline_s = 1.0
    client.core.open(call, [], 0.25)
    assert client.sent[0][0]["zt"]["ms"] == 750
    client.core.beat(1.0)
    assert isinstance(call.error, DeadlineExceeded)
    assert client.sent[-1][1] == "_zt_cancel"


def test_an_answer_that_cannot_be_read_fails_its_call() -> None:
    """A damaged answer fails the call it belongs to at once, not at the timeout."""
    client = Client()
    call = client.open()
    data = msgpack.packb([{"response_to": call.id}, "OK", ["x" * 100]])
    client.core.receive([b"", data[:-1]], 0.0)
    assert isinstance(call.error, ProtocolError)


@given(
    args=VALUES,
    details=VALUES | st.dictionaries(st.sampled_from(["type", "args", "notes", "causes", "refused"]), VALUES),
)
def test_any_error_becomes_an_exception(args: Any, details: Any) -> None:
    """Whatever an ERR has, the client raises an error of its own that can be printed."""
    error = failures.rebuild(args, details, {})
    assert isinstance(error, Exception)
    assert str(error) or isinstance(error, RemoteError)


def test_an_exception_that_resists_is_described() -> None:
    """An exception whose methods raise still becomes three texts."""

    class Nasty(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    error = Nasty(object(), "\ud800", 1 << 70)
    failure = failures.describe(error)
    data = wire.make_packer()((failure.format(3), failure.details))
    assert msgpack.unpackb(data)[0][0] == "Nasty"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, {2, 3}]}, "a set at ['a'][1]"),
        ([["\ud800"]], "text with a lone surrogate at [0][0]"),
        ({"n": 1 << 64}, "an integer beyond 64 bits at ['n']"),
        ({(): object()}, "a object at [()]"),
        (object(), "a object"),
    ],
)
def test_what_cannot_be_sent_is_found(value: object, text: str) -> None:
    """The place and the type of the first part that cannot be sent are told."""
    assert wire.find_unpackable(value) == text


def test_a_slow_server_gets_its_share_of_calls() -> None:
    """Of three servers that serve one call at a time, one ten times slower gets a tenth of the calls."""
    durations_s = {"slow": 0.1, "first": 0.01, "second": 0.01}
    routes = [Route(name, ClientCore(lambda frames: None)) for name in durations_s]
    pool = Pool(routes)
    for route in routes:
        pool.came_up(route, 0.0)
    free_s = dict.fromkeys(durations_s, 0.0)
    ends: list[tuple[float, Call]] = []
    served: Counter[str] = Counter()
    now_s = 0.0
    while sum(served.values()) < 2000:
        while len(ends) < 16:
            call = Call("echo")
            pool.open(call, Request("echo", []), now_s)
            name = call.route.endpoint
            free_s[name] = max(free_s[name], now_s) + durations_s[name]
            ends.append((free_s[name], call))
        ends.sort(key=lambda pair: pair[0])
        now_s, call = ends.pop(0)
        served[call.route.endpoint] += 1
        call.route.core.receive([b"", msgpack.packb([{"response_to": call.id}, "OK", [1]])], now_s)
    # The servers together could do 2.1 calls in 10 ms.
    assert now_s < 1.2 * 2000 * 0.01 / 2.1
    assert served["slow"] < 200


@pytest.mark.parametrize("reason", ["closing", "busy"])
def test_a_refused_call_goes_to_another_server(reason: str) -> None:
    """A call that a server refuses has not run: it is sent to another, once there is one."""
    pools: dict[str, list[Any]] = {"first": [], "second": []}
    routes = [
        Route(name, ClientCore(lambda frames, sent=sent: sent.append(wire.unpack(frames[-1]))))  # type: ignore[misc]
        for name, sent in pools.items()
    ]
    pool = Pool(routes)
    pool.came_up(routes[0], 0.0)
    call, request = Call("charge"), Request("charge", ["visa"])
    pool.open(call, request, 0.0)
    args = ["ServerClosing", "no", ""]
    event = [{"response_to": call.id, "zt": {"error": {"refused": reason}}}, "ERR", args]
    routes[0].core.receive([b"", msgpack.packb(event)], 0.0)
    assert call.done
    if reason == "closing":
        assert pool.open_again(call, request, 0.0)
        assert call in pool.pending
        pool.came_up(routes[1], 0.0)
    else:
        assert not pool.open_again(call, request, 0.0)
        pool.came_up(routes[1], 0.0)
        assert pool.open_again(call, request, 0.0)
    assert [event[1] for event in pools["second"]] == ["charge"]
    assert not call.done


def test_a_lost_call_is_not_sent_again() -> None:
    """A call that was sent may have run: it fails with its connection, and goes to no other server."""
    routes = [Route(name, ClientCore(lambda frames: None)) for name in ("first", "second")]
    pool = Pool(routes)
    pool.came_up(routes[0], 0.0)
    pool.came_up(routes[1], 0.0)
    call, request = Call("charge"), Request("charge", [])
    pool.open(call, request, 0.0)
    pool.went_down(call.route, "lost")
    assert isinstance(call.error, PeerLost)
    assert not pool.open_again(call, request, 0.0)


@pytest.mark.parametrize(("left_s", "kind"), [(0.04, DeadlineExceeded), (10.0, RemoteError)])
def test_the_deadline_of_a_nested_call_is_that_of_its_caller(
    left_s: float, kind: type[BaseException]
) -> None:
    """A method whose own call exceeds the inherited deadline is late itself, unless there was time left."""
    client = ClientCore(lambda frames: None)
    call = Call("echo")
    call.deadline_s = 100.0
    client.open(call, [], 0.0)
    failure = failures.describe(DeadlineExceeded("nested: no answer in time"))
    header = {"response_to": call.id, "v": 3, "zt": {"v": 1, "error": failure.details}}
    client.receive([b"", msgpack.packb([header, "ERR", failure.format(3)])], 100.0 - left_s)
    assert type(call.error) is kind
    assert "nested: no answer in time" in str(call.error) + str(getattr(call.error, "__cause__", ""))
