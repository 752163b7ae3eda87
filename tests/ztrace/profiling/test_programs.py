"""Real programs that are sampled: threads, greenlets and tasks, each with its own stacks, and unharmed."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ztrace.profiling.profiles import Readable, read
from tests.ztrace.programs import QUICK, run_program, started_program
from tests.ztrace.receiving import Receiver
from tests.ztrace.waiting import wait_for
from ztrace.records import FINISHED, RUN, STARTED, WAIT, WAIT_BUSY
from ztrace.wire import BYE, CRASH, Request, pack_request

pytestmark = pytest.mark.process

ASKED = Request(b"n" * 8, "billing", 100, 1)

START = """
import sys, threading, time
import ztrace
ztrace.configure("billing", sys.argv[1])
def burns():
    end_s = time.perf_counter() + 0.03
    while time.perf_counter() < end_s:
        pass
"""
#: Function that spends time within a span until there is a sample.
SPEND = """
from ztrace import spans
def spend(name):
    with ztrace.span(name):
        while not (spans.publisher.worker and spans.publisher.worker._profiler.sampled):
            burns()
"""
THREADS = """
def parks(): time.sleep(0.05)
def park():
    while True:
        with ztrace.span("parks"): parks()
def burn():
    while True:
        with ztrace.span("burns"): burns()
        time.sleep(0.005)
for work in (park, park, burn):
    threading.Thread(target=work, daemon=True).start()
print("ready", flush=True)
time.sleep(60)
"""
GREENLETS = """
import gevent
def parks(): gevent.sleep(0.05)
def park():
    while True:
        with ztrace.span("parks"): parks()
def burn():
    while True:
        with ztrace.span("burns"): burns()
        gevent.sleep(0.005)
print("ready", flush=True)
gevent.joinall([gevent.spawn(work) for work in (park, park, burn)])
"""
TASKS = """
import asyncio
async def parks(): await asyncio.sleep(0.05)
async def park():
    while True:
        with ztrace.span("parks"): await parks()
async def burn():
    while True:
        with ztrace.span("burns"): burns()
        await asyncio.sleep(0.005)
async def main():
    print("ready", flush=True)
    await asyncio.gather(park(), park(), burn())
"""
PROGRAMS = {
    "threads": START + THREADS,
    "gevent": START + GREENLETS,
    "gevent, patched": "from gevent import monkey; monkey.patch_all()" + START + GREENLETS,
    "asyncio": START + TASKS + "asyncio.run(main())",
    "uvloop": START + TASKS + "import uvloop; uvloop.run(main())",
}


def profiles(receiver: Receiver) -> list[Readable]:
    """Return the profiles received so far."""
    return [read(body) for _, body in list(receiver.profiles)]


def has_answered(receiver: Receiver, nonce: bytes, state: int) -> Callable[[], bool]:
    """Return a condition: that a publisher has given an answer."""
    return lambda: any([nonce, state] in list(one.profile.answers) for one in profiles(receiver))


@pytest.mark.parametrize("kind", PROGRAMS)
def test_samples_belong_to_the_span_of_their_owner(receiver: Receiver, kind: str) -> None:
    """On request each span has the stacks of its own thread, greenlet or task, and what it waited behind."""
    with started_program(PROGRAMS[kind], receiver.endpoint):
        wait_for(receiver.names)
        receiver.send(pack_request(ASKED))
        wait_for(has_answered(receiver, ASKED.nonce, FINISHED))
    seen = profiles(receiver)
    assert seen[0].profile.answers == [[ASKED.nonce, STARTED]]
    runs = [
        (one.names[span_id], run, one.names.get(run.behind or b""))
        for one in seen
        for span_id, span_runs in one.runs.items()
        for run in span_runs
    ]
    stacks = {name: {run.stack for other, run, _ in runs if other == name} for name in ("parks", "burns")}
    assert not any("burns" in stack or "burn" in stack for stack in stacks["parks"])
    assert not any("parks" in stack or "park" in stack for stack in stacks["burns"])
    assert any(name == "burns" and run.state == RUN and run.stack[-1] == "burns" for name, run, _ in runs)
    waits = {WAIT} if kind == "threads" else {WAIT, WAIT_BUSY}
    assert {run.state for name, run, _ in runs if name == "parks" and "parks" in run.stack} <= {*waits, RUN}
    behind = {other for name, run, other in runs if name == "parks" and run.state == WAIT_BUSY}
    assert behind <= {"burns", "parks", None}
    assert ("burns" in behind) == (kind != "threads")
    (header, _), *_ = reversed(receiver.profiles)
    assert sum(one.profile.samples for one in seen) == header.sampled


def test_child_tasks_run_within_the_span_that_they_inherit(receiver: Receiver) -> None:
    """Where tasks tell their context, a span runs while its child tasks do; elsewhere its own task waits."""
    program = """
import asyncio
from ztrace import spans
async def child():
    burns()
async def main():
    with ztrace.span("gathers"):
        while not spans.publisher.worker or spans.publisher.worker._profiler.sampled < 10:
            await asyncio.gather(child(), child())
with ztrace.span("first"):
    burns()
asyncio.run(main())
"""
    run_program(START + program, receiver.endpoint, ZTRACE_PROFILE="always")
    sums = [one for profile in profiles(receiver) for one in profile.sums if one.method == "gathers"]
    assert sums
    if sys.version_info >= (3, 12):
        burning = {(one.stack, one.state) for one in sums if one.stack[-1] == "burns"}
        assert burning == {(("child", "burns"), RUN)}
    else:
        assert {(one.stack, one.state) for one in sums} <= {(("main",), WAIT_BUSY), (("main",), WAIT)}


ENDS = {
    "the interpreter exits": ("", 0),
    "SIGTERM": ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)\n", -signal.SIGTERM),
    "an uncaught exception": ("raise SystemExit(3)\n", 3),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_last_samples_are_delivered(receiver: Receiver, end: str) -> None:
    """A program that ends while it is sampled ends as ever, and its samples are all there before the BYE."""
    code, status = ENDS[end]
    program = f"{START}{SPEND}spend('work')\n{code}"
    done = run_program(program, receiver.endpoint, expect=status, ZTRACE_PROFILE="always")
    assert done.stderr == ""
    (bye,) = wait_for(lambda: receiver.headers(BYE))
    assert sum(one.profile.samples for one in profiles(receiver)) == bye.sampled > 0


def test_a_forked_child_is_sampled_on_its_own(receiver: Receiver) -> None:
    """Parent and child each have their samples; a child without spans has no thread and the old interval."""
    program = """
import os
before = sys.getswitchinterval()
spend("parent")
assert sys.getswitchinterval() < before
bare = os.fork()
if not bare:
    threads = len(os.listdir("/proc/self/task"))
    assert (sys.getswitchinterval(), threads) == (before, 1), (sys.getswitchinterval(), threads)
    os._exit(0)
assert os.waitpid(bare, 0)[1] == 0
child = os.fork()
if not child:
    spend("child")
    ztrace.shutdown(20)
    assert sys.getswitchinterval() == before
    os._exit(0)
spend("parent")
assert os.waitpid(child, 0)[1] == 0
ztrace.shutdown(20)
assert sys.getswitchinterval() == before
"""
    done = run_program(START + SPEND + program, receiver.endpoint, ZTRACE_PROFILE="always")
    assert done.stderr == ""
    methods = {
        header.incarnation: {one.method for one in read(body).sums} for header, body in receiver.profiles
    }
    assert sorted(methods.values(), key=str) == [{"child"}, {"parent"}]


def test_forgotten_greenlets_still_end(receiver: Receiver) -> None:
    """A greenlet that the program forgets within a span is ended by GreenletExit, also while sampled."""
    program = """
import gevent, greenlet
ended = []
def work():
    with ztrace.span("forgotten"):
        try:
            greenlet.getcurrent().parent.switch()
        except greenlet.GreenletExit:
            ended.append(1)
with ztrace.span("outer"):
    for turn in range(20):
        made = greenlet.greenlet(work)
        made.switch()
        burns()
        del made
        assert len(ended) == turn + 1
"""
    assert run_program(START + program, receiver.endpoint, ZTRACE_PROFILE="always").stderr == ""
    assert "forgotten" in {one.method for profile in profiles(receiver) for one in profile.sums}


def test_code_that_is_made_and_dropped_is_told_apart(receiver: Receiver) -> None:
    """Of 10,000 functions made one after the other, each sample has the right one, and none is kept."""
    program = """
import gc, weakref
codes, names = weakref.WeakSet(), {}
body = "\\n end = time.perf_counter() + 0.0001\\n while time.perf_counter() < end: pass"
for number in range(10_000):
    scope = {"time": time}
    exec(f"def f{number}():{body}", scope)
    codes.add(scope[f"f{number}"].__code__)
    with ztrace.span(f"f{number}"):
        scope[f"f{number}"]()
    del scope
assert ztrace.flush(20)
ztrace.shutdown(20)
gc.collect()
assert not codes, len(codes)
"""
    assert run_program(START + program, receiver.endpoint, ZTRACE_PROFILE="always").stderr == ""
    sums = [one for profile in profiles(receiver) for one in profile.sums]
    right = [one for one in sums if one.method in one.stack]
    assert right
    assert not [one for one in sums if one.stack[-1].startswith("f") and one.stack[-1] != one.method]


def test_objects_are_finalized_in_the_programs_threads(receiver: Receiver) -> None:
    """Local variables of sampled code, and attributes, never end in the sampler's thread."""
    program = """
finalized = set()
class Object:
    def __del__(self): finalized.add(threading.get_ident())
def work(depth=5):
    mine = Object()
    if depth: work(depth - 1)
end_s = time.monotonic() + 1
while time.monotonic() < end_s:
    for _ in range(50):
        with ztrace.span("work", thing=Object()): work()
    time.sleep(0.0005)
assert finalized == {threading.get_ident()}, finalized
"""
    done = run_program(QUICK + START + program, receiver.endpoint, ZTRACE_PROFILE="always")
    assert done.stderr == ""


def test_samples_of_a_killed_program_are_in_its_spool(receiver: Receiver, tmp_path: Path) -> None:
    """What a killed process has written of its samples is delivered, and the count of those it took."""
    receiver.acknowledging = False
    often = """
from ztrace.profiling import profiler
profiler.STANDING["always"] = profiler.STANDING["always"]._replace(flush_ns=50_000_000)
"""
    program = """
with ztrace.span("work"):
    while spans.publisher.worker is None or spans.publisher.worker.window.next_sequence < 2:
        burns()
    print("ready", flush=True)
    while True: burns()
"""
    environment = {"ZTRACE_PROFILE": "always", "ZTRACE_SPOOL": str(tmp_path / "spool")}
    with started_program(START + SPEND + often + program, receiver.endpoint, **environment) as process:
        process.kill()
    assert not receiver.profiles
    receiver.acknowledging = True
    heir = "with ztrace.span('heir'): pass\ntime.sleep(60)"
    del environment["ZTRACE_PROFILE"]
    with started_program(f"{START}print('ready', flush=True)\n{heir}", receiver.endpoint, **environment):
        (crash,) = wait_for(lambda: receiver.headers(CRASH))
    stored = [read(body) for header, body in receiver.profiles if header.incarnation == crash.incarnation]
    assert [one.profile.first for one in stored[:2]] == [0, stored[0].profile.samples]
    assert 0 < sum(one.profile.samples for one in stored) <= crash.sampled
    assert {one.method for profile in stored for one in profile.sums} == {"work"}
