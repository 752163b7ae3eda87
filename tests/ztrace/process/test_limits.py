"""Threads, descriptors and memory that run out: no abort by libzmq, and tracing once there are some."""

import os
import resource
from pathlib import Path

import pytest

from tests.ztrace.programs import QUICK, run_program, started_program
from tests.ztrace.receiving import Receiver
from ztrace.process.probing import Shortage, probe

#: A program that starts its first span at a limit, and lifts the limit once the publisher has met it.
PROGRAM = (
    QUICK
    + """
import os, resource, sys, time
import ztrace
ztrace.configure("billing", sys.argv[1])
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)  # Root may start any number of threads.
before = resource.getrlimit({kind})
def limit(soft):
    resource.setrlimit({kind}, (soft, before[1]))
def used():
    return len(os.listdir("/proc/self/fd")) - 1
def taken():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()
def make_spans(name):
    for number in range(20):
        with ztrace.span(f"{{name}} {{number}}"): pass
limit({soft})
make_spans("early")
met_s = time.monotonic() + {met_s}
while time.monotonic() < met_s and "shortage" not in ztrace.diagnostics.counts and not ztrace.flush(0.01):
    pass
limit(before[0])
make_spans("late")
assert ztrace.flush(20), ztrace.diagnostics.counts
"""
)

EARLY_AND_LATE = sorted(f"{when} {number}" for when in ("early", "late") for number in range(20))


@pytest.mark.process
@pytest.mark.parametrize("free", [0, 2, 3, 5, 8, 13, 20])
def test_no_descriptors_are_no_reason_to_abort(receiver: Receiver, free: int) -> None:
    """However few descriptors are left at the first span, the program goes on and its spans arrive."""
    code = PROGRAM.format(kind="resource.RLIMIT_NOFILE", soft=f"used() + {free}", met_s=20)
    done = run_program(code, receiver.endpoint)
    assert sorted(receiver.names()) == EARLY_AND_LATE
    assert "Traceback" not in done.stderr
    assert done.stderr.count("too few file descriptors are left") == (free < 14)


@pytest.mark.process
@pytest.mark.parametrize("threads", [1, 2, 3, 6])
def test_no_threads_are_no_reason_to_abort(receiver: Receiver, threads: int) -> None:
    """However few threads are left at the first span, the program goes on and its spans arrive."""
    code = PROGRAM.format(kind="resource.RLIMIT_NPROC", soft=threads, met_s=0.15)
    done = run_program(code, receiver.endpoint)
    assert sorted(receiver.names()) == EARLY_AND_LATE
    assert "Traceback" not in done.stderr


@pytest.mark.process
@pytest.mark.parametrize("mebibytes", [1, 8, 32])
def test_little_memory_is_no_reason_to_abort(receiver: Receiver, mebibytes: int) -> None:
    """However little address space is left at the first span, the program goes on and its spans arrive."""
    size = f"taken() + ({mebibytes} << 20)"
    code = PROGRAM.format(kind="resource.RLIMIT_AS", soft=size, met_s=0.15)
    done = run_program(code, receiver.endpoint)
    assert sorted(receiver.names()) == EARLY_AND_LATE
    assert "Traceback" not in done.stderr


@pytest.mark.process
def test_descriptors_that_run_out_later_stop_nothing(receiver: Receiver) -> None:
    """A connection that is lost while no descriptor is left comes back once there is one."""
    code = """
import os, resource, sys, time
import ztrace
ztrace.configure("billing", sys.argv[1])
def make_span(name):
    with ztrace.span(name): pass
make_span("early")
assert ztrace.flush(20)
before = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, before[1]))
print("full", flush=True)
sys.stdin.readline()
make_span("meanwhile")
time.sleep(0.5)
resource.setrlimit(resource.RLIMIT_NOFILE, before)
make_span("late")
assert ztrace.flush(20)
print("done", flush=True)
"""
    with started_program(code, receiver.endpoint) as process:
        receiver.stop()
        receiver.start()
        out, _ = process.communicate("\n", timeout=60)
    assert (out, process.returncode) == ("done\n", 0)
    assert receiver.names() == ["early", "meanwhile", "late"]


def test_a_probe_leaves_nothing_open() -> None:
    """A probe that succeeds has given back its threads and descriptors."""
    before = _list_own()
    probe()
    assert _list_own() <= before  # Threads of other tests may have ended since.


def test_a_probe_that_fails_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe at the limit of descriptors gives back those that it found."""
    before = os.listdir("/proc/self/fd")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]  # Numbers of closed files are free again.
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, hard))
    for descriptor in taken[-4:]:
        os.close(descriptor)
    try:
        with pytest.raises(Shortage, match="descriptors"):
            probe()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken[:-4]:
            os.close(descriptor)
    assert os.listdir("/proc/self/fd") == before


def _list_own() -> set[Path]:
    """Return the descriptors and threads of this process."""
    return {each for kind in ("fd", "task") for each in Path("/proc/self", kind).iterdir()}
