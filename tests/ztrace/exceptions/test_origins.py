"""Origins, paths and lines of exceptions in asyncio, threads and exiting programs.

Each program runs traced and untraced, and must print the same. It prints every exception that leaves one of
its spans: the type, and the lines of the traceback from the span on.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.ztrace.middleware.zerorpc.fleet import Collected
from tests.ztrace.programs import run_script
from ztrace_viewer.documents.exceptions import ExceptionDocument
from ztrace_viewer.documents.trees import SpanDocument, TreeDocument
from ztrace_viewer.queries.database import open_database
from ztrace_viewer.trees.tree import walk

pytestmark = pytest.mark.process

_BEGIN = """
import asyncio, contextlib, contextvars, json, os, signal, sys, threading, traceback
from concurrent.futures import ThreadPoolExecutor
import ztrace

ztrace.configure(service="program", endpoint=sys.argv[1])

def tell(name, error):
    lines = [(f.lineno, f.name) for f in traceback.extract_tb(error.__traceback__) if f.filename == __file__]
    print(json.dumps([name, type(error).__name__, lines]))

class Told:
    def __init__(self, name):
        self.name, self.span = name, ztrace.span(name)
    def __enter__(self):
        self.span.__enter__()
    def __exit__(self, *exc_info):
        if exc_info[1] is not None:
            tell(self.name, exc_info[1])
        self.span.__exit__(*exc_info)
"""


class Passed(NamedTuple):
    """Expected exception of a span: how it arrived, and the span of its origin."""

    how: str
    origin: str


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collected]:
    """Yield a collector; it is stopped after the module's tests."""
    collected = Collected(tmp_path_factory.mktemp("origins"))
    yield collected
    collected.stop()


class Ran(NamedTuple):
    """Trees of a program by their root's name, and its printed exceptions by span name."""

    trees: dict[str, TreeDocument]
    told: dict[str, list[tuple[str, list[tuple[int, str]]]]]


@pytest.fixture
def run(collected: Collected, tmp_path: Path) -> Any:
    """Return a function that runs a program and returns a `Ran`."""

    def run(code: str, *, expect: int = 0) -> Ran:
        before = set(read_roots(collected))
        path = tmp_path / "program.py"
        said = [
            run_script(
                path, _BEGIN + code, collected.endpoint, expect=expect, ZTRACE_DISABLED=disabled
            ).stdout
            for disabled in ("1", "0")
        ]
        assert said[0] == said[1]
        told: dict[str, list[tuple[str, list[tuple[int, str]]]]] = {}
        for line in said[1].splitlines():
            name, error, lines = json.loads(line)
            told.setdefault(name, []).append((error, [(number, function) for number, function in lines]))
        trees = [collected.tree(trace_id) for trace_id in read_roots(collected) if trace_id not in before]
        return Ran({tree["roots"][0]["name"]: tree for tree in trees}, told)

    return run


def read_roots(collected: Collected) -> list[str]:
    """Return the ids of all stored traces."""
    with open_database(collected.path) as db:
        return [trace_id.hex() for (trace_id,) in db.execute("SELECT trace_id FROM traces")]


def check(ran: Ran, root: str, expected: dict[str, Passed]) -> TreeDocument:
    """Assert that a tree's exceptions arrived as expected, along the lines that the program printed.

    A name that occurs several times applies to all spans with this name.
    """
    tree = ran.trees[root]
    assert (tree["complete"], len(tree["roots"])) == (True, 1)
    spans = [span for span, _ in walk(tree["roots"])]
    names = {span["span_id"]: span["name"] for span in spans}
    assert {span["name"] for span in spans if span["exception"]} == set(expected)
    for span in spans:
        exception = span["exception"]
        assert (span["status"] == "error") == (exception is not None)
        if exception is None:
            continue
        found = Passed(exception["how"], names[exception["origin_span_id"]])
        assert found == expected[span["name"]], span["name"]
        assert exception["origin"] == (found.how == "raised")
        check_lines(ran, span, exception)
    return tree


def check_lines(ran: Ran, span: SpanDocument, exception: ExceptionDocument) -> None:
    """Assert that the frames match the printed lines, or their own part for an exception that passed."""
    stored = [
        (frame["line"], frame["function"].rpartition(".")[2])
        for frame in exception["frames"]
        if frame["file"].endswith("program.py")
    ]
    error = exception["type"].rpartition(".")[2]
    candidates = [lines for kind, lines in ran.told[span["name"]] if kind == error]
    if exception["how"] != "passed":
        assert stored in candidates, (span["name"], stored, candidates)
        return
    assert any(stored == lines[: len(stored)] for lines in candidates), (span["name"], stored, candidates)
    below = [child["name"] for child in span["children"] if _came_from(exception, child)]
    if len(below) == len(candidates) == 1:
        (inner,) = ran.told[below[0]]
        assert candidates[0] == stored + inner[1], span["name"]


def _came_from(exception: ExceptionDocument, child: SpanDocument) -> bool:
    below = child["exception"]
    return below is not None and below["origin_span_id"] == exception["origin_span_id"]


def exceptions(tree: TreeDocument, name: str) -> list[ExceptionDocument]:
    """Return the exceptions of the spans with this name."""
    return [
        span["exception"] for span, _ in walk(tree["roots"]) if span["name"] == name and span["exception"]
    ]


def test_tasks(run: Any) -> None:
    """Tasks of a TaskGroup that fail together are members of its group, each with its own origin."""
    ran = run("""
async def fetch(name, error, when):
    with Told(name):
        await when.wait()
        raise error(name)

async def handle():
    when = asyncio.Event()
    with Told("group"):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fetch("first", KeyError, when))
            tasks.create_task(fetch("second", OSError, when))
            asyncio.get_running_loop().call_soon(when.set)

async def main():
    try:
        with Told("edge"):
            await handle()
    except ExceptionGroup:
        pass

asyncio.run(main())
""")
    tree = check(
        ran,
        "edge",
        {
            "edge": Passed("passed", "first"),
            "group": Passed("grouped", "first"),
            "first": Passed("raised", "first"),
            "second": Passed("raised", "second"),
        },
    )
    (group,) = exceptions(tree, "group")
    spans = {span["name"]: span["span_id"] for span, _ in walk(tree["roots"])}
    members = [(member["type"], member["how"], member["origin_span_id"]) for member in group["members"]]
    assert members == [("KeyError", "passed", spans["first"]), ("OSError", "passed", spans["second"])]


def test_tasks_that_are_cancelled_or_awaited_again(run: Any) -> None:
    """A task's exception keeps its origin however often it is awaited, and a cancelled task has its own."""
    ran = run("""
async def fail():
    with Told("fail"):
        raise KeyError("task")

async def wait():
    with Told("wait"):
        await asyncio.Event().wait()

async def handle():
    task = asyncio.create_task(fail())
    for name in ("once", "again"):
        try:
            with Told(name):
                await task
        except KeyError:
            pass
    with Told("gather"):
        await asyncio.gather(task, wait())

async def main():
    try:
        with Told("edge"):
            await handle()
    except KeyError:
        pass

asyncio.run(main())
""")
    check(
        ran,
        "edge",
        {
            **dict.fromkeys(("edge", "once", "again", "gather"), Passed("passed", "fail")),
            "fail": Passed("raised", "fail"),
            "wait": Passed("raised", "wait"),
        },
    )


def test_a_timeout_of_a_task(run: Any) -> None:
    """A timeout has its origin in the task it cancelled."""
    ran = run("""
async def slow():
    with Told("slow"):
        await asyncio.Event().wait()

async def main():
    try:
        with Told("edge"):
            with Told("timeout"):
                async with asyncio.timeout(0.02):
                    await slow()
    except TimeoutError:
        pass

asyncio.run(main())
""")
    check(
        ran,
        "edge",
        {
            "edge": Passed("passed", "slow"),
            "timeout": Passed("wrapped", "slow"),
            "slow": Passed("raised", "slow"),
        },
    )


def test_groups_that_are_split_and_nested(run: Any) -> None:
    """``except*`` and nested groups leave the origins of a group's members unchanged."""
    ran = run("""
def fail(name, error):
    with Told(name):
        raise error(name)

def collect(*calls):
    errors = []
    for name, error in calls:
        try:
            fail(name, error)
        except Exception as caught:
            errors.append(caught)
    return errors

def handle():
    try:
        with Told("inner"):
            raise ExceptionGroup("inner", collect(("key", KeyError), ("value", ValueError)))
    except ExceptionGroup as group:
        inner = group
    # Outside the handler: later failures are unrelated to the handled one.
    with Told("outer"):
        try:
            raise ExceptionGroup("outer", [inner, *collect(("os", OSError))])
        except* KeyError:
            pass

try:
    with Told("edge"):
        handle()
except ExceptionGroup:
    pass
""")
    # Python makes the remaining group and copies the attributes of the whole one, marks included.
    tree = ran.trees["edge"]
    spans = {span["name"]: span["span_id"] for span, _ in walk(tree["roots"])}
    (inner,), (outer,), (edge,) = (exceptions(tree, name) for name in ("inner", "outer", "edge"))
    assert (inner["how"], outer["how"], edge["how"]) == ("grouped", "grouped", "passed")
    assert [member["origin_span_id"] for member in inner["members"]] == [spans["key"], spans["value"]]
    (rest, beside) = outer["members"]
    assert [member["origin_span_id"] for member in rest["members"]] == [spans["value"]]
    assert beside["origin_span_id"] == spans["os"]
    assert edge["origin_span_id"] == outer["origin_span_id"]


def test_threads(run: Any) -> None:
    """A thread's exception has its origin in the thread, however often its result is requested."""
    ran = run("""
def work():
    with Told("work"):
        raise KeyError("thread")

def handle(pool):
    future = pool.submit(contextvars.copy_context().run, work)
    for name in ("once", "again"):
        try:
            with Told(name):
                future.result()
        except KeyError as error:
            kept = error
    with Told("wrap"):
        raise RuntimeError("made") from kept

async def main(pool):
    try:
        with Told("asynchronous edge"):
            with Told("await"):
                context = contextvars.copy_context()
                await asyncio.get_running_loop().run_in_executor(pool, context.run, work)
    except KeyError:
        pass

with ThreadPoolExecutor(2) as pool:
    try:
        with Told("edge"):
            handle(pool)
    except RuntimeError:
        pass
    asyncio.run(main(pool))
""")
    ran.told["work"] = ran.told["work"][:1]
    check(
        ran,
        "edge",
        {
            "edge": Passed("passed", "work"),
            "once": Passed("passed", "work"),
            "again": Passed("passed", "work"),
            "wrap": Passed("wrapped", "work"),
            "work": Passed("raised", "work"),
        },
    )
    check(
        ran,
        "asynchronous edge",
        {
            "asynchronous edge": Passed("passed", "work"),
            "await": Passed("passed", "work"),
            "work": Passed("raised", "work"),
        },
    )


def test_asynchronous_streams(run: Any) -> None:
    """A failing async generator and a failing reader have their origin in their own spans."""
    ran = run("""
@ztrace.trace("stream")
async def stream(limit):
    for number in range(limit):
        yield number
    raise KeyError("no more")

async def read(limit):
    with Told("read"):
        async with contextlib.aclosing(stream(limit)) as numbers:
            async for number in numbers:
                if number == 2:
                    raise OSError("unexpected")

async def main():
    for name, limit in (("stream fails", 2), ("reader fails", 9)):
        try:
            with Told(name):
                await read(limit)
        except (KeyError, OSError) as error:
            pass

asyncio.run(main())
""")
    failing, read = ran.trees["stream fails"], ran.trees["reader fails"]
    assert [
        (span["name"], span["exception"]["how"]) for span, _ in walk(failing["roots"]) if span["exception"]
    ] == [("stream fails", "passed"), ("read", "passed"), ("stream", "raised")]
    (streamed,) = exceptions(failing, "stream")
    assert (streamed["frames"][-1]["function"], streamed["frames"][-1]["code"]) == (
        "stream",
        'raise KeyError("no more")',
    )
    told = next(lines for error, lines in ran.told["read"] if error == "KeyError")
    (passed,) = exceptions(failing, "read")
    assert (passed["frames"][-1]["line"], passed["frames"][-1]["function"]) == told[0]
    assert [
        (span["name"], span["exception"]["how"]) for span, _ in walk(read["roots"]) if span["exception"]
    ] == [("reader fails", "passed"), ("read", "raised")]


def test_an_object_raised_twice(run: Any) -> None:
    """An exception object raised again after being swallowed has a new origin, in any span and trace."""
    ran = run("""
KEPT = KeyError("kept")

def first():
    with Told("first"):
        raise KEPT

def second():
    with Told("second"):
        raise KEPT

def clean():
    raise KEPT.with_traceback(None)

def cleaned(name):
    with Told(name):
        clean()

def swallow(function, *args):
    try:
        function(*args)
    except KeyError:
        pass

for name in ("edge", "other edge"):
    with Told(name):
        swallow(first)
        swallow(second)
        swallow(second)

with Told("clean edge"):
    for number in range(20):
        swallow(cleaned, str(number))
""")
    for name in ("edge", "other edge"):
        tree = ran.trees[name]
        hows = [
            (span["name"], span["exception"]["how"], span["exception"]["origin_span_id"] == span["span_id"])
            for span, _ in walk(tree["roots"])
            if span["exception"]
        ]
        assert hows == [("first", "raised", True), ("second", "raised", True), ("second", "raised", True)]
        for span in ("first", "second"):
            for exception in exceptions(tree, span):
                assert exception["frames"][-1]["function"] == span
    check(ran, "clean edge", {str(number): Passed("raised", str(number)) for number in range(20)})


def test_a_retry_that_keeps_the_last_error(run: Any) -> None:
    """An exception raised again after a retry loop keeps the origin of its last attempt."""
    ran = run("""
def attempt(number):
    with Told(f"attempt {number}"):
        raise KeyError(number)

def retry():
    with Told("retry"):
        for number in range(3):
            try:
                attempt(number)
            except KeyError as error:
                last = error
        raise last

try:
    with Told("edge"):
        retry()
except KeyError:
    pass
""")
    check(
        ran,
        "edge",
        {
            **{f"attempt {number}": Passed("raised", f"attempt {number}") for number in range(3)},
            "retry": Passed("passed", "attempt 2"),
            "edge": Passed("passed", "attempt 2"),
        },
    )


@pytest.mark.parametrize(
    ("code", "error", "status"),
    [
        ("sys.exit(3)", "SystemExit", 3),
        ("sys.exit('no more')", "SystemExit", 1),
        ("os.kill(os.getpid(), signal.SIGINT); threading.Event().wait(5)", "KeyboardInterrupt", -2),
        ("raise MemoryError('none')", "MemoryError", 1),
    ],
)
def test_programs_that_end(run: Any, code: str, error: str, status: int) -> None:
    """An exception that ends the program has its origin in the innermost span and is delivered."""
    ran = run(
        f"""
def work():
    with Told("work"):
        {code}

with Told("edge"):
    with Told("call"):
        work()
""",
        expect=status,
    )
    tree = check(
        ran,
        "edge",
        {
            "edge": Passed("passed", "work"),
            "call": Passed("passed", "work"),
            "work": Passed("raised", "work"),
        },
    )
    assert [exception["type"] for exception in exceptions(tree, "work")] == [error]


def test_a_program_that_ends_as_it_should(run: Any) -> None:
    """``sys.exit(0)`` within spans is no error."""
    ran = run("""
with Told("edge"):
    with Told("work"):
        sys.exit(0)
""")
    assert check(ran, "edge", {})["error_count"] == 0
