"""Forks by C code, which run none of Python's hooks, as uWSGI's master does."""

import os
import sys
from pathlib import Path

import pytest

from tests.ztrace.programs import PATIENT, run_program
from tests.ztrace.receiving import Receiver
from ztrace import context
from ztrace.native import getpid
from ztrace.process import forks
from ztrace.wire import BYE

#: `fork` of C, with the interpreter's lock held, as in a server that embeds Python. No thread of the parent's
#: runs at the fork: Python's lock would not survive that.
FORK = (
    PATIENT
    + """
import atexit, ctypes, os, sys, time
import ztrace
ztrace.configure("billing", sys.argv[1])
fork = ctypes.PyDLL(None).fork
def make_spans(*names):
    for name in names:
        with ztrace.span(name):
            pass
def wait(pid):
    assert os.waitpid(pid, 0)[1] == 0
"""
)


@pytest.mark.process
def test_a_child_without_hooks_is_a_publisher_of_its_own(receiver: Receiver) -> None:
    """Children that C code forked have incarnations, process ids and span ids of their own."""
    code = """
children = []
for number in range(3):
    pid = fork()
    if not pid:
        make_spans(*(f"{number} {turn}" for turn in range(100)))
        sys.exit(0)
    children.append(pid)
for pid in children:
    wait(pid)
make_spans("after")
print(*children, os.getpid())
"""
    done = run_program(FORK + code, receiver.endpoint)
    assert done.stderr == ""
    pids = {int(pid) for pid in done.stdout.split()}
    senders = {header.pid: header.incarnation for header, _ in receiver.messages}
    assert senders.keys() == pids
    assert len(set(senders.values())) == 4
    assert len(receiver.names()) == len(set(receiver.names())) == 301
    assert len({span.span_id for span in receiver.spans}) == len(receiver.spans)
    assert {header.incarnation for header in receiver.headers(BYE)} == set(senders.values())


@pytest.mark.process
def test_a_child_without_hooks_leaves_the_parents_spans_alone(receiver: Receiver) -> None:
    """A span that is open at the fork is the parent's, though the child ends it first."""
    code = """
from ztrace import agent
agent.current_publisher().start = lambda: None  # No thread yet.
with ztrace.span("open"):
    pid = fork()
    if pid:
        wait(pid)
if not pid:
    make_spans("child")
    sys.exit(0)
del agent.current_publisher().start
make_spans("last")
"""
    run_program(FORK + code, receiver.endpoint)
    incarnations = {span.name: header.incarnation for header, batch in receiver.messages for span in batch}
    assert sorted(receiver.names()) == sorted(incarnations) == ["child", "last", "open"]
    assert incarnations["open"] == incarnations["last"] != incarnations["child"]


@pytest.mark.process
@pytest.mark.parametrize(
    "last", ["", "assert ztrace.flush(600)", "ztrace.shutdown(600)", "ztrace.configure('b')"]
)
def test_a_child_without_hooks_and_spans_ends_at_once(receiver: Receiver, last: str) -> None:
    """A child without spans sends nothing, and waits for no thread that only its parent has."""
    code = f"""
pid = fork()
if not pid:
    {last or "pass"}
    sys.exit(0)
wait(pid)
make_spans("parent")
"""
    done = run_program(FORK + code, receiver.endpoint)
    assert done.stderr == ""
    assert receiver.names() == ["parent"]
    assert len({header.incarnation for header, _ in receiver.messages}) == 1


@pytest.mark.process
def test_a_child_without_hooks_has_a_spool_of_its_own(receiver: Receiver, tmp_path: Path) -> None:
    """Parent and child count in their own pages, and leave no file."""
    spool = tmp_path / "spool"
    code = """
pid = fork()
if not pid:
    make_spans(*map(str, range(50)))
    sys.exit(0)
wait(pid)
make_spans("last")
"""
    run_program(FORK + code, receiver.endpoint, ZTRACE_SPOOL=str(spool))
    assert len(receiver.names()) == 51
    assert sorted(header.created for header in receiver.headers(BYE)) == [1, 50]
    assert list(spool.iterdir()) == []


@pytest.mark.process
def test_threads_of_a_child_without_hooks_share_one_publisher(receiver: Receiver) -> None:
    """Threads of a child that make its first spans at once are one publisher, and none loses a span."""
    code = """
import threading
pid = fork()
if not pid:
    barrier = threading.Barrier(6)
    def work(number):
        barrier.wait()
        make_spans(*(f"{number} {turn}" for turn in range(50)))
    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    sys.exit(0)
wait(pid)
"""
    run_program(FORK + code, receiver.endpoint)
    assert len(set(receiver.names())) == 300
    assert len({header.incarnation for header, _ in receiver.messages}) == 1


@pytest.mark.process
@pytest.mark.parametrize("page", [True, False], ids=["page", "process id"])
def test_a_mark_tells_parent_and_child_apart(monkeypatch: pytest.MonkeyPatch, page: bool) -> None:
    """The mark stays true in the process that made it, and is false in each forked child."""
    if not page:
        monkeypatch.setattr(sys, "platform", "elsewhere")
    mark = forks.mark_process()
    assert hasattr(mark, "value") is page
    for _ in range(2):
        pid = os.fork()
        if not pid:
            os._exit(bool(mark))
        assert os.waitpid(pid, 0)[1] == 0
        assert mark


def test_without_such_pages_the_process_id_is_read_at_roots_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a span is current, the comparison of process ids costs no system call."""
    monkeypatch.setattr(sys, "platform", "elsewhere")
    mark = forks.mark_process()
    calls: list[None] = []

    def read() -> int:
        calls.append(None)
        return getpid()

    monkeypatch.setattr(forks, "getpid", read)
    assert mark
    assert len(calls) == 1
    context.make_current(context.SpanContext(bytes(16), bytes(8)))
    try:
        assert mark
    finally:
        context.make_current(None)
    assert len(calls) == 1
