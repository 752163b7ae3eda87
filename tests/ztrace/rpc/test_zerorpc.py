"""Calls between ztrace's RPC and the real zerorpc, in both directions."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.ztrace.programs import run_program, started_program
from tests.ztrace.rpc.services import FREE, Billing
from ztrace import rpc

pytestmark = pytest.mark.process

#: Server of zerorpc that prints its address.
SERVER = """
import gevent, inspect, sys, zerorpc

if "inspecting" in sys.argv:  # As before Python 3.11.
    inspect.getargspec = lambda function: inspect.getfullargspec(function)[:4]

class Billing:
    def charge(self, card, amount=1):
        "Charge a card."
        return f"{card}:{amount}"

    @zerorpc.stream
    def count(self, number):
        return iter(range(number))

    def fail(self):
        raise KeyError("visa")

    def slow(self, seconds):
        gevent.sleep(seconds)
        return seconds

server = zerorpc.Server(Billing(), heartbeat=1)
server.bind("tcp://127.0.0.1:*")
print(server._events._socket.last_endpoint.decode().rstrip("\\0"), flush=True)
server.run()
"""
#: Client of zerorpc that calls a server of ztrace's.
CLIENT = """
import faulthandler, os, sys, zerorpc
faulthandler.dump_traceback_later(60, exit=True)
client = zerorpc.Client(sys.argv[1], heartbeat=1)
assert client.charge("visa") == "visa:1"
assert client.echo({"a": [1, b"x"]}) == {"a": [1, b"x"]}
for method in ("count", "tail"):
    for number in (0, 1, 99, 100, 101, 1000):
        assert list(client(method, number)) == list(range(number)), (method, number)
try:
    client.refuse()
except zerorpc.RemoteError as error:
    assert (error.name, error.msg) == ("Refused", "('no card', 3)"), (error.name, error.msg)
    assert "raise refused" in error.traceback
assert client._zerorpc_ping() == ["pong", "Billing"]
assert sorted(client._zerorpc_list()) == sorted(client._zerorpc_inspect()["methods"])
assert client._zerorpc_help("charge") == "Charge a card."
assert client._zerorpc_args("charge") == [["card", "amount"], None, None, [1]]
try:
    client.nothing()
except zerorpc.RemoteError as error:
    assert error.name == "NameError"
print("done", flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Address of a server of zerorpc in its own process."""
    with serving() as address:
        yield address


@contextmanager
def serving(*arguments: str) -> Iterator[str]:
    """Run zerorpc's server, and yield its address."""
    program = SERVER.replace("print(", "print(); print(")
    with started_program(program, *arguments) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()


def test_a_client_of_zerorpc_calls_a_server() -> None:
    """zerorpc's client gets answers, streams, errors and descriptions."""
    with rpc.Server(Billing(), FREE, heartbeat_s=1) as server:
        done = run_program("import warnings; warnings.simplefilter('ignore')\n" + CLIENT, *server.endpoints)
        assert done.stdout == "done\n", server.counts


def test_a_client_calls_a_server_of_zerorpc(endpoint: str) -> None:
    """Answers, errors and streams of a server of zerorpc arrive, and the server stays sound."""
    with rpc.Client(endpoint, heartbeat_s=1) as client:
        assert client.charge("visa") == "visa:1"
        for number in (0, 1, 99, 100, 101, 151, 1000):
            assert list(client.count(number)) == list(range(number))
        with pytest.raises(rpc.RemoteError) as caught:
            client.fail()
        assert (caught.value.type, caught.value.text) == ("KeyError", "'visa'")
        assert client.slow(0.01) == 0.01
        assert client.charge("still there") == "still there:1"


def test_keywords_become_positional_arguments() -> None:
    """A server of zerorpc gets keyword arguments by position, where the server tells their names."""
    with serving("inspecting") as address, rpc.Client(address, heartbeat_s=1) as client:
        assert client.charge(amount=3, card="visa") == "visa:3"
        assert client.charge("visa", amount=4) == "visa:4"
        with pytest.raises(rpc.RpcError) as caught:
            client.charge("visa", colour="red")
        assert "charge has no argument colour" in str(caught.value)


def test_keywords_that_cannot_be_sent_are_refused(endpoint: str) -> None:
    """A server of zerorpc that tells no names is never sent keyword arguments."""
    with rpc.Client(endpoint, heartbeat_s=1) as client, pytest.raises(rpc.RpcError) as caught:
        client.charge("visa", amount=3)
    assert "the server takes no keyword arguments" in str(caught.value)
