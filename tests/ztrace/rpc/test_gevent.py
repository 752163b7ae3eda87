"""Blocking clients in programs of gevent's, patched and not."""

from collections.abc import Iterator

import pytest

from tests.ztrace.programs import run_program
from tests.ztrace.rpc.services import FREE, Billing
from tests.ztrace.waiting import wait_for
from ztrace import rpc

pytestmark = pytest.mark.process

#: Greenlets that share a client, while another counts its own turns.
PROGRAM = """
import gevent, sys
from ztrace import rpc

turns = 0

def count():
    global turns
    while True:
        gevent.sleep(0.001)
        turns += 1

client = rpc.Client(sys.argv[1])
counter = gevent.spawn(count)
waiting = gevent.spawn(client.wait)

def work(number):
    return [client.echo([number, each]) for each in range(20)], list(client.tail(150))

done = gevent.joinall([gevent.spawn(work, number) for number in range(10)], timeout=20)
for number, each in enumerate(done):
    answers, items = each.value
    assert sorted(answers) == [[answers[0][0], index] for index in range(20)], answers
    assert items == list(range(150))
assert len(done) == 10

with rpc.deadline(0.2):
    try:
        client.wait()
    except rpc.DeadlineExceeded:
        pass
before = turns
with rpc.deadline(0.2):
    try:
        client.wait()
    except rpc.DeadlineExceeded:
        pass
assert turns > before, turns
waiting.kill()
client.echo(1)
rpc.close(client)
counter.kill()
print("done")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[rpc.Server]:
    """Server of another process than the program."""
    with rpc.Server(Billing(), FREE) as started:
        yield started


@pytest.mark.parametrize("patched", [True, False])
def test_greenlets_share_a_client(server: rpc.Server, patched: bool) -> None:
    """Calls of greenlets are answered each, and others run while they wait."""
    start = "from gevent import monkey; monkey.patch_all()\n" if patched else ""

    def count_ended() -> int:
        # At a deadline the server may be first to end a call, as failed.
        return server.counts["cancelled"] + server.counts["failed"]

    ended = count_ended()
    done = run_program(start + PROGRAM, *server.endpoints)
    assert (done.stdout, done.stderr) == ("done\n", "")
    wait_for(lambda: count_ended() >= ended + 3)


def test_a_thread_beside_gevent_blocks_alone(server: rpc.Server) -> None:
    """A thread without a hub waits as threads do, in a process that uses gevent elsewhere."""
    done = run_program(
        "import gevent, sys, threading\n"
        "from ztrace import rpc\n"
        "client = rpc.Client(sys.argv[1])\n"
        "assert client.echo(1) == 1\n"
        "gevent.sleep(0)\n"
        "answers = []\n"
        "thread = threading.Thread(target=lambda: answers.append(client.echo(2)))\n"
        "thread.start()\n"
        "while thread.is_alive():\n"
        "    gevent.sleep(0.001)\n"
        "assert client.echo(3) == 3\n"
        "rpc.close(client)\n"
        "print(answers)\n",
        *server.endpoints,
    )
    assert (done.stdout, done.stderr) == ("[2]\n", "")
