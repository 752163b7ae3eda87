"""Threads of ztrace's own and the program's signals."""

import signal

import pytest

from tests.ztrace.programs import run_program
from tests.ztrace.receiving import Receiver

SETUP = """
import os, signal, sys, time
import ztrace
ztrace.configure("billing", sys.argv[1])
def masks():
    found = {}
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/status") as status:
            lines = dict(line.split(":", 1) for line in status)
        found[int(task)] = int(lines["SigBlk"], 16)
    return found
def blocks(mask, number):
    return bool(mask & 1 << number - 1)
"""


@pytest.mark.process
def test_the_programs_signals_come_to_its_own_threads(receiver: Receiver) -> None:
    """ztrace's threads and libzmq's block the program's signals, and the program's mask is as it was."""
    code = """
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
before = masks()[os.getpid()]
with ztrace.span("a"): pass
assert ztrace.flush(20)
after = masks()
assert after.pop(os.getpid()) == before
assert len(after) == 3, after
theirs = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD, signal.SIGPROF, signal.SIGUSR1)
assert all(blocks(mask, number) for mask in after.values() for number in theirs)
assert not blocks(min(after.values()), signal.SIGSEGV)  # Of the publisher's; libzmq blocks all in its own.
"""
    assert run_program(SETUP + code, receiver.endpoint).stderr == ""


@pytest.mark.process
def test_no_descriptor_is_set_for_python_to_write_signals_to(receiver: Receiver) -> None:
    """`signal.set_wakeup_fd`, which trio and asyncio need for themselves, stays as the program has it."""
    code = """
with ztrace.span("a"): pass
assert ztrace.flush(20)
assert signal.set_wakeup_fd(-1) == -1
"""
    assert run_program(SETUP + code, receiver.endpoint).stderr == ""


@pytest.mark.process
def test_a_signal_on_the_brink_of_a_wait_ends_the_program(receiver: Receiver) -> None:
    """A SIGTERM that Python notes too late for the wait that follows still ends the program."""
    code = """
import _thread, collections, ctypes, functools, operator
with ztrace.span("a"): pass
assert ztrace.flush(20)
lock = _thread.allocate_lock()
lock.acquire()
# Two calls of C with no instruction of Python's between them: the handler waits for the second.
calls = [functools.partial(ctypes.PyDLL(None).kill, os.getpid(), 15), lock.acquire]
collections.deque(map(operator.call, calls), maxlen=0)
"""
    run_program(SETUP + code, receiver.endpoint, expect=-signal.SIGTERM)
    assert receiver.names() == ["a"]
