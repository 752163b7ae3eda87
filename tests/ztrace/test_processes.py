"""Spans of whole processes: exit, fork, signals, event loops and gevent's patches."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.collector.messages import is_balanced, row
from tests.ztrace.programs import ALONE, PATIENT, QUICK, ROOT, run_program, run_script, started_program
from tests.ztrace.receiving import Receiver
from tests.ztrace.waiting import DEADLINE_S, wait_for
from ztrace.spooling.orphans import find_orphans
from ztrace.wire import BYE, DATA, OPEN, Header

pytestmark = pytest.mark.process

CONFIGURE = (
    PATIENT
    + """
import os, sys, time
import ztrace
ztrace.configure("billing", sys.argv[1])
def make_span(name):
    with ztrace.span(name):
        pass
"""
)


def senders(receiver: Receiver) -> dict[str, Header]:
    """Return the sender of each span by name, and check that no span was sent by two incarnations."""
    found: dict[str, Header] = {}
    for header, spans in receiver.messages:
        for span in spans:
            assert found.setdefault(span.name, header).incarnation == header.incarnation
    assert sorted(found) == sorted(receiver.names())
    return found


def test_a_program_that_ends_delivers_its_spans(receiver: Receiver) -> None:
    """A program that ends without `flush` or `shutdown` delivers all its spans and prints nothing."""
    done = run_program(CONFIGURE + "for number in range(1000): make_span(str(number))", receiver.endpoint)
    assert receiver.names() == [str(number) for number in range(1000)]
    assert (done.stdout, done.stderr) == ("", "")
    assert len(receiver.headers(BYE)) == 1


@pytest.mark.parametrize("spooled", [False, True], ids=["", "spool"])
def test_a_program_that_hangs_in_its_first_span_is_known(
    receiver: Receiver, tmp_path: Path, spooled: bool
) -> None:
    """A first span that does not end is sent as unfinished, with its publisher."""
    code = "with ztrace.span('nightly job', table='orders'):\n    print(flush=True)\n    time.sleep(60)"
    environment = {"ZTRACE_SPOOL": str(tmp_path / "spool")} if spooled else {}
    with started_program(QUICK + CONFIGURE + code, receiver.endpoint, **environment) as process:
        span = wait_for(lambda: receiver.open_spans)[0]
        assert (span.name, span.attributes, span.duration_ns) == ("nightly job", {"table": "orders"}, None)
        assert receiver.headers(OPEN)[0].pid == process.pid


def test_settings_come_from_the_environment(receiver: Receiver) -> None:
    """Environment variables name the endpoint and the service of an unchanged program."""
    run_program(
        "import ztrace\nztrace.configure()\nwith ztrace.span('a'): pass\n",
        ZTRACE_ENDPOINT=receiver.endpoint,
        ZTRACE_SERVICE="shop",
    )
    assert senders(receiver)["a"].service == "shop"


@pytest.mark.parametrize(
    ("last", "status"),
    [("raise ValueError", 1), ("sys.exit(3)", 3), ("raise KeyboardInterrupt", -signal.SIGINT)],
)
def test_a_program_that_fails_delivers_the_span_it_failed_in(
    receiver: Receiver, last: str, status: int
) -> None:
    """A program that ends by an exception delivers the span it failed in, and keeps its exit status."""
    run_program(CONFIGURE + f"with ztrace.span('last'):\n    {last}\n", receiver.endpoint, expect=status)
    (span,) = receiver.spans
    assert span.exception is not None


def test_without_a_collector_a_program_ends_all_the_same(tmp_path: Path) -> None:
    """Without a collector, a program keeps its exit status and reports the undelivered spans on stderr."""
    endpoint = f"ipc://{tmp_path}/nobody"
    done = run_program(CONFIGURE + ALONE + "make_span('a'); sys.exit(5)", endpoint, expect=5)
    assert done.stderr == f"ztrace: 1 span not delivered to {endpoint}\n"


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "SystemExit(3)", "TimeoutError"])
def test_an_interrupt_ends_the_wait_at_exit(tmp_path: Path, raised: str) -> None:
    """A signal handler that raises while a program waits at its exit ends the wait, without a traceback."""
    code = f"""
import os, signal, threading, time
from ztrace import agent
def stop(*_):
    raise {raised}
signal.signal(signal.SIGINT, stop)
def interrupt():
    while agent._closing is None:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
make_span("a")
"""
    endpoint = f"ipc://{tmp_path}/nobody"
    done = run_program(CONFIGURE + code, endpoint)
    assert done.stderr == f"ztrace: 1 span not delivered to {endpoint}\n"


def test_a_thread_that_makes_spans_while_the_program_ends_does_no_harm(receiver: Receiver) -> None:
    """A daemon thread that creates spans during exit prints nothing, and its stored spans have no gap."""
    code = """
import threading
made = threading.Event()
def work():
    number = 0
    while True:
        make_span(str(number))
        number += 1
        if number == 100:
            made.set()
threading.Thread(target=work, daemon=True).start()
made.wait()
"""
    done = run_program(CONFIGURE + code, receiver.endpoint)
    names = receiver.names()
    assert names == [str(number) for number in range(len(names))]
    assert len(names) >= 100
    assert done.stderr == ""


def test_a_forked_child_is_a_publisher_of_its_own(receiver: Receiver) -> None:
    """Parent and forked child deliver their own spans, as separate publishers with separate ids."""
    code = """
make_span("before")
pid = os.fork()
if pid == 0:
    make_span("child")
    sys.exit(0)
make_span("parent")
assert os.waitpid(pid, 0)[1] == 0
make_span("after")
"""
    done = run_program(CONFIGURE + code, receiver.endpoint)
    assert done.stderr == ""
    sender = senders(receiver)
    assert sorted(sender) == ["after", "before", "child", "parent"]
    assert sender["before"].incarnation == sender["parent"].incarnation == sender["after"].incarnation
    assert sender["child"].incarnation != sender["parent"].incarnation
    assert sender["child"].pid != sender["parent"].pid
    assert (sender["child"].sequence, sender["child"].created) == (0, 1)
    assert len({span.span_id for span in receiver.spans}) == 4


def test_a_span_open_across_a_fork_is_the_parents(receiver: Receiver) -> None:
    """A span open across a fork is recorded by the parent only, and is the parent of the child's spans."""
    code = """
with ztrace.span("open"):
    pid = os.fork()
    make_span("child" if pid == 0 else "parent")
if pid:
    assert os.waitpid(pid, 0)[1] == 0
else:
    make_span("alone")
"""
    run_program(CONFIGURE + code, receiver.endpoint)
    sender = senders(receiver)
    assert sorted(sender) == ["alone", "child", "open", "parent"]
    assert sender["open"].incarnation == sender["parent"].incarnation != sender["child"].incarnation
    spans = {span.name: span for span in receiver.spans}
    assert spans["child"].parent_id == spans["parent"].parent_id == spans["open"].span_id
    assert spans["alone"].parent_id is None


def test_a_child_that_ends_no_span_sends_nothing(receiver: Receiver) -> None:
    """A forked child that ends no span sends nothing, even when it ends before its parent has sent."""
    code = """
for number in range(50):
    make_span(str(number))
pid = os.fork()
if pid == 0:
    ztrace.flush(5)
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""
    run_program(CONFIGURE + code, receiver.endpoint)
    assert receiver.names() == [str(number) for number in range(50)]
    assert len({header.incarnation for header, _ in receiver.messages}) == 1


MULTIPROCESSING = (
    CONFIGURE.replace("ztrace.configure", "if __name__ == '__main__': ztrace.configure")
    + """
import multiprocessing
def work(name, endpoint):
    if multiprocessing.get_start_method() != "fork":
        ztrace.configure("billing", endpoint)
    make_span(name)
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[2])
    make_span("main")
    children = [multiprocessing.Process(target=work, args=(name, sys.argv[1])) for name in ("one", "two")]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
"""
)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_children_of_multiprocessing_deliver(receiver: Receiver, tmp_path: Path, method: str) -> None:
    """Children of `multiprocessing`, which skip exit handlers, deliver their spans."""
    done = run_script(tmp_path / "program.py", MULTIPROCESSING, receiver.endpoint, method)
    assert done.stderr == ""
    sender = senders(receiver)
    assert sorted(sender) == ["main", "one", "two"]
    assert len({header.incarnation for header in sender.values()}) == 3
    wait_for(lambda: len(receiver.headers(BYE)) == 3)


GEVENT = """
import sys
{}
import gevent
ztrace.configure("billing", sys.argv[1])
def work(number):
    with ztrace.span(f"outer {{number}}"):
        gevent.sleep(0.001)
        with ztrace.span(f"inner {{number}}"):
            gevent.sleep(0.001)
def work_together():
    gevent.joinall([gevent.spawn(work, number) for number in range(20)], raise_error=True)
"""

TICKING = """
ticks = 0
def tick():
    global ticks
    while True:
        ticks += 1
        gevent.sleep(0.001)
ticking = gevent.spawn(tick)
work_together()
for wait in (lambda: gevent.sleep(0.2), lambda: ztrace.flush(0.2), lambda: ztrace.shutdown(0.2)):
    ticks = 0
    assert not wait()
    assert ticks > 1, ticks
"""


@pytest.mark.parametrize(
    "imports",
    [
        "from gevent import monkey; monkey.patch_all()\nimport ztrace",
        "import ztrace\nfrom gevent import monkey; monkey.patch_all()",
        "import ztrace, zmq, ztrace.publishing.publisher\nfrom gevent import monkey; monkey.patch_all()",
    ],
    ids=["before", "after", "late"],
)
def test_gevents_hub_is_not_blocked(receiver: Receiver, imports: str) -> None:
    """Sending, flushing and shutting down do not block gevent's hub, whenever gevent patches."""
    receiver.acknowledging = False
    done = run_program(GEVENT.format(imports) + TICKING, receiver.endpoint)
    assert done.stderr == f"ztrace: 40 spans not delivered to {receiver.endpoint}\n"
    spans = {span.name: span for _, batch in receiver.messages for span in batch}
    assert len(spans) == 40
    for number in range(20):
        assert spans[f"inner {number}"].parent_id == spans[f"outer {number}"].span_id


def test_gevent_without_patches(receiver: Receiver) -> None:
    """Greenlets of an unpatched program are traced."""
    run_program(GEVENT.format("import ztrace") + "work_together()\n", receiver.endpoint)
    assert len(receiver.names()) == 40


def test_an_asyncio_program_delivers(receiver: Receiver) -> None:
    """An asyncio program delivers the spans of its tasks, cancelled ones included."""
    code = """
import asyncio
@ztrace.trace("work")
async def work(number):
    with ztrace.span(f"inner {number}"):
        await asyncio.sleep(0.001 if number else 10)
async def main():
    with ztrace.span("main"):
        slow = asyncio.create_task(work(0))
        await asyncio.gather(work(1), work(2))
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
asyncio.run(main())
"""
    run_program(CONFIGURE + code, receiver.endpoint)
    assert sorted(receiver.names()) == ["inner 0", "inner 1", "inner 2", "main", "work", "work", "work"]
    failed = {span.name for span in receiver.spans if span.exception}
    assert failed == {"inner 0", "work"}


def test_a_program_without_standard_streams_delivers(receiver: Receiver) -> None:
    """A program that has closed its standard streams delivers its spans."""
    code = "import ztrace, sys\nsys.stdout = sys.stderr = None\n" + CONFIGURE + "make_span('a')\n"
    run_program(code, receiver.endpoint)
    assert receiver.names() == ["a"]
    assert len(receiver.headers(DATA)) == 1


def test_a_uvloop_program_delivers(receiver: Receiver) -> None:
    """Concurrent tasks on uvloop have separate current spans, and all are delivered."""
    code = """
import asyncio, uvloop
async def work(number):
    with ztrace.span(f"outer {number}"):
        await asyncio.sleep(0.001)
        with ztrace.span(f"inner {number}"):
            await asyncio.sleep(0.001)
async def main():
    await asyncio.gather(*map(work, range(20)))
uvloop.run(main())
"""
    run_program(CONFIGURE + code, receiver.endpoint)
    spans = {span.name: span for span in receiver.spans}
    assert len(spans) == len(receiver.spans) == 40
    for number in range(20):
        assert spans[f"inner {number}"].parent_id == spans[f"outer {number}"].span_id


def test_threads_that_are_older_than_configure_deliver(receiver: Receiver) -> None:
    """Threads started before `configure` are traced from then on, without their earlier spans."""
    code = """
import os, sys, threading, time
import ztrace
configured, done = threading.Event(), threading.Barrier(5)
def work(number):
    with ztrace.span(f"early {number}"):
        configured.wait()
        with ztrace.span(f"inner {number}"):
            pass
    with ztrace.span(f"late {number}"):
        pass
    done.wait()
for number in range(4):
    threading.Thread(target=work, args=(number,), daemon=True).start()
ztrace.configure("billing", sys.argv[1])
configured.set()
done.wait()
"""
    run_program(code, receiver.endpoint)
    assert sorted(receiver.names()) == sorted(
        f"{when} {number}" for when in ("inner", "late") for number in range(4)
    )
    assert {span.parent_id for span in receiver.spans} == {None}


def test_a_process_that_leaves_without_ado_keeps_what_was_flushed(receiver: Receiver) -> None:
    """A process that ends by `os._exit` keeps the spans already flushed, each stored once."""
    code = """
for number in range(100):
    make_span(str(number))
assert ztrace.flush(10)
make_span("last")
os._exit(4)
"""
    run_program(CONFIGURE + code, receiver.endpoint, expect=4)
    assert receiver.names()[:100] == [str(number) for number in range(100)]
    assert set(receiver.names()[100:]) <= {"last"}
    assert receiver.headers(BYE) == []


def test_a_killed_process_harms_nobody(receiver: Receiver) -> None:
    """Spans delivered by a process killed later stay stored, and other processes are unaffected."""
    with started_program(
        CONFIGURE + "make_span('a'); assert ztrace.flush(10); print(flush=True); time.sleep(60)",
        receiver.endpoint,
    ) as process:
        process.kill()
        assert process.wait(DEADLINE_S) == -signal.SIGKILL
    run_program(CONFIGURE + "make_span('b')", receiver.endpoint)
    assert receiver.names() == ["a", "b"]


APPLICATION = (
    PATIENT
    + """
import os, sys
import ztrace
if os.environ["CONFIGURE"] == "before":
    ztrace.configure("billing")
    with ztrace.span("master"):
        pass
configured = []
def application(environ, start_response):
    if os.environ["CONFIGURE"] == "after" and not configured:
        configured.append(ztrace.configure("billing"))
    with ztrace.span(environ["PATH_INFO"], kind="server", worker=os.getpid()):
        start_response("200 OK", [("Content-Length", "2"), ("Connection", "close")])
        return [b"ok"]
"""
)


@pytest.mark.parametrize("configure", ["before", "after"])
def test_a_prefork_server_delivers(receiver: Receiver, tmp_path: Path, configure: str) -> None:
    """gunicorn with --preload delivers every span of every worker by the time SIGTERM ends the master."""
    (tmp_path / "application.py").write_text(APPLICATION)
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers=3", "--bind=127.0.0.1:0"]
    command += ["--no-control-socket", f"--worker-tmp-dir={tmp_path}", "application:application"]
    server = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "ZTRACE_ENDPOINT": receiver.endpoint,
            "CONFIGURE": configure,
        },
    )
    with server:
        try:
            assert server.stderr is not None
            lines = iter(server.stderr.readline, "")
            port = next(line for line in lines if "Listening at" in line).split("127.0.0.1:")[1].split()[0]
            booted = sum(1 for _ in islice((line for line in lines if "Booting worker" in line), 3))
            assert booted == 3
            for number in range(60):
                with urlopen(f"http://127.0.0.1:{port}/{number}", timeout=DEADLINE_S) as answer:
                    assert answer.read() == b"ok"
            server.terminate()
            server.stderr.read()
            assert server.wait(DEADLINE_S) == 0
        finally:
            server.kill()
    requests = {f"/{number}" for number in range(60)}
    assert sorted(receiver.names()) == sorted(requests | ({"master"} if configure == "before" else set()))
    workers = {
        span.attributes["worker"] for span in receiver.spans if span.name in requests and span.attributes
    }
    sent = {header.pid for header, batch in receiver.messages if any(span.name in requests for span in batch)}
    assert workers == sent
    assert len(receiver.headers(BYE)) == len(workers) + (configure == "before")


# The first span is ended by the main thread: Python 3.12.0 and 3.12.1 start no thread once it has ended.
ENDLESS = """
import threading
make_span("first")
def work(number):
    for turn in range(10**9):
        make_span(str(turn))
        if turn == 20_000:
            os.write(1, b"far enough\\n")
for number in range(3):
    threading.Thread(target=work, args=(number,)).start()
"""


def test_what_a_killed_process_left_is_delivered_and_counted(tmp_path: Path) -> None:
    """A killed process's spooled spans are stored or counted, even by a collector started later."""
    path, spool = tmp_path / "spans.db", tmp_path / "spool"
    endpoint = f"ipc://{tmp_path}/collector"
    with started_program(CONFIGURE + ENDLESS, endpoint, ZTRACE_SPOOL=str(spool)) as process:
        wait_for(lambda: any(each.stat().st_size > 10_000 for each in spool.glob("*.spans")))
        process.kill()
        assert process.wait(DEADLINE_S) == -signal.SIGKILL
    (orphan,) = find_orphans(spool)
    created = orphan.created
    orphan.release()
    assert created > 20_000
    with collecting(path, endpoint):
        code = "make_span('heir'); assert ztrace.flush(10)\n"
        code += "while len(os.listdir(os.environ['ZTRACE_SPOOL'])) > 2: time.sleep(0.01)"
        run_program(CONFIGURE + code, endpoint, ZTRACE_SPOOL=str(spool))
    crashed = row(path, "SELECT * FROM publishers WHERE state = 'crashed'")
    assert is_balanced(crashed)
    assert crashed["spans_created"] == created
    assert row(path, "SELECT count(*) AS spans FROM spans") == {"spans": crashed["spans_stored"] + 1}
    assert crashed["spans_stored"] > 0
    assert list(spool.iterdir()) == []


def test_the_collector_itself_takes_over(tmp_path: Path) -> None:
    """A collector with ``--adopt`` delivers the spool of a killed process without another service."""
    path, spool = tmp_path / "spans.db", tmp_path / "spool"
    endpoint = f"ipc://{tmp_path}/collector"
    with started_program(CONFIGURE + ENDLESS, endpoint, ZTRACE_SPOOL=str(spool)) as process:
        process.kill()
    with collecting(path, endpoint, "--adopt", str(spool)):
        wait_for(lambda: not list(spool.iterdir()))
    crashed = row(path, "SELECT * FROM publishers")
    assert crashed["state"] == "crashed"
    assert is_balanced(crashed)
    assert crashed["spans_created"] > 20_000
    assert row(path, "SELECT count(*) AS spans FROM spans") == {"spans": crashed["spans_stored"]}


def test_processes_with_a_spool_leave_nothing(receiver: Receiver, tmp_path: Path) -> None:
    """Processes with a spool, forked children included, leave no file once all spans are delivered."""
    spool = tmp_path / "spool"
    code = """
make_span("parent")
for number in range(4):
    pid = os.fork()
    if not pid:
        if number % 2:
            make_span(str(number))
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
"""
    run_program(CONFIGURE + code, receiver.endpoint, ZTRACE_SPOOL=str(spool))
    assert sorted(receiver.names()) == ["1", "3", "parent"]
    assert list(spool.iterdir()) == []


@contextmanager
def collecting(path: Path, endpoint: str, *options: str) -> Iterator[None]:
    """Run a collector in its own process, and terminate it at the end."""
    command = [sys.executable, "-c", "from ztrace_viewer.entry import main; main()", "collect"]
    command += ["--bind", endpoint, "--db", str(path), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stderr is not None
            assert "collecting at" in process.stderr.readline()
            yield
            process.terminate()
            assert process.wait(DEADLINE_S) == 0, process.stderr.read()
        finally:
            process.kill()
