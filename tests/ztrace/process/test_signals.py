"""SIGTERM sent to programs with and without a handler: each ends as it would untraced."""

import signal
import subprocess

import pytest

from tests.ztrace.programs import ALONE, PATIENT, run_program, started_program
from tests.ztrace.receiving import Receiver
from tests.ztrace.waiting import DEADLINE_S, wait_for
from ztrace.wire import BYE, DATA

pytestmark = pytest.mark.process

CONFIGURE = """
import os, signal, sys, threading, time
import ztrace
def make_spans(count=100):
    for number in range(count):
        with ztrace.span(str(number)):
            pass
def configure():
    ztrace.configure("billing", sys.argv[1])
    make_spans()
def terminate():
    os.kill(os.getpid(), signal.SIGTERM)
"""

NAMES = [str(number) for number in range(100)]


def end(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """Send SIGTERM, and return the output printed from then on."""
    process.send_signal(signal.SIGTERM)
    return process.communicate(timeout=DEADLINE_S)


WAYS_TO_WAIT = {
    "sleep": "configure(); print(flush=True); time.sleep(60)",
    "lock": "configure(); print(flush=True); lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "input": "configure(); print(flush=True); sys.stdin.read()",
    "computing": "configure(); print(flush=True)\nwhile True: pass",
    "joining": "configure(); threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    "print(flush=True); threading.enumerate()[-1].join()",
    "ending": "configure(); threading.Thread(target=time.sleep, args=(60,)).start(); print(flush=True)",
    "asyncio": "import asyncio; configure(); print(flush=True); asyncio.run(asyncio.sleep(60))",
    "uvloop": "import asyncio, uvloop; configure(); print(flush=True); uvloop.run(asyncio.sleep(60))",
    "zmq": "import zmq; pull = zmq.Context().socket(zmq.PULL); configure(); print(flush=True); pull.recv()",
    "gevent": "from gevent import monkey; monkey.patch_all(); import gevent; configure()\n"
    "gevent.spawn(print, flush=True); gevent.sleep(60)",
    "gevent later": "configure()\nfrom gevent import monkey; monkey.patch_all(); import gevent\n"
    "gevent.spawn(print, flush=True); gevent.sleep(60)",
    "gevent computing": "from gevent import monkey; monkey.patch_all(); import gevent; configure()\n"
    "def work():\n    print(flush=True)\n    while True: pass\ngevent.spawn(work).join()",
    "zerorpc": "import zerorpc; configure(); server = zerorpc.Server(); server.bind('tcp://127.0.0.1:0')\n"
    "import gevent; gevent.spawn(print, flush=True); server.run()",
}


@pytest.mark.parametrize("way", WAYS_TO_WAIT)
def test_an_unhandled_sigterm_delivers_first(receiver: Receiver, way: str) -> None:
    """An unhandled SIGTERM delivers all spans and keeps its exit status, wherever the main thread waits."""
    with started_program(CONFIGURE + WAYS_TO_WAIT[way], receiver.endpoint) as process:
        assert end(process) == ("", "")
        assert process.returncode == -signal.SIGTERM
    assert receiver.names() == NAMES
    assert len(receiver.headers(BYE)) == 1


def test_a_span_that_is_cut_short_is_known(receiver: Receiver) -> None:
    """A span interrupted by SIGTERM is sent to the collector as unfinished."""
    run_program(
        CONFIGURE + "configure()\nwith ztrace.span('serve'): terminate()",
        receiver.endpoint,
        expect=-signal.SIGTERM,
    )
    assert receiver.names() == NAMES
    assert [span.name for span in receiver.open_spans] == ["serve"]


HANDLERS = {
    "before": "signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7)); configure()",
    "after": "configure(); signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))",
    "ignored before": "signal.signal(signal.SIGTERM, signal.SIG_IGN); configure(); terminate(); sys.exit(7)",
    "ignored after": "configure(); signal.signal(signal.SIGTERM, signal.SIG_IGN); terminate(); sys.exit(7)",
    "gevent before": """
import gevent
gevent.signal_handler(signal.SIGTERM, lambda: os.write(1, b"x"))
configure()
terminate()
gevent.sleep(0.01)
sys.exit(7)
""",
    "gevent after": """
import gevent
configure()
gevent.signal_handler(signal.SIGTERM, lambda: os.write(1, b"x"))
terminate()
gevent.sleep(0.01)
sys.exit(7)
""",
    "asyncio": """
import asyncio
async def main():
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    configure()
    terminate()
    await stopped.wait()
asyncio.run(main())
sys.exit(7)
""",
    "asyncio after": """
import asyncio
configure()
async def main():
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    terminate()
    await stopped.wait()
asyncio.run(main())
sys.exit(7)
""",
    "uvloop": """
import asyncio, uvloop
async def main():
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    configure()
    terminate()
    await stopped.wait()
uvloop.run(main())
sys.exit(7)
""",
}


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_programs_own_handler_is_its_own(receiver: Receiver, handler: str) -> None:
    """A program's own handler, set before or after `configure`, runs instead of ztrace's."""
    code = CONFIGURE + HANDLERS[handler] + "\nwith ztrace.span('serve'):\n    terminate(); time.sleep(60)"
    done = run_program(code, receiver.endpoint, expect=7)
    assert done.stdout == ("x" if "gevent" in handler else "")
    assert done.stderr == ""
    assert receiver.names()[:100] == NAMES


def test_a_handler_of_the_programs_is_still_there(receiver: Receiver) -> None:
    """Configuring twice leaves the program's own handler in place."""
    code = "signal.signal(signal.SIGTERM, print); configure(); configure()\n"
    code += "assert signal.getsignal(signal.SIGTERM) is print"
    run_program(CONFIGURE + code, receiver.endpoint)


def test_a_handler_that_is_put_back_is_not_called_for_an_old_signal(receiver: Receiver) -> None:
    """A signal handled by the program's own handler is not acted on after ztrace's handler is restored."""
    code = """
configure()
before = signal.signal(signal.SIGTERM, lambda number, frame: None)
time.sleep(0.2)
terminate()
signal.signal(signal.SIGTERM, before)
time.sleep(0.2)
make_spans(1)
"""
    run_program(CONFIGURE + code, receiver.endpoint)
    assert receiver.names() == [*NAMES, "0"]


def test_a_signal_that_was_dealt_with_while_nothing_was_published_is_not_remembered(
    receiver: Receiver,
) -> None:
    """A SIGTERM handled while nothing was published does not end the publisher started later."""
    code = """
configure()
ztrace.shutdown()
before = signal.signal(signal.SIGTERM, lambda *_: print("mine"))
terminate()
signal.signal(signal.SIGTERM, before)
configure()
assert ztrace.flush(10)
time.sleep(0.3)
"""
    assert run_program(CONFIGURE + code, receiver.endpoint).stdout == "mine\n"


def test_a_handler_that_is_taken_away_stays_away(receiver: Receiver) -> None:
    """A program that resets SIGTERM to its default keeps the default, in forked children too."""
    code = """
configure()
signal.signal(signal.SIGTERM, signal.SIG_DFL)
pid = os.fork()
make_spans(1)
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
if pid:
    assert os.waitpid(pid, 0)[1] == 0
"""
    run_program(CONFIGURE + code, receiver.endpoint)
    assert len(receiver.names()) == 102


def test_nothing_is_hooked_before_configure(receiver: Receiver) -> None:
    """SIGTERM keeps its default after the import, and after `configure` with tracing disabled."""
    code = "assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL\nztrace.configure()\n"
    code += "assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL"
    run_program(CONFIGURE + code, ZTRACE_DISABLED="1")


def test_a_thread_that_configures_hooks_nothing(receiver: Receiver) -> None:
    """`configure` called outside the main thread installs no handler, and SIGTERM has its default effect."""
    code = """
thread = threading.Thread(target=configure)
thread.start()
thread.join()
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
"""
    done = run_program(CONFIGURE + code, receiver.endpoint)
    assert done.stderr == ""
    assert receiver.names() == NAMES


def test_without_a_collector_sigterm_ends_a_program_soon(receiver: Receiver) -> None:
    """Without a collector, SIGTERM ends the program soon and prints the number of undelivered spans."""
    receiver.stop()
    code = PATIENT + ALONE + CONFIGURE + "configure(); terminate()"
    done = run_program(code, receiver.endpoint, expect=-signal.SIGTERM)
    assert done.stderr == f"ztrace: 100 spans not delivered to {receiver.endpoint}\n"


def test_a_second_sigterm_does_not_wait(receiver: Receiver) -> None:
    """A second SIGTERM ends the program at once."""
    receiver.acknowledging = False
    with started_program(PATIENT + CONFIGURE + WAYS_TO_WAIT["sleep"], receiver.endpoint) as process:
        wait_for(lambda: receiver.headers(DATA))
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == -signal.SIGTERM


def test_a_shutdown_that_is_under_way_is_finished(receiver: Receiver) -> None:
    """SIGTERM during `shutdown` lets the delivery of the last spans finish."""
    receiver.acknowledging = False
    code = "from ztrace.publishing import delivery; delivery.RESEND_S = 0.1\n"
    code += "configure(); print(flush=True); ztrace.shutdown(10)"
    with started_program(CONFIGURE + code, receiver.endpoint) as process:
        wait_for(lambda: receiver.headers(DATA))
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
        receiver.acknowledging = True
        header = receiver.headers(DATA)[-1]
        assert process.wait(DEADLINE_S) == -signal.SIGTERM
    assert receiver.names() == NAMES
    assert header.incarnation in {bye.incarnation for bye in receiver.headers(BYE)}


def test_children_that_are_terminated_deliver(receiver: Receiver) -> None:
    """Children ended by `multiprocessing.Process.terminate` deliver their spans, and the parent continues."""
    code = """
import multiprocessing
def work(ready):
    make_spans(10)
    ready.release()
    time.sleep(60)
if __name__ == "__main__":
    configure()
    multiprocessing.set_start_method("fork")
    ready = multiprocessing.Semaphore(0)
    children = [multiprocessing.Process(target=work, args=(ready,)) for _ in range(20)]
    for child in children:
        child.start()
    for child in children:
        ready.acquire()
    for child in children:
        child.terminate()
    for child in children:
        child.join()
        assert child.exitcode == -signal.SIGTERM, child.exitcode
    make_spans(5)
"""
    done = run_program(CONFIGURE + code, receiver.endpoint)
    assert done.stderr == ""
    assert len(receiver.names()) == 100 + 20 * 10 + 5


FORKED = """
configure()
for _ in range(30):
    pid = os.fork()
    if not pid:
        time.sleep(60)
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
"""


def test_a_forked_child_without_spans_ends_at_once(receiver: Receiver) -> None:
    """A forked child without spans is ended by SIGTERM at any moment, and sends nothing."""
    run_program(CONFIGURE + FORKED, receiver.endpoint)
    assert receiver.names() == NAMES
    assert len({header.incarnation for header, _ in receiver.messages}) == 1
