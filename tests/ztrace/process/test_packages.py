"""Programs that use packages which take over clocks, signals or descriptors."""

import os
from pathlib import Path

import pytest

from tests.ztrace.programs import run_program
from tests.ztrace.receiving import Receiver
from tests.ztrace.waiting import wait_for
from ztrace.wire import BYE

pytestmark = [pytest.mark.trouble, pytest.mark.process]

FROZEN = """
import datetime, sys, time
import ztrace
ztrace.configure("billing", sys.argv[1])
began_ns = time.time_ns()
def freeze():
    {freeze}
with ztrace.span("around"):
    with freeze():
        with ztrace.span("inside", kind="server"): pass
with freeze():
    leaves = ztrace.span("leaves").start()
leaves.end()
with freeze():
    ztrace.context.make_current(None)
    with ztrace.span("frozen"): pass
    time.sleep(1.2)  # The publisher reads its clocks once a second.
    with ztrace.span("later"): pass
    assert ztrace.flush({timeout_s}) is {flushed}
print(began_ns, time.time_ns())
"""

FREEZES = {
    "freezegun": "from freezegun import freeze_time; return freeze_time('2012-01-14')",
    "freezegun tick": "from freezegun import freeze_time; return freeze_time('2012-01-14', tick=True)",
    "freezegun auto": "from freezegun import freeze_time; return freeze_time('2012', auto_tick_seconds=9)",
    "freezegun future": "from freezegun import freeze_time; return freeze_time('2068-01-14')",
    "time-machine": "import time_machine; return time_machine.travel(datetime.datetime(2012, 1, 14))",
    "time-machine still": "import time_machine; return time_machine.travel('2012-01-14', tick=False)",
}


@pytest.mark.parametrize("freeze", FREEZES)
def test_spans_have_the_true_time(receiver: Receiver, freeze: str) -> None:
    """Spans that start or end while a package freezes the clocks have the times that they would have had."""
    code = FROZEN.format(freeze=FREEZES[freeze], timeout_s=20, flushed=True)
    began_ns, ended_ns = map(int, run_program(code, receiver.endpoint).stdout.split())
    assert sorted(receiver.names()) == ["around", "frozen", "inside", "later", "leaves"]
    for span in receiver.spans:
        assert span.duration_ns is not None
        assert began_ns - 10**9 <= span.start_ns <= span.start_ns + span.duration_ns <= ended_ns + 10**9


@pytest.mark.parametrize("freeze", FREEZES)
def test_a_wait_ends_while_the_clocks_stand_still(tmp_path: Path, freeze: str) -> None:
    """`flush` returns at its deadline without a collector, although no clock of the program's moves."""
    run_program(FROZEN.format(freeze=FREEZES[freeze], timeout_s=0.5, flushed=False), f"ipc://{tmp_path}/none")


def test_values_of_a_frozen_clock_are_not_used_up(receiver: Receiver) -> None:
    """A clock that advances with each reading advances by the program's readings alone."""
    code = """
import sys, time
import ztrace
from freezegun import freeze_time
ztrace.configure("billing", sys.argv[1])
with freeze_time("2012-01-14", auto_tick_seconds=10):
    before = time.monotonic()
    for number in range(100):
        with ztrace.span("a"): pass
    assert ztrace.flush(20)
    assert time.monotonic() - before == 10
"""
    run_program(code, receiver.endpoint)


def test_trio_has_the_wakeup_descriptor_for_itself(receiver: Receiver) -> None:
    """trio, which warns where another descriptor is set, runs before and after ztrace, and ends by Ctrl-C."""
    code = """
import os, signal, sys
import trio
import ztrace
ztrace.configure("billing", sys.argv[1])
async def main(name):
    with ztrace.span(name):
        await trio.sleep(0.05)
trio.run(main, "first")
trio.run(main, "second")
assert ztrace.flush(20)
async def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
    await trio.sleep(60)
try:
    trio.run(interrupt)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = run_program(code, receiver.endpoint)
    assert (done.stdout, done.stderr) == ("interrupted\n", "")
    assert receiver.names() == ["first", "second"]


DAEMON = """
import sys, time
import daemon, ztrace
ztrace.configure("app", sys.argv[1], spool=sys.argv[2] or None)
if sys.argv[4]:
    with ztrace.span("before"): pass
    assert ztrace.flush(20)
with open(sys.argv[3], "w") as log, daemon.DaemonContext(stdout=log, stderr=log, detach_process=True):
    for number in range(3000):
        with ztrace.span(str(number)): pass
    print("flushed", ztrace.flush(20), flush=True)
    with ztrace.span("last"): pass
"""


@pytest.mark.parametrize("before", ["", "a span before"])
@pytest.mark.parametrize("spooled", [False, True], ids=["", "spool"])
def test_a_python_daemon_delivers(receiver: Receiver, tmp_path: Path, before: str, spooled: bool) -> None:
    """A daemon of python-daemon's, which closes all descriptors, delivers every span and logs nothing."""
    spool, log = tmp_path / "spool", tmp_path / "log"
    run_program(DAEMON, receiver.endpoint, str(spool) if spooled else "", str(log), before)
    wait_for(lambda: "last" in receiver.names())
    expected = {*map(str, range(3000)), "last", *(["before"] if before else [])}
    wait_for(lambda: not spooled or not os.listdir(spool))
    assert len(receiver.names()) == len(expected)
    assert set(receiver.names()) == expected
    assert log.read_text() == "flushed True\n"


BILLIARD = """
import sys, time
import billiard, ztrace
def work(number):
    with ztrace.span(str(number)):
        time.sleep(0.002)
    return number
if __name__ == "__main__":
    ztrace.configure("billing", sys.argv[1])
    {work}
"""

WAYS = {
    "processes": "[child.join() for child in [billiard.Process(target=work, args=(n,)) for n in range(20)]"
    " if child.start() is None]",
    "pool": "pool = billiard.Pool(4); pool.map(work, range(20)); pool.close(); pool.join()",
    "short lives": "pool = billiard.Pool(2, maxtasksperchild=1); pool.map(work, range(20), 1); pool.close();"
    " pool.join()",
    "multiprocess": "import multiprocess; pool = multiprocess.Pool(4); pool.map(work, range(20));"
    " pool.close(); pool.join()",
    "terminated": "pool = billiard.Pool(4); pool.map(work, range(20)); pool.terminate(); pool.join()",
}


@pytest.mark.parametrize("way", WAYS)
def test_children_of_copies_of_multiprocessing_deliver(receiver: Receiver, way: str) -> None:
    """Children of billiard, Celery's copy of multiprocessing, and of multiprocess deliver and say goodbye."""
    run_program(BILLIARD.format(work=WAYS[way]), receiver.endpoint)
    assert sorted(map(int, receiver.names())) == list(range(20))
    children = {header.incarnation for header, _ in receiver.messages}
    wait_for(lambda: {header.incarnation for header in receiver.headers(BYE)} == children)
