"""Spans that a generator holds open across a ``yield``: whose work they are parents of."""

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import AsyncExitStack, ExitStack, aclosing, asynccontextmanager, contextmanager
from itertools import islice
from typing import Any

import gevent
import gevent.event
import pytest

import ztrace
from tests.ztrace.recording import Recorder
from ztrace.context import get_current, make_current
from ztrace.spans import Span


def rows(name: str = "rows", count: int = 3) -> Generator[int, Any, None]:
    """Yield numbers within a span, each after a span of its own."""
    with ztrace.span(name):
        for number in range(count):
            with ztrace.span(f"{name} fetch {number}"):
                pass
            yield number


async def rows_later(name: str = "rows", count: int = 3) -> AsyncGenerator[int, None]:
    """Yield numbers within a span, each after a span of its own."""
    with ztrace.span(name):
        for number in range(count):
            with ztrace.span(f"{name} fetch {number}"):
                await asyncio.sleep(0)
            yield number


@contextmanager
def session() -> Iterator[Span]:
    """Hold a span open around the block."""
    with ztrace.span("session") as span:
        yield span


@asynccontextmanager
async def session_later() -> AsyncIterator[Span]:
    """Hold a span open around the block."""
    with ztrace.span("session") as span:
        await asyncio.sleep(0)
        yield span


def work(name: str) -> None:
    """Do something within a span, as a library would that knows nothing of its caller."""
    with ztrace.span(name):
        pass


def test_a_loop_works_beside_the_generator_that_it_reads(recorder: Recorder) -> None:
    """What a loop does with an item is not within the generator's span; what the generator does is."""
    with ztrace.span("request"):
        for row in rows():
            work(f"handle {row}")
        work("after")
    fetches = {f"rows fetch {row}": "rows" for row in range(3)}
    handled = {f"handle {row}": "request" for row in range(3)}
    assert recorder.parents() == fetches | handled | {"rows": "request", "after": "request", "request": None}


def test_a_generator_that_is_abandoned_is_no_parent(recorder: Recorder) -> None:
    """After a loop was left, later work is not within the generator's span, although that is still open."""
    held = rows()
    for _ in held:
        break
    for number in range(2):
        work(f"request {number}")
    with ztrace.span("outer"):
        for _ in held:
            break
        work("later")
    held.close()
    assert get_current() is None
    parents = recorder.parents()
    assert [parents[name] for name in ("request 0", "request 1", "rows", "later")] == [
        None,
        None,
        None,
        "outer",
    ]
    assert len({span.trace_id for span in recorder.spans if span.parent_id is None}) == 4


def test_the_current_span_of_a_loop_is_the_readers(recorder: Recorder) -> None:
    """In a loop `current_span` and `inject` give the reader's span."""
    with ztrace.span("request") as request:
        for _ in rows():
            carrier: dict[str, str] = {}
            ztrace.inject(carrier)
            assert ztrace.current_span() is request
            assert request.span_id.hex() in carrier["traceparent"]
    for _ in rows("alone"):
        carrier = {}
        ztrace.inject(carrier)
        assert carrier == {}
        assert not ztrace.current_span().trace_id


def test_an_async_generator_that_is_abandoned_is_no_parent(recorder: Recorder) -> None:
    """Neither before nor after the event loop has closed the generator is its span a parent."""

    async def read() -> None:
        for number in range(3):
            async for _ in rows_later(f"rows {number}"):
                break
            work(f"at once {number}")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            work(f"later {number}")

    asyncio.run(read())
    roots = {span.name for span in recorder.spans if span.parent_id is None}
    assert roots == {f"{name} {number}" for name in ("rows", "at once", "later") for number in range(3)}
    assert len({span.trace_id for span in recorder.spans}) == 9


def test_an_async_loop_works_beside_the_generator_that_it_reads(recorder: Recorder) -> None:
    """What an asynchronous loop does with an item, tasks included, is not within the generator's span."""

    async def handle(name: str) -> None:
        await asyncio.sleep(0)
        work(name)

    async def read() -> None:
        with ztrace.span("request"):
            async for row in rows_later():
                work(f"handle {row}")
                await asyncio.gather(handle(f"task {row}"), asyncio.to_thread(work, f"thread {row}"))
            assert [row async for row in rows_later("again")] == [0, 1, 2]
            await asyncio.wait_for(handle("after"), 30)

    asyncio.run(read())
    parents = recorder.parents()
    handled = [name for name in parents if name.partition(" ")[0] in ("handle", "task", "thread", "after")]
    assert len(handled) == 10
    assert {parents[name] for name in (*handled, "rows", "again")} == {"request"}
    assert {parents[f"again fetch {row}"] for row in range(3)} == {"again"}


def test_tasks_that_a_generator_awaits_are_within_its_span(recorder: Recorder) -> None:
    """Tasks that an asynchronous generator starts and awaits are children of its open span."""

    async def fetch(name: str) -> int:
        await asyncio.sleep(0)
        work(name)
        return 1

    async def fetched() -> AsyncIterator[int]:
        with ztrace.span("rows"):
            for number in range(2):
                yield sum(await asyncio.gather(fetch(f"a{number}"), fetch(f"b{number}")))

    async def read() -> None:
        async for _ in fetched():
            work("handle")

    asyncio.run(read())
    parents = {span.name: span.parent_id for span in recorder.spans if span.name != "handle"}
    rows_id = recorder.named("rows").span_id
    assert parents == dict.fromkeys(("a0", "b0", "a1", "b1"), rows_id) | {"rows": None}
    assert all(span.parent_id is None for span in recorder.spans if span.name == "handle")


def test_a_context_manager_keeps_its_span_current(recorder: Recorder) -> None:
    """A span that a context manager holds open is the parent of what the block does."""
    with ztrace.span("request") as request:
        with session() as span:
            assert ztrace.current_span() is span
            work("inside")
        assert ztrace.current_span() is request
    assert recorder.parents() == {"inside": "session", "session": "request", "request": None}


def test_an_async_context_manager_keeps_its_span_current(recorder: Recorder) -> None:
    """A span that an asynchronous context manager holds open is the parent of what the block does."""

    async def later() -> None:
        work("task")

    async def serve() -> None:
        async with session_later() as span, AsyncExitStack() as stack:
            work("inside")
            await stack.enter_async_context(session_later())
            work("further inside")
            assert ztrace.current_span() is not span
            await asyncio.create_task(later())
        assert get_current() is None

    asyncio.run(serve())
    inner, outer = (span for span in recorder.spans if span.name == "session")
    assert recorder.named("inside").parent_id == inner.parent_id == outer.span_id
    assert recorder.named("further inside").parent_id == recorder.named("task").parent_id == inner.span_id


def open_by_hand() -> Iterator[Span]:
    """Open a span by a context manager that the generator enters itself."""
    with session() as span:
        yield span


def open_by_stack() -> Iterator[Span]:
    """Open a span through an exit stack."""
    with ExitStack() as stack:
        yield stack.enter_context(ztrace.span("session"))


def open_by_delegation() -> Iterator[Span]:
    """Open a span in a generator that another one delegates to."""
    yield from open_by_hand()


def open_again() -> Iterator[Span]:
    """Open a span that was made and used elsewhere."""
    with USED:
        yield USED


def pass_on() -> Iterator[Span]:
    """Read another generator in a loop, and yield what that yields."""
    yield from (span for span in open_by_stack())


USED = ztrace.span("session")
OPENERS = [open_by_hand, open_by_stack, open_by_delegation, open_again]


@pytest.mark.parametrize("opener", [*OPENERS, pass_on])
def test_a_loop_sees_through_what_a_generator_is_made_of(
    recorder: Recorder, opener: Callable[[], Iterator[Span]]
) -> None:
    """However a generator opens its span, the loop that reads the generator is not within that."""
    with USED:
        pass
    with ztrace.span("request"):
        for span in opener():
            assert not span.ended
            work("handle")
            break
        work("after")
        for _ in islice(opener(), 1):
            work("handle slice")
    parents = recorder.parents()
    assert {parents[name] for name in ("handle", "after", "handle slice")} == {"request"}


@pytest.mark.parametrize("opener", OPENERS)
def test_a_fixture_keeps_its_span_current(recorder: Recorder, opener: Callable[[], Iterator[Span]]) -> None:
    """A generator that is advanced by calls, as fixtures are, has its span current in between."""

    def set_up() -> Iterator[Span]:
        fixture = opener()
        next(fixture)
        return fixture

    fixture = set_up()
    work("test")
    assert next(fixture, None) is None
    assert get_current() is None
    assert recorder.named("test").parent_id == recorder.named("session").span_id


def test_an_async_fixture_keeps_its_span_current(recorder: Recorder) -> None:
    """An asynchronous generator that is advanced by calls has its span current in between."""

    async def run() -> None:
        fixture = rows_later()
        await anext(fixture)
        work("test")
        other = rows_later("other")
        await other.__anext__()
        work("second test")
        await other.aclose()
        await fixture.aclose()

    asyncio.run(run())
    parents = recorder.parents()
    assert (parents["test"], parents["second test"]) == ("rows", "other")


def test_generators_that_are_read_in_turn_keep_their_own_spans(recorder: Recorder) -> None:
    """Two generators read in turn are not within each other, in whatever order they end."""
    with ztrace.span("request"):
        first, second = rows("a"), rows("b", count=2)
        for number in range(3):
            for _ in first:
                break
            for _ in second:
                break
            work(f"handle {number}")
        first.close()
        work("after")
    assert get_current() is None
    parents = recorder.parents()
    assert {parents[f"{name} fetch 1"] for name in "ab"} == {"a", "b"}
    outer = ("a", "b", "handle 0", "handle 1", "handle 2", "after")
    assert {parents[name] for name in outer} == {"request"}


def test_a_generator_within_a_generator_is_within_its_span(recorder: Recorder) -> None:
    """A loop in a generator works within that generator's span."""

    def doubled() -> Iterator[int]:
        with ztrace.span("doubled"):
            for row in rows():
                with ztrace.span(f"double {row}"):
                    yield 2 * row

    with ztrace.span("request"):
        for row in doubled():
            work(f"handle {row}")
    parents = recorder.parents()
    assert {parents[f"double {row}"] for row in range(3)} == {parents["rows"]} == {"doubled"}
    assert {parents[f"handle {row}"] for row in (0, 2, 4)} == {"request"}


def test_what_is_thrown_into_a_generator_ends_its_span(recorder: Recorder) -> None:
    """An exception thrown into a generator, or an asynchronous one, is the end of its span and no other's."""
    steps = rows()
    with ztrace.span("request"):
        for _ in steps:
            break
        with pytest.raises(KeyError):
            steps.throw(KeyError("x"))
        work("after")

    async def read() -> None:
        async with aclosing(rows_later("later")) as steps:
            async for _ in steps:
                with pytest.raises(KeyError):
                    await steps.athrow(KeyError("x"))
                work("beside")

    asyncio.run(read())
    parents = recorder.parents()
    assert (parents["after"], parents["beside"]) == ("request", None)
    failed = [recorder.named(name).exception for name in ("rows", "later")]
    assert [None if exception is None else exception[0] for exception in failed] == ["KeyError", "KeyError"]
    assert recorder.named("request").exception is None


def test_a_generator_that_is_collected_leaves_nothing_current(recorder: Recorder) -> None:
    """A generator that is collected with a cycle ends its span, and what ran before is current again."""

    class Node:
        rows: Iterator[int]
        me: "Node"

    def leave() -> None:
        node = Node()
        node.me, node.rows = node, rows()
        for _ in node.rows:
            break

    with ztrace.span("request"):
        leave()
        work("before")
        gc.collect()
        work("after")
    assert get_current() is None
    parents = recorder.parents()
    assert (parents["before"], parents["after"]) == ("request", "request")


def test_abandoned_generators_do_not_add_up(recorder: Recorder) -> None:
    """Spans of generators that a task has abandoned are not kept by the spans after them."""

    async def read() -> None:
        for _ in range(50):
            async for _ in rows_later():
                break
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        work("last")
        gc.collect()
        alive = sum(type(thing) is Span for thing in gc.get_objects())
        assert alive < 10

    asyncio.run(read())


def test_a_traced_generator_keeps_a_span_of_its_own_code_to_itself(recorder: Recorder) -> None:
    """A span open in a decorated generator is current for the generator's code, and not for its reader."""
    traced = ztrace.trace(rows)
    with ztrace.span("request"):
        for row in traced("inner"):
            work(f"handle {row}")
            break
        work("after")
    gc.collect()
    parents = recorder.parents()
    assert (parents["handle 0"], parents["after"], parents["inner"]) == ("request", "request", "rows")


def test_a_generator_in_a_waiting_greenlet_is_a_parent(recorder: Recorder) -> None:
    """While a generator's own code waits for greenlets, these are within its span."""
    done = gevent.event.Event()

    def fetched() -> Iterator[int]:
        with ztrace.span("rows"):
            context = get_current()

            def fetch() -> None:
                make_current(context)
                gevent.sleep(0)
                work("fetch")
                done.set()

            gevent.spawn(fetch)
            done.wait(30)
            yield 1

    for _ in fetched():
        work("handle")
    assert recorder.parents() == {"fetch": "rows", "handle": None, "rows": None}
