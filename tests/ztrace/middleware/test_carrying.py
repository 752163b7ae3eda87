"""Inheritance of the current span by threads, pools and greenlets, in programs of their own."""

from pathlib import Path

import pytest

from tests.ztrace.programs import run_program, run_script
from tests.ztrace.receiving import Receiver

pytestmark = pytest.mark.process

START = """
import contextvars, sys, threading, time
import ztrace
ztrace.configure("billing", sys.argv[1])
ztrace.instrument(*sys.argv[2:])
def work(name="inner", *_):
    with ztrace.span(str(name)):
        pass
"""

#: Ways of handing work to another thread: each runs `work` inside the span "outer".
THREADS = {
    "thread": "t = threading.Thread(target=work); t.start(); t.join()",
    "subclass": """
    class Own(threading.Thread):
        def run(self): work()
    t = Own(); t.start(); t.join()""",
    "subclass with start": """
    class Own(threading.Thread):
        def start(self): super().start()
        def run(self): work()
    t = Own(); t.start(); t.join()""",
    "timer": "t = threading.Timer(0.001, work); t.start(); t.join()",
    "library function": """
    import functools
    t = threading.Thread(target=functools.reduce, args=(lambda a, b: work(), [1, 2])); t.start(); t.join()""",
}

EXECUTORS = {
    "submit": "executor.submit(work).result()",
    "map": "list(executor.map(work, ['inner']))",
    "keyword": "executor.submit(work, name='inner').result()",
    "run_in_executor": """
    import asyncio
    async def main(): await asyncio.get_running_loop().run_in_executor(executor, work)
    asyncio.run(main())""",
    "default executor": """
    import asyncio
    async def main(): await asyncio.get_running_loop().run_in_executor(None, work)
    asyncio.run(main())""",
    "to_thread": """
    import asyncio
    asyncio.run(asyncio.to_thread(work))""",
    **{
        f"ThreadPool.{name}": f"pool.{call}"
        for name, call in {
            "apply": "apply(work)",
            "apply_async": "apply_async(work).get()",
            "map": "map(work, ['inner'])",
            "map_async": "map_async(work, ['inner']).get()",
            "starmap": "starmap(work, [('inner', 1)])",
            "imap": "imap(work, ['inner']).next()",
            "imap_unordered": "imap_unordered(work, ['inner']).next()",
        }.items()
    },
}

GREENLETS = {
    "spawn": "gevent.spawn(work).join()",
    "spawn_later": "gevent.spawn_later(0.001, work).join()",
    "Greenlet": "g = gevent.Greenlet(work); g.start(); g.join()",
    "Pool.map": "gevent.pool.Pool(2).map(work, ['inner'])",
    "Pool.imap_unordered": "list(gevent.pool.Pool(2).imap_unordered(work, ['inner']))",
    "Group.apply": "gevent.pool.Group().apply(work)",
    "threadpool": "gevent.get_hub().threadpool.spawn(work).get()",
    "threadpool.map": "gevent.get_hub().threadpool.map(work, ['inner'])",
}


def parents(receiver: Receiver) -> dict[str, str | None]:
    """Return the name of each span's parent by the span's name."""
    names = {span.span_id: span.name for span in receiver.spans}
    return {span.name: names.get(span.parent_id or b"") for span in receiver.spans}


def indent(code: str) -> str:
    """Return code as the body of a ``with`` statement."""
    return "    " + code.strip() + "\n"


@pytest.mark.parametrize("way", THREADS)
def test_a_thread_inherits_the_span_in_which_it_starts(receiver: Receiver, way: str) -> None:
    """A thread started by the user's code is a child of the current span, and leaves no trace of ztrace."""
    code = (
        START
        + "with ztrace.span('outer'):\n"
        + indent(THREADS[way])
        + "assert 'run' not in vars(t), vars(t)\n"
    )
    done = run_program(code, receiver.endpoint, "threads")
    assert parents(receiver) == {"outer": None, "inner": "outer"}
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("way", EXECUTORS)
def test_a_task_of_a_thread_pool_inherits_the_span_in_which_it_is_submitted(
    receiver: Receiver, way: str
) -> None:
    """A task is a child of the span that submitted it, in whichever thread of the pool it runs."""
    code = (
        START
        + f"""
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
with ThreadPoolExecutor(1) as executor, ThreadPool(1) as pool:
    def submit(): {"pass"}
    with ztrace.span("first"):
        executor.submit(work, "warm").result(), pool.apply(work, ("hot",))
    def run():
     with ztrace.span("outer"):
        {EXECUTORS[way].strip().replace(chr(10) + "    ", chr(10) + "        ")}
    run()
    executor.submit(work, "alone").result(), pool.apply(work, ("lone",))
"""
    )
    run_program(code, receiver.endpoint, "executors")
    assert parents(receiver) == {
        "first": None, "warm": "first", "hot": "first", "outer": None, "inner": "outer",
        "alone": None, "lone": None,
    }  # fmt: skip


@pytest.mark.parametrize("library", ["gevent", "zerorpc"])
@pytest.mark.parametrize("way", GREENLETS)
def test_a_greenlet_inherits_the_span_in_which_it_is_spawned(
    receiver: Receiver, way: str, library: str
) -> None:
    """A greenlet is a child of the span that spawned it, also when it is zerorpc that is traced."""
    code = "import gevent, gevent.pool\n" + START + "with ztrace.span('outer'):\n" + indent(GREENLETS[way])
    run_program(code, receiver.endpoint, library)
    assert parents(receiver) == {"outer": None, "inner": "outer"}


def test_a_greenlet_sees_no_context_but_the_span(receiver: Receiver) -> None:
    """The program's own context variables stay as they are without ztrace."""
    code = (
        "import gevent\n"
        + START
        + """
own = contextvars.ContextVar("own", default="default")
own.set("set")
with ztrace.span("outer"):
    print(gevent.spawn(own.get).get(), gevent.spawn(lambda: own.get()).get())
    t = threading.Thread(target=lambda: print(own.get())); t.start(); t.join()
    given = gevent.Greenlet(lambda: work() or own.get())
    given.gr_context = contextvars.copy_context()
    given.start()
    print(given.get())
"""
    )
    done = run_program(code, receiver.endpoint)
    assert done.stdout.split() == ["default", "default", "default", "set"]
    assert parents(receiver) == {"outer": None, "inner": "outer"}


@pytest.mark.parametrize(
    "code",
    [
        "t = threading.Thread(target=loop.run); t.start()",
        "loop.start()",
        "loop.spawn()",
    ],
)
def test_a_librarys_own_loop_inherits_nothing(receiver: Receiver, tmp_path: Path, code: str) -> None:
    """A thread that a library starts to run its own code is not part of the request that caused it."""
    library = tmp_path / "site-packages" / "library"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text(
        "import queue, threading, gevent\n"
        "jobs = queue.Queue()\n"
        "class Loop:\n"
        "    def run(self):\n"
        "        while (job := jobs.get()) is not None: job()\n"
        "    def start(self):\n"
        "        self.thread = threading.Thread(target=self.run)\n"
        "        self.thread.start()\n"
        "    def spawn(self):\n"
        "        gevent.spawn(self.run_soon)\n"
        "    def run_soon(self):\n"
        "        import time; gevent.sleep(0.01); self.run()\n"
    )
    program = (
        START
        + f"""
sys.path.insert(0, {str(library.parent)!r})
import gevent, library
loop = library.Loop()
with ztrace.span("outer"):
    {code}
library.jobs.put(work); library.jobs.put(None)
gevent.sleep(0.05)
"""
    )
    run_script(tmp_path / "program.py", program, receiver.endpoint, "threads", "gevent")
    # The user's own `start` makes the thread the user's.
    expected = "outer" if code.startswith("t = ") else None
    assert parents(receiver) == {"outer": None, "inner": expected}


@pytest.mark.parametrize(
    "work",
    ["shop.work", "ztrace.trace(shop.work)", "ztrace.trace(functools.partial(shop.work))", "wrap(shop.work)"],
)
def test_users_work_that_a_library_starts_inherits(receiver: Receiver, tmp_path: Path, work: str) -> None:
    """A thread that a library starts for a function of the user's inherits, decorated or not."""
    library = tmp_path / "site-packages" / "library"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text(
        "import functools, threading\n"
        "def run(function):\n"
        "    thread = threading.Thread(target=function)\n"
        "    thread.start(); thread.join()\n"
        "def wrap(function):\n"
        "    @functools.wraps(function)\n"
        "    def wrapper(*args): return function(*args)\n"
        "    return wrapper\n"
    )
    (tmp_path / "shop.py").write_text("import ztrace\ndef work():\n    ztrace.span('inner').start().end()\n")
    program = (
        START
        + f"""
sys.path.insert(0, {str(library.parent)!r})
import functools, library, shop
from library import wrap
with ztrace.span("outer"):
    library.run({work})
"""
    )
    run_script(tmp_path / "program.py", program, receiver.endpoint, "threads")
    found = parents(receiver)
    assert [name for name, parent in found.items() if parent is None] == ["outer"]


def test_what_begins_long_after_the_inherited_span_is_a_trace_of_its_own(receiver: Receiver) -> None:
    """A loop started in a request stays with it for a minute, and then its spans are roots with a link."""
    code = (
        START
        + """
from ztrace.lifecycle import parts
go = threading.Event()
def loop():
    work("soon")
    go.wait()
    parts.INHERITED_NS = 0
    with ztrace.span("late"):
        work("below")
with ztrace.span("outer"):
    t = threading.Thread(target=loop); t.start()
go.set()
t.join()
"""
    )
    run_program(code, receiver.endpoint)
    assert parents(receiver) == {"outer": None, "soon": "outer", "late": None, "below": "late"}
    found = {span.name: span for span in receiver.spans}
    assert found["late"].links == [[found["outer"].trace_id, found["outer"].span_id]]
    assert found["late"].trace_id != found["outer"].trace_id == found["soon"].trace_id
    assert found["below"].links is None


def test_an_exception_in_carried_work_has_the_traceback_of_before(receiver: Receiver) -> None:
    """No frame of ztrace's stays in the tracebacks of tasks and threads."""
    code = (
        START
        + """
import traceback
from concurrent.futures import ThreadPoolExecutor
def fail(): raise ValueError("no")
def names(error): return [frame.name for frame in traceback.extract_tb(error.__traceback__)]
threading.excepthook = lambda found: print(names(found.exc_value))
with ztrace.span("outer"), ThreadPoolExecutor(1) as executor:
    print(names(executor.submit(fail).exception()))
    t = threading.Thread(target=fail); t.start(); t.join()
"""
    )
    carried = run_program(code, receiver.endpoint).stdout
    assert carried == run_program(code, receiver.endpoint, ZTRACE_CARRY="off").stdout
    assert carried.count("fail") == 2
    assert "__call__" not in carried


def test_carrying_can_be_switched_off(receiver: Receiver) -> None:
    """With ZTRACE_CARRY=off nothing is patched, and each thread's spans are traces of their own."""
    code = (
        "import gevent\n"
        + START
        + """
from concurrent.futures import ThreadPoolExecutor
with ztrace.span("outer"), ThreadPoolExecutor(1) as executor:
    executor.submit(work, "task").result()
    t = threading.Thread(target=work, args=("thread",)); t.start(); t.join()
    gevent.spawn(work, "greenlet").join()
assert threading.Thread.start.__module__ == "threading"
"""
    )
    run_program(code, receiver.endpoint, ZTRACE_CARRY="off")
    assert parents(receiver) == {"outer": None, "task": None, "thread": None, "greenlet": None}


def test_a_thread_that_cannot_start_can_be_started_again(receiver: Receiver) -> None:
    """After a failed start the thread is as it was, and a started thread cannot be started twice."""
    code = (
        START
        + """
t = threading.Thread(target=work)
with ztrace.span("outer"):
    name = "_start_joinable_thread" if sys.version_info >= (3, 13) else "_start_new_thread"
    real = getattr(threading, name)
    def refuse(*_, **__): raise RuntimeError("can't start new thread")
    setattr(threading, name, refuse)
    try: t.start()
    except RuntimeError as error: print(error)
    setattr(threading, name, real)
    assert "run" not in vars(t)
    t.start()
    t.join()
    try: t.start()
    except RuntimeError as error: print(error)
"""
    )
    done = run_program(code, receiver.endpoint)
    assert done.stdout == "can't start new thread\nthreads can only be started once\n"
    assert parents(receiver) == {"outer": None, "inner": "outer"}
