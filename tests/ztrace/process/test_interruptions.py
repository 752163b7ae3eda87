"""Starts of the publisher that fail once, at a bad moment: tracing works from the next span on."""

import signal

import pytest

from tests.ztrace.programs import QUICK, run_program
from tests.ztrace.receiving import Receiver

pytestmark = pytest.mark.process

#: Children whose first span an alarm interrupts, anywhere in its start; then their exit status is 1.
INTERRUPTED = (
    QUICK
    + """
import os, random, signal, sys, time
import ztrace
ztrace.configure("billing", sys.argv[1])
class Soft(Exception): pass
class Hard(BaseException): pass
kinds = [Soft, Hard, TimeoutError, RuntimeError, ValueError]
def interrupt(*_):
    raise kinds[number % 5]
signal.signal(signal.SIGALRM, interrupt)
interrupted = 0
for number in range(60):
    pid = os.fork()
    if not pid:
        status = 0
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00001, 0.0004))
            with ztrace.span("first"): pass
            time.sleep(1)
        except tuple(kinds):
            status = 1
        for turn in range(3):
            with ztrace.span(f"{number} {turn}"): pass
        assert ztrace.flush(20)
        assert ztrace.context.get_current() is None
        sys.exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, 1), status
    interrupted += status
print(interrupted)
"""
)

#: A first span that starts where the stack is full.
RECURSIVE = (
    QUICK
    + """
import sys
import ztrace
ztrace.configure("billing", sys.argv[1])
def dive():
    try:
        dive()
    except RecursionError:
        with ztrace.span("deep"): pass
        raise
try:
    dive()
except RecursionError:
    pass
for number in range(3):
    with ztrace.span(str(number)): pass
assert ztrace.flush(20)
"""
)


def test_an_alarm_in_the_first_span_does_not_end_tracing(receiver: Receiver) -> None:
    """Whatever an alarm's exception interrupts, the program gets it, and later spans are stored once each."""
    done = run_program(INTERRUPTED, receiver.endpoint)
    assert (done.stdout, done.stderr) == ("60\n", "")
    later = [name for name in receiver.names() if name != "first"]
    assert sorted(later) == sorted(f"{number} {turn}" for number in range(60) for turn in range(3))
    assert len({header.incarnation for header, _ in receiver.messages}) == 60


def test_a_full_stack_in_the_first_span_does_not_end_tracing(receiver: Receiver) -> None:
    """A first span where the stack is full may be lost; the next ones are not."""
    run_program(RECURSIVE, receiver.endpoint)
    assert {"0", "1", "2"} <= set(receiver.names())


@pytest.mark.parametrize("first", ["start", "flush", "shutdown"])
def test_ctrl_c_in_a_first_call_leaves_tracing_as_it_was(receiver: Receiver, first: str) -> None:
    """A KeyboardInterrupt within ztrace's own calls reaches the program, and tracing goes on."""
    calls = {
        "start": "span = ztrace.span('a').start()",
        "flush": "with ztrace.span('a'): pass\n    ztrace.flush(60)",
        "shutdown": "with ztrace.span('a'): pass\n    ztrace.shutdown(60)",
    }
    receiver.acknowledging = False
    code = f"""
import os, signal, sys, threading
import ztrace
ztrace.configure("billing", sys.argv[1])
try:
    threading.Timer(0.3, os.kill, (os.getpid(), {int(signal.SIGINT)})).start()
    {calls[first]}
    threading.Event().wait(60)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = run_program(code, receiver.endpoint)
    assert done.stdout == "interrupted\n"
