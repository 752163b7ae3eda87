"""Finalizers of the program, which run in its own threads."""

import gc
from collections.abc import Iterator

import pytest

from tests.ztrace.programs import QUICK, run_program
from tests.ztrace.receiving import Receiver
from ztrace.process.collection import HeldCollection

#: Objects that note in which thread they are finalized.
SETUP = (
    QUICK
    + """
import gc, sys, threading, time
import ztrace
ztrace.configure("billing", sys.argv[1])
finalized = []
class Object:
    def __init__(self, number=0):
        self.me = self if number else None
    def __del__(self):
        finalized.append(threading.get_ident())
def check(least):
    assert len(finalized) >= least, len(finalized)
    assert set(finalized) == {threading.get_ident()}, finalized
"""
)

#: Garbage in cycles, spans, and blocking calls, some of which allocate first.
BUSY = """
import select, socket
one, other = socket.socketpair()
for turn in range(2000):
    Object(1)
    for number in range(20):
        with ztrace.span("work", number=number): pass
    if turn % 3 == 0:
        time.sleep(0.0005)
    elif turn % 3 == 1:
        select.select([one, other], [], [], 0.0005)
one.close(); other.close()
gc.collect()
check(2000)
"""


@pytest.mark.process
def test_garbage_is_collected_in_the_programs_threads(receiver: Receiver) -> None:
    """A program of one thread finalizes its garbage there, however much ztrace's thread has to do."""
    assert run_program(SETUP + BUSY, receiver.endpoint).stderr == ""
    assert len(receiver.names()) == 40_000


OWNERS = {
    "an attribute": "with ztrace.span('a', thing=Object()): pass",
    "a list of attributes": "with ztrace.span('a', things=[Object(), Object()]): pass",
    "a name": "with ztrace.span(Object()): pass",
    "a long span": "span = ztrace.span('a', thing=Object()).start(); time.sleep(0.5); span.end(); del span",
    "a lost span": "ztrace.span('a', thing=Object()).start(); ztrace.context.make_current(None)",
}


@pytest.mark.process
@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("spooled", [False, True], ids=["", "spool"])
def test_objects_of_spans_are_dropped_in_the_programs_threads(
    receiver: Receiver, tmp_path: object, owner: str, spooled: bool
) -> None:
    """An object that only a span refers to is finalized in a thread of the program."""
    code = f"""
{OWNERS[owner]}
end_s = time.monotonic() + 20
while not finalized and time.monotonic() < end_s:
    time.sleep(0.05)
    with ztrace.span("next"): pass
check(1)
"""
    spool = f"{tmp_path}/spool" if spooled else ""
    assert run_program(SETUP + code, receiver.endpoint, ZTRACE_SPOOL=spool).stderr == ""


@pytest.mark.process
def test_objects_of_the_last_spans_are_dropped_at_the_end(receiver: Receiver) -> None:
    """Objects that no later span frees are finalized by `shutdown`."""
    code = """
with ztrace.span("a", thing=Object()): pass
assert ztrace.flush(20)
ztrace.shutdown(20)
check(1)
"""
    assert run_program(SETUP + code, receiver.endpoint).stderr == ""


@pytest.mark.process
@pytest.mark.parametrize("thresholds", [(700, 10, 10), (50_000, 20, 20), (0, 0, 0), (1, 1, 1)])
def test_the_programs_thresholds_are_its_own(receiver: Receiver, thresholds: tuple[int, ...]) -> None:
    """Thresholds that the program sets stay, whenever it does, and so does the flag."""
    code = f"""
for turn in range(300):
    gc.set_threshold(*{thresholds})
    with ztrace.span("work"): pass
    time.sleep(0.001)
assert gc.isenabled()
ztrace.shutdown(20)
assert gc.get_threshold() == {thresholds}, gc.get_threshold()
gc.disable()
ztrace.configure("billing", sys.argv[1])
with ztrace.span("work"): pass
assert ztrace.flush(20)
assert not gc.isenabled()
"""
    run_program(SETUP + code, receiver.endpoint)


@pytest.mark.process
def test_a_forked_child_has_the_programs_thresholds(receiver: Receiver) -> None:
    """A child that is forked while ztrace's thread is awake collects as its parent does."""
    code = """
import os
before = gc.get_threshold()
for _ in range(100):
    with ztrace.span("work"): pass
    pid = os.fork()
    if not pid:
        os._exit(gc.get_threshold() != before)
    assert os.waitpid(pid, 0)[1] == 0
"""
    run_program(SETUP + code, receiver.endpoint)


@pytest.fixture
def thresholds() -> Iterator[tuple[int, int, int]]:
    """Yield the thresholds that the test starts with, and restore them."""
    before = gc.get_threshold()
    gc.set_threshold(701, 11, 12)
    yield 701, 11, 12
    gc.set_threshold(*before)


def test_the_collection_is_held_only_while_awake(thresholds: tuple[int, int, int]) -> None:
    """A held collection has a higher first threshold, but not within a wait, and not after its release."""
    held, seen = HeldCollection(), []
    held.hold()
    assert gc.get_threshold() == (10_701, 11, 12)
    held.sleep(lambda: seen.append(gc.get_threshold()))
    assert gc.get_threshold() == (10_701, 11, 12)
    held.release()
    assert [*seen, gc.get_threshold()] == [thresholds, thresholds]


def test_thresholds_that_are_set_within_a_wait_are_held_from_then_on(
    thresholds: tuple[int, int, int],
) -> None:
    """Thresholds that the program sets while ztrace's thread sleeps are the ones that are restored."""
    held = HeldCollection()
    held.hold()
    held.sleep(gc.set_threshold, 900, 5, 5)
    assert gc.get_threshold() == (10_900, 5, 5)
    held.release()
    assert gc.get_threshold() == (900, 5, 5)


def test_thresholds_that_are_set_while_awake_stay(thresholds: tuple[int, int, int]) -> None:
    """Thresholds that the program sets while ztrace's thread is awake are not lost, nor raised for good."""
    held, seen = HeldCollection(), []
    held.hold()
    gc.set_threshold(900, 5, 5)
    held.sleep(lambda: seen.append(gc.get_threshold()))
    assert (seen, gc.get_threshold()) == ([(900, 5, 5)], (10_900, 5, 5))
    gc.set_threshold(800, 5, 5)
    held.release()
    assert gc.get_threshold() == (800, 5, 5)


def test_the_collection_is_held_while_any_thread_is_awake(thresholds: tuple[int, int, int]) -> None:
    """Of two threads each keeps the collection held while the other sleeps, or has ended."""
    held, seen = HeldCollection(), []
    held.hold()
    held.hold()
    held.sleep(lambda: seen.append(gc.get_threshold()))
    held.sleep(lambda: held.sleep(lambda: seen.append(gc.get_threshold())))
    assert gc.get_threshold() == (10_701, 11, 12)
    held.release()
    held.sleep(lambda: seen.append(gc.get_threshold()))
    held.release()
    raised = (10_701, 11, 12)
    assert [*seen, gc.get_threshold()] == [raised, thresholds, thresholds, thresholds]


def test_a_wait_that_fails_leaves_the_collection_held(thresholds: tuple[int, int, int]) -> None:
    """After an exception from a wait the thread is awake, and the thresholds are restored at its end."""
    held = HeldCollection()
    held.hold()
    with pytest.raises(ZeroDivisionError):
        held.sleep(divmod, 1, 0)
    assert gc.get_threshold() == (10_701, 11, 12)
    held.release()
    assert gc.get_threshold() == thresholds
