"""Clocks, sleep, randomness and process ids that the program or its tests have patched."""

import time
from pathlib import Path
from unittest import mock

import pytest

from tests.ztrace.programs import run_program
from tests.ztrace.receiving import Receiver
from tests.ztrace.waiting import DEADLINE_S
from ztrace import native

#: A program that configures ztrace, patches, traces, and checks that no value of a mock was used up.
PROGRAM = """
import os, random, sys, threading, time, uuid
from unittest import mock
import ztrace
ztrace.configure("billing", sys.argv[1])
before_ns = time.time_ns()
with ztrace.span("before"): pass
{patch}
with patched as patch:
    with ztrace.span("inside"): pass
    with ztrace.span("outer", kind="server"):
        with ztrace.span("inner"): pass
    assert ztrace.flush({timeout_s}) is {flushed}
    ztrace.shutdown({timeout_s})
if hasattr(patch, "call_count"):
    assert patch.call_count == 0, patch.mock_calls
print(before_ns, time.time_ns())
"""

PATCHES = [
    *(
        f"mock.patch('time.{name}', side_effect=[1, 2])"
        for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")
    ),
    "mock.patch('time.thread_time_ns', return_value=None)",
    "mock.patch('time.sleep')",
    "mock.patch('time.sleep', side_effect=AssertionError)",
    "mock.patch('os.urandom', lambda size: bytes(size))",
    "mock.patch('os.getpid', return_value=1)",
    "mock.patch('random.getrandbits', return_value=0)",
    "mock.patch('uuid.uuid4', side_effect=[])",
    "mock.patch('threading.Thread')",
    "mock.patch('threading.Lock')",
    "mock.patch('threading.current_thread', side_effect=[])",
]


@pytest.mark.process
@pytest.mark.parametrize("patch", PATCHES)
def test_a_patched_function_is_neither_called_nor_believed(receiver: Receiver, patch: str) -> None:
    """A mock of a clock, of sleep, randomness or threads keeps its values, and spans keep theirs."""
    code = PROGRAM.format(patch=f"patched = {patch}", timeout_s=DEADLINE_S, flushed=True)
    began_ns, ended_ns = map(int, run_program(code, receiver.endpoint).stdout.split())
    assert sorted(receiver.names()) == ["before", "inner", "inside", "outer"]
    assert len({span.span_id for span in receiver.spans}) == 4
    for span in receiver.spans:
        assert span.duration_ns is not None
        assert began_ns - 10**9 <= span.start_ns <= span.start_ns + span.duration_ns <= ended_ns + 10**9


@pytest.mark.process
@pytest.mark.parametrize("patch", ["mock.patch('time.monotonic', return_value=5.0)", *PATCHES[:9]])
def test_a_wait_ends_under_a_patched_clock(tmp_path: Path, patch: str) -> None:
    """`flush` and `shutdown` keep their deadlines where the clock stands still, and there is no collector."""
    code = PROGRAM.format(patch=f"patched = {patch}", timeout_s=0.05, flushed=False)
    done = run_program(code, f"ipc://{tmp_path}/nobody")
    assert done.stderr == f"ztrace: 4 spans not delivered to ipc://{tmp_path}/nobody\n"


@pytest.mark.process
def test_functions_that_were_patched_before_the_import_are_avoided(receiver: Receiver) -> None:
    """A program that imports ztrace while its clocks are patched is traced by the real ones."""
    names = ("time", "time_ns", "monotonic", "perf_counter_ns", "thread_time_ns", "sleep")
    patches = "".join(f"time.{name} = " for name in names)
    code = f"import os, sys, time\n{patches}os.urandom = lambda *_: 5\nimport ztrace\n"
    code += "ztrace.configure('billing', sys.argv[1])\nwith ztrace.span('a', kind='server'): pass\n"
    code += f"assert ztrace.flush({DEADLINE_S})"
    run_program(code, receiver.endpoint)
    assert receiver.names() == ["a"]


def test_the_copies_are_not_the_modules_own() -> None:
    """The held clocks are no objects of the `time` module, by which freezegun recognizes what it replaces."""
    names = ("monotonic", "perf_counter_ns", "thread_time_ns", "sleep")
    assert all(getattr(native, name) is not getattr(time, name) for name in names)
    assert abs(native.unix_ns() - time.time_ns()) < 60 * 10**9
    assert abs(native.monotonic() - time.monotonic()) < 60


def test_a_sleep_of_the_programs_own_is_not_called() -> None:
    """`sleep_and_switch` calls no mock of `time.sleep`."""
    with mock.patch("time.sleep", side_effect=AssertionError):
        native.sleep_and_switch(0.0)
