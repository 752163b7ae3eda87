"""Events that clients of zerorpc and of ztrace.rpc send, side by side."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
import zmq

from tests.ztrace.rpc.conformance.raw import HEARTBEAT, pack
from tests.ztrace.rpc.conformance.test_clients import calling
from tests.ztrace.waiting import DEADLINE_S

pytestmark = pytest.mark.process

#: Items of the stream that is read
ITEMS = 400
#: Timeout of a call that is not answered, and period of its heartbeats, of which too few are due to lose it
TIMEOUT_S, HEARTBEAT_S = 1.0, 0.4


class RawServer:
    """ROUTER that reads the events of one client, and answers by hand."""

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self._socket = socket
        self._peer = b""
        self.endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def read(self) -> tuple[dict[str, Any], str, Any]:
        """Return the next event."""
        self._peer, delimiter, frame = self._socket.recv_multipart()
        assert delimiter == b""
        header, name, args = msgpack.unpackb(frame)
        return header, name, args

    def send(self, channel: object, name: str, args: object) -> None:
        """Send an event of a channel."""
        frame = pack({"message_id": b"r", "v": 3, "response_to": channel}, name, args)
        self._socket.send_multipart([self._peer, b"", frame])


@pytest.fixture
def server() -> Iterator[RawServer]:
    """Yield a bound server."""
    context: zmq.Context[Any] = zmq.Context()
    socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
    socket.linger = 0
    socket.rcvtimeo = int(DEADLINE_S * 1000)
    socket.bind("tcp://127.0.0.1:0")
    yield RawServer(socket)
    socket.close()
    context.term()


@pytest.fixture(scope="module", params=["zerorpc", "threads", "asyncio"])
def client(request: pytest.FixtureRequest) -> "Iterator[tuple[str, subprocess.Popen[str]]]":
    """Yield a library, and the program that makes calls with it."""
    with calling(request.param) as process:
        yield request.param, process


def ask(process: "subprocess.Popen[str]", *call: Any) -> None:
    """Have a program make a call."""
    assert process.stdin is not None
    print(json.dumps(call), file=process.stdin, flush=True)


def outcome(process: "subprocess.Popen[str]") -> Any:
    """Return what a call has come to."""
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def test_streams_are_granted_in_the_same_steps(
    client: "tuple[str, subprocess.Popen[str]]", server: RawServer
) -> None:
    """A client grants 100 items after the first, and 51 whenever fewer than 50 are left."""
    _, process = client
    ask(process, server.endpoint, DEADLINE_S, 5.0, "count", ITEMS)
    header, _, _ = server.read()
    grants: list[int] = []
    credit = 1
    for number in range(ITEMS):
        while not credit:
            _, name, args = server.read()
            assert name == "_zpc_more"
            grants += args
            credit += args[0]
        server.send(header["message_id"], "STREAM", number)
        credit -= 1
    server.send(header["message_id"], "STREAM_DONE", None)
    assert outcome(process) == ["streamed", list(range(ITEMS)), None]
    assert grants == [100, 51, 51, 51, 51, 51, 51]


def test_headers_are_those_of_zerorpc(client: "tuple[str, subprocess.Popen[str]]", server: RawServer) -> None:
    """A request has a version and an id of 32 bytes in hexadecimal, and one key more from ztrace.rpc."""
    library, process = client
    ask(process, server.endpoint, DEADLINE_S, 5.0, "echo", "x", 2)
    header, name, args = server.read()
    server.send(header["message_id"], "OK", ["x"])
    assert outcome(process) == ["returned", "x"]
    assert (name, args, header["v"]) == ("echo", ["x", 2], 3)
    assert len(bytes.fromhex(header["message_id"].decode())) == 16
    assert set(header) - {"message_id", "v"} == (set() if library == "zerorpc" else {"zt"})


def test_calls_that_end_early(client: "tuple[str, subprocess.Popen[str]]", server: RawServer) -> None:
    """A call sends heartbeats with a zero; one of ztrace.rpc that is over sends one `_zt_cancel`."""
    library, process = client
    ask(process, server.endpoint, TIMEOUT_S, HEARTBEAT_S, "slow")
    ask(process, server.endpoint, DEADLINE_S, 5.0, "next")
    header, _, _ = server.read()
    events = []
    while (event := server.read())[1] != "next":
        assert event[0]["response_to"] == header["message_id"]
        events.append((event[1], list(event[2])))
        if event[1] == HEARTBEAT:
            server.send(header["message_id"], HEARTBEAT, [0])
    server.send(event[0]["message_id"], "OK", [1])
    raised = "TimeoutExpired" if library == "zerorpc" else "DeadlineExceeded"
    assert outcome(process) == ["raised", [raised]]
    assert outcome(process) == ["returned", 1]
    beats = [event for event in events if event == (HEARTBEAT, [0])]
    assert beats
    assert events == [*beats, *([] if library == "zerorpc" else [("_zt_cancel", [0])])]
