"""Servers in programs of gevent's, patched and not."""

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.ztrace.programs import run_program, started_program
from tests.ztrace.waiting import DEADLINE_S
from ztrace import rpc

pytestmark = pytest.mark.process

#: Server with methods that wait by gevent's means, and a greenlet of the program that counts its own turns.
PROGRAM = """
import asyncio, gevent, signal, sys
from ztrace import rpc

turns = 0

def count():
    global turns
    while True:
        gevent.sleep(0.001)
        turns += 1

class Service:
    arrived = 0

    def meet(self, number):
        "Return once as many calls run at once."
        self.arrived += 1
        while self.arrived < number:
            gevent.sleep(0.001)
        return self.arrived

    def turns(self):
        return turns

    def spawn(self, number):
        return [each.value for each in gevent.joinall([gevent.spawn(pow, each, 2) for each in range(number)])]

    def count(self, number):
        for each in range(number):
            if not each % 100:
                gevent.sleep(0)
            yield each

    def tail(self):
        try:
            while True:
                gevent.sleep(0.001)
                yield 0
        finally:
            print("closed", flush=True)

    def pause(self):
        print("paused", flush=True)
        while not rpc.cancelled():
            gevent.sleep(0.001)
        print("cancelled", flush=True)

    def remaining(self, *addresses):
        left = rpc.current_call().remaining_s
        if not addresses:
            return [left]
        with rpc.Client(addresses[0]) as client:
            return [left, *client.remaining(*addresses[1:])]

    async def later(self, value):
        await asyncio.sleep(0.001)
        return value

    def fail(self):
        raise KeyError("visa")

counter = gevent.spawn(count)
server = rpc.Server(Service, "tcp://127.0.0.1:*", heartbeat_s=1)
if sys.argv[1] == "patched":
    async def main():
        server.start()
        print("\\n" + server.endpoints[0], flush=True)
        await server.run()
    asyncio.run(main())
else:
    server.start()
    ended = gevent.event.Event()
    gevent.signal_handler(signal.SIGTERM, ended.set)
    print("\\n" + server.endpoints[0], flush=True)
    ended.wait()
    server.close()
counter.kill()
print(server.counts["calls"], sum(server.counts[each] for each in ("answered", "failed", "cancelled")))
"""


@pytest.fixture(scope="module", params=["patched", "unpatched"])
def served(request: pytest.FixtureRequest) -> Iterator[tuple[Any, str]]:
    """Yield the process of a server, and its address; the process ends by SIGTERM, without a complaint."""
    start = (
        "from gevent import monkey; monkey.patch_all()\n"
        if request.param == "patched"
        else "import gevent.event\n"
    )
    with started_program(start + PROGRAM, request.param) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        yield process, process.stdout.readline().strip()
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
        calls, ended = process.stdout.read().split()
        assert calls == ended
        assert process.stderr.read() == ""


@pytest.fixture
def client(served: tuple[Any, str]) -> Iterator[rpc.Client]:
    """Client in the test's process."""
    with rpc.Client(served[1], heartbeat_s=1, timeout_s=DEADLINE_S) as client:
        yield client


def test_functions_wait_for_each_other(client: rpc.Client) -> None:
    """Plain functions run at once, and the program's greenlets beside them."""
    before = client.turns()
    futures = [client.submit("meet", 8) for _ in range(8)]
    assert {future.result(DEADLINE_S) for future in futures} == {8}
    while client.turns() == before:
        pass


def test_results_streams_and_errors(client: rpc.Client) -> None:
    """Methods spawn greenlets, yield items, are coroutines, and fail as elsewhere."""
    assert client.spawn(4) == [0, 1, 4, 9]
    assert list(client.count(1000)) == list(range(1000))
    assert client.later("answer") == "answer"
    with pytest.raises(rpc.RemoteError, match="KeyError: 'visa'"):
        client.fail()


def test_cancellation_reaches_functions_and_streams(served: tuple[Any, str], client: rpc.Client) -> None:
    """A stream that its reader leaves is closed, and a function whose caller has gone is told."""
    stdout = served[0].stdout
    tail = client.tail()
    assert next(tail) == 0
    tail.close()
    assert stdout.readline() == "closed\n"
    future = client.submit("pause")
    assert stdout.readline() == "paused\n"
    assert future.cancel()
    assert stdout.readline() == "cancelled\n"


def test_a_deadline_is_inherited(served: tuple[Any, str], client: rpc.Client) -> None:
    """Calls that a method makes, of the same server too, end with the caller's deadline."""
    with rpc.deadline(20):
        left = client.remaining(served[1], served[1])
    assert 20 >= left[0] >= left[1] >= left[2] > 0


def test_zerorpc_calls_a_server_under_gevent(served: tuple[Any, str]) -> None:
    """A client of zerorpc gets results and streams."""
    done = run_program(
        "import os, sys, warnings; warnings.simplefilter('ignore')\n"
        "import zerorpc\n"
        "client = zerorpc.Client(sys.argv[1], heartbeat=1)\n"
        "print(client.spawn(3), sum(client.count(300)), flush=True)\n"
        "os._exit(0)\n",
        served[1],
    )
    assert done.stdout == "[0, 1, 4] 44850\n"
