"""The same replies to a client of zerorpc 0.6.3 and to one of ztrace.rpc, each in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
import pytest
import zmq

from tests.ztrace.programs import ROOT
from tests.ztrace.rpc.conformance.replies import CASES, EXPIRED, Case
from tests.ztrace.waiting import DEADLINE_S

pytestmark = pytest.mark.process

#: Timeout of a call whose replies settle nothing, which takes that long.
TIMEOUT_S = 1.0
#: Period of heartbeats, in which no call is lost before its timeout.
HEARTBEAT_S = 5.0


@contextmanager
def calling(library: str) -> "Iterator[subprocess.Popen[str]]":
    """Run the program that makes calls with the library."""
    process = subprocess.Popen(
        [sys.executable, "tests/ztrace/rpc/conformance/call.py", library],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def zerorpc_client() -> "Iterator[subprocess.Popen[str]]":
    """Yield the program that makes calls with zerorpc."""
    with calling("zerorpc") as process:
        yield process


@pytest.fixture(scope="module", params=["threads", "asyncio"])
def own_client(request: pytest.FixtureRequest) -> "Iterator[subprocess.Popen[str]]":
    """Yield the program that makes calls with one of the clients of ztrace.rpc."""
    with calling(request.param) as process:
        yield process


@pytest.fixture
def server() -> "Iterator[zmq.Socket[bytes]]":
    """Yield a bound ROUTER."""
    context: zmq.Context[Any] = zmq.Context()
    socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
    socket.linger = 0
    socket.rcvtimeo = int(DEADLINE_S * 1000)
    socket.bind("tcp://127.0.0.1:0")
    yield socket
    socket.close()
    context.term()


def outcome(
    client: "subprocess.Popen[str]",
    server: "zmq.Socket[bytes]",
    case: Case,
    expected: Any,
    heartbeat_s: float = HEARTBEAT_S,
) -> Any:
    """Have the client call, reply to the request, and return the outcome that the client prints."""
    timeout_s = TIMEOUT_S if expected == EXPIRED else DEADLINE_S
    assert client.stdin is not None
    assert client.stdout is not None
    endpoint = server.getsockopt_string(zmq.LAST_ENDPOINT)
    print(json.dumps([endpoint, timeout_s, heartbeat_s, "anything", 1, "two"]), file=client.stdin, flush=True)
    peer, delimiter, request = server.recv_multipart()
    header, name, args = msgpack.unpackb(request)
    assert (delimiter, name, args) == (b"", "anything", [1, "two"])
    for reply in case.replies:
        server.send_multipart([peer, b"", reply(header["message_id"])])
    return json.loads(client.stdout.readline())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_zerorpc_outcome(
    zerorpc_client: "subprocess.Popen[str]", server: "zmq.Socket[bytes]", case: Case
) -> None:
    """A zerorpc client makes of replies what the table has, so the table is true."""
    assert outcome(zerorpc_client, server, case, case.outcome) == case.outcome


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_own_outcome(own_client: "subprocess.Popen[str]", server: "zmq.Socket[bytes]", case: Case) -> None:
    """A client of ztrace.rpc makes the same of replies, but where the table has another outcome."""
    expected = case.outcome if case.ours is None else case.ours
    assert outcome(own_client, server, case, expected) == expected


#: A server that answers nothing
SILENT = Case("silence", (), ["raised", ["LostRemote"]], ours=["raised", ["PeerLost"]])


def test_zerorpc_loses_silent_servers(
    zerorpc_client: "subprocess.Popen[str]", server: "zmq.Socket[bytes]"
) -> None:
    """A zerorpc client takes a server without heartbeats for lost, long before its timeout."""
    assert outcome(zerorpc_client, server, SILENT, SILENT.outcome, 0.3) == SILENT.outcome


def test_own_clients_lose_silent_servers(
    own_client: "subprocess.Popen[str]", server: "zmq.Socket[bytes]"
) -> None:
    """A client of ztrace.rpc takes a server without heartbeats for lost too."""
    assert outcome(own_client, server, SILENT, SILENT.ours, 0.3) == SILENT.ours
