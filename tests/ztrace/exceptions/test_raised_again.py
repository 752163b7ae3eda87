"""One exception object in several spans: propagating, returned by a task, or stored and raised again."""

import asyncio
import contextvars
import gc
import logging
import sys
import weakref
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import FrameType, TracebackType
from typing import Any

import gevent
import pytest
import zerorpc

import ztrace
from tests.ztrace.recording import Recorder, codes, record_of
from ztrace.exceptions import origins
from ztrace.records import PASSED, RAISED, REPLACED, WRAPPED, ExceptionRecord, FrameRecord

#: Module-level exception, as libraries keep one to raise it cheaply.
SINGLETON = ValueError("singleton")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Clear the marks and the traceback that a test leaves on the singleton."""
    SINGLETON.__dict__.clear()
    SINGLETON.__traceback__ = SINGLETON.__context__ = None
    yield
    SINGLETON.__traceback__ = None


def origin(recorder: Recorder, name: str) -> tuple[str, str]:
    """Return how a span's exception arrived, and the name of its origin."""
    record = record_of(recorder, name)
    (origin,) = (span.name for span in recorder.spans if span.span_id == record.origin_span_id)
    return record.how, origin


def swallow(work: Callable[[], object]) -> Exception:
    """Return the exception raised by `work`."""
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def fail_in(name: str, error: Exception) -> None:
    """Raise the error within a span, by a statement of this function."""
    with ztrace.span(name):
        raise error


def in_span(name: str, work: Callable[[], object]) -> None:
    """Run `work` within a span."""
    with ztrace.span(name):
        work()


def raise_it(error: Exception) -> None:
    """Raise the error, like a helper function."""
    raise error


@pytest.mark.parametrize("removing", [False, True])
def test_a_singleton_in_sibling_spans_begins_in_each(recorder: Recorder, removing: bool) -> None:
    """A singleton raised in sibling spans has its origin and its own frames in each."""

    def work(name: str) -> None:
        with ztrace.span(name):
            raise SINGLETON.with_traceback(None) if removing else SINGLETON

    with ztrace.span("root"):
        for name in ("a", "b", "c"):
            swallow(lambda name=name: work(name))  # type: ignore[misc]
    assert [origin(recorder, name) for name in "abc"] == [(RAISED, "a"), (RAISED, "b"), (RAISED, "c")]
    assert [len(codes(record_of(recorder, name))) for name in "abc"] == [1, 1, 1]


@pytest.mark.parametrize("removing", [False, True])
def test_a_singleton_in_a_loop_begins_in_each_turn(recorder: Recorder, removing: bool) -> None:
    """A singleton raised in a loop of one function has its origin in each iteration's span."""
    with ztrace.span("root"):
        for name in ("a", "b"):
            try:
                with ztrace.span(name):
                    raise SINGLETON.with_traceback(None) if removing else SINGLETON
            except ValueError:
                pass
        try:
            with ztrace.span("c"):
                raise SINGLETON
        except ValueError:
            pass
        try:
            with ztrace.span("d"):
                raise_it(SINGLETON)
        except ValueError:
            pass
    assert [origin(recorder, name) for name in "abcd"] == [(RAISED, name) for name in "abcd"]


def served() -> None:
    """Raise the singleton below a span that is ended by hand, as a middleware does."""
    span = ztrace.span("served").start()
    try:
        raise_clean()
    except ValueError as error:
        span.end(error)
        raise
    span.end()


def served_by_itself() -> None:
    """Raise the singleton in the function that ends the span by hand."""
    span = ztrace.span("served").start()
    try:
        raise SINGLETON.with_traceback(None)
    except ValueError as error:
        span.end(error)
        raise


def handled() -> None:
    """Raise the singleton below a span."""
    with ztrace.span("handled"):
        raise_clean()


def raise_clean() -> None:
    """Raise the singleton without its old traceback, as code that keeps an object should."""
    raise SINGLETON.with_traceback(None)


@pytest.mark.parametrize("work", [served, served_by_itself, handled])
def test_a_singleton_without_its_old_traceback_begins_anew(
    recorder: Recorder, work: Callable[[], None]
) -> None:
    """A singleton without its old traceback has a new origin, even if a traceback reuses an address."""
    addresses = set()
    with ztrace.span("root"):
        for _ in range(200):
            addresses.add(id(swallow(work).__traceback__))
        for _ in range(200):
            try:
                with ztrace.span("in place"):
                    raise_clean()
            except ValueError as error:
                addresses.add(id(error.__traceback__))
    assert len(addresses) < 400, "no address was used again"
    records = [ExceptionRecord(*span.exception) for span in recorder.spans if span.exception]
    assert [record.how for record in records] == [RAISED] * 400


def test_a_mark_keeps_nothing_alive(recorder: Recorder) -> None:
    """A mark keeps no frame alive once the traceback is removed from its exception."""

    class Held:
        pass

    def work() -> None:
        held = Held()
        gone.append(weakref.ref(held))
        raise SINGLETON

    gone: list[weakref.ref[Held]] = []
    with ztrace.span("root"):
        swallow(lambda: in_span("a", work))
        assert gone[0]() is not None
        SINGLETON.__traceback__ = None
        gc.collect()  # pytest keeps references too.
        assert gone[0]() is None
    assert record_of(recorder, "a").how == RAISED


def test_a_debugger_goes_on(recorder: Recorder) -> None:
    """A debugger's trace function stays set on the frames, and the origin is found without a tag."""
    events = []

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code is fail_in.__code__:
            events.append(event)
        return trace

    before = sys.gettrace()
    with ztrace.span("root"):
        sys.settrace(trace)
        error = swallow(lambda: fail_in("a", SINGLETON))
        sys.settrace(before)
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    assert step is not None
    assert step.tb_frame.f_trace is trace
    assert {"call", "line", "exception", "return"} <= set(events)
    assert origin(recorder, "a") == (RAISED, "a")


def test_a_debugger_that_comes_later_is_not_disturbed(recorder: Recorder) -> None:
    """A debugger started later receives the events of all frames but the tagged one."""
    lines = []

    def trace(frame: FrameType, event: str, _: object) -> Any:
        lines.append(frame.f_code.co_name)
        return trace

    before = sys.gettrace()
    with ztrace.span("root"):
        span = ztrace.span("a").start()
        try:
            raise SINGLETON
        except ValueError as error:
            span.end(error)
        sys.settrace(trace)
        swallow(lambda: raise_it(SINGLETON))
        sys.settrace(before)
    assert "raise_it" in lines


def test_a_singleton_in_coroutines_begins_in_each(recorder: Recorder) -> None:
    """A singleton raised in a coroutine has its origin in the span of each awaiting caller."""

    async def work() -> None:
        await asyncio.sleep(0)
        raise SINGLETON

    async def main() -> None:
        with ztrace.span("root"):
            for name in ("a", "b"):
                try:
                    with ztrace.span(name):
                        await work()
                except ValueError:
                    pass

    asyncio.run(main())
    assert [origin(recorder, name) for name in "ab"] == [(RAISED, "a"), (RAISED, "b")]
    assert codes(record_of(recorder, "b")) == ["await work()", "raise SINGLETON"]


def test_a_singleton_swallowed_further_out_begins_anew(recorder: Recorder) -> None:
    """An exception swallowed further out and raised again has a new origin, without its earlier frames."""
    with ztrace.span("root"):
        swallow(lambda: fail_in("a", SINGLETON))
        swallow(lambda: fail_in("b", SINGLETON))
    assert origin(recorder, "b") == (RAISED, "b")
    assert codes(record_of(recorder, "b")) == ["raise error"]


def test_an_exception_kept_and_raised_around_its_origin_is_on_its_way(recorder: Recorder) -> None:
    """A retry loop that raises its last error outside the attempts keeps that attempt as origin."""

    def retry() -> None:
        last = None
        for name in ("first", "second"):
            try:
                fail_in(name, ValueError(name))
            except ValueError as error:
                last = error
        assert last is not None
        raise last

    def work() -> None:
        with ztrace.span("outer"):
            retry()

    swallow(work)
    assert [origin(recorder, name) for name in ("first", "second", "outer")] == [
        (RAISED, "first"),
        (RAISED, "second"),
        (PASSED, "second"),
    ]
    assert codes(record_of(recorder, "outer"))[:2] == ["retry()", "raise last"]


def reraise_bare(error: Exception) -> None:
    """Raise the caught exception again by a bare `raise`."""
    try:
        raise_in_span(error)
    except ValueError:
        logging.getLogger(__name__).debug("no")
        raise


def reraise_by_name(error: Exception) -> None:
    """Raise the caught exception again by name."""
    try:
        raise_in_span(error)
    except ValueError as caught:
        logging.getLogger(__name__).debug("no: %s", caught)
        raise caught


def reraise_by_helper(error: Exception) -> None:
    """Raise the caught exception again in another function."""
    try:
        raise_in_span(error)
    except ValueError as caught:
        raise_it(caught)


def reraise_bare_of_traceback(error: Exception) -> None:
    """Raise the caught exception again without its traceback."""
    try:
        raise_in_span(error)
    except ValueError as caught:
        raise caught.with_traceback(None)  # noqa: B904


def raise_in_span(error: Exception) -> None:
    """Raise the error within the innermost span."""
    fail_in("inner", error)


@pytest.mark.parametrize(
    "reraise", [reraise_bare, reraise_by_name, reraise_by_helper, reraise_bare_of_traceback]
)
def test_raising_again_is_on_its_way(recorder: Recorder, reraise: Callable[[Exception], None]) -> None:
    """Raising again, by whatever statement, keeps the origin for the spans around."""

    def work() -> None:
        with ztrace.span("outer"), ztrace.span("middle"):
            reraise(ValueError("no"))

    swallow(work)
    assert [origin(recorder, name) for name in ("inner", "middle", "outer")] == [
        (RAISED, "inner"),
        (PASSED, "inner"),
        (PASSED, "inner"),
    ]
    assert codes(record_of(recorder, "middle"))[0] == 'reraise(ValueError("no"))'


def test_wrapping_and_replacing(recorder: Recorder) -> None:
    """``from``, raising in a handler, and ``from None`` are recorded as wrapped, replaced and raised."""

    def wrap(how: str) -> None:
        try:
            fail_in(f"inner {how}", ValueError("no"))
        except ValueError as error:
            if how == "from":
                raise KeyError(how) from error
            if how == "none":
                raise KeyError(how) from None
            raise KeyError(how)  # noqa: B904

    def work(how: str) -> None:
        with ztrace.span(f"outer {how}"), ztrace.span(f"middle {how}"):
            wrap(how)

    for how in ("from", "none", "handling"):
        swallow(lambda how=how: work(how))  # type: ignore[misc]
    assert origin(recorder, "middle from") == (WRAPPED, "inner from")
    assert origin(recorder, "middle none") == (RAISED, "middle none")
    assert origin(recorder, "middle handling") == (REPLACED, "inner handling")
    assert [origin(recorder, f"outer {how}") for how in ("from", "none", "handling")] == [
        (PASSED, "inner from"),
        (PASSED, "middle none"),
        (PASSED, "inner handling"),
    ]


async def fail_by_name() -> None:
    """Raise again, by name, the exception that has left the task's own span."""
    try:
        with ztrace.span("task"):
            raise ValueError("no")
    except ValueError as error:
        raise error


async def fail_by_helper() -> None:
    """Raise again, in a helper, the exception that has left the task's own span."""
    try:
        await fail_plainly()
    except ValueError as error:
        raise_it(error)


async def fail_plainly() -> None:
    """Raise within the task's own span."""
    with ztrace.span("task"):
        raise ValueError("no")


@pytest.mark.parametrize("fail", [fail_plainly, fail_by_name, fail_by_helper])
def test_a_task_awaited_twice_is_one_failure(recorder: Recorder, fail: Callable[[], Awaitable[None]]) -> None:
    """Spans that await a failed task are passed, each with its own line."""

    async def main() -> None:
        with ztrace.span("root"):
            task = asyncio.ensure_future(fail())
            for name in ("a", "b"):
                try:
                    with ztrace.span(name):
                        await task
                except ValueError:
                    pass
            try:
                with ztrace.span("c"):
                    try:
                        await task
                    except ValueError as error:
                        raise error
            except ValueError:
                pass

    asyncio.run(main())
    assert origin(recorder, "task") == (RAISED, "task")
    assert [origin(recorder, name) for name in "abc"] == [(PASSED, "task")] * 3
    assert codes(record_of(recorder, "a"))[0] == "await task"
    assert 'raise ValueError("no")' not in codes(record_of(recorder, "b"))


@pytest.mark.parametrize("keep", [False, True])
def test_a_future_of_a_thread_is_one_failure(recorder: Recorder, keep: bool) -> None:
    """Spans that request the result of a failed future are passed, though the library raises it again."""

    def fail() -> None:
        if keep:
            try:
                fail_in("thread", ValueError("no"))
            except ValueError as error:
                raise error
        fail_in("thread", ValueError("no"))

    with ztrace.span("root"), ThreadPoolExecutor(1) as pool:
        future: Future[None] = pool.submit(contextvars.copy_context().run, fail)
        for name in ("a", "b"):
            try:
                with ztrace.span(name):
                    future.result()
            except ValueError:
                pass
    assert origin(recorder, "thread") == (RAISED, "thread")
    assert [origin(recorder, name) for name in "ab"] == [(PASSED, "thread")] * 2
    assert codes(record_of(recorder, "a"))[0] == "future.result()"


def test_a_greenlet_asked_twice_is_one_failure(recorder: Recorder) -> None:
    """Spans that request a failed greenlet's result are passed, though gevent copies the traceback."""

    def ask(name: str, greenlet: gevent.Greenlet) -> None:
        with ztrace.span(name):
            greenlet.get()

    with ztrace.span("root"):
        run = contextvars.copy_context().run
        greenlet = gevent.spawn(run, fail_in, "greenlet", ValueError("no"))
        gevent.wait([greenlet])
        for name in ("a", "b"):
            assert isinstance(swallow(lambda name=name: ask(name, greenlet)), ValueError)  # type: ignore[misc]
    assert origin(recorder, "greenlet") == (RAISED, "greenlet")
    assert [origin(recorder, name) for name in "ab"] == [(PASSED, "greenlet")] * 2
    assert [codes(record_of(recorder, name)) for name in "ab"] == [["greenlet.get()"]] * 2


def test_a_stored_error_raised_in_a_sibling_begins_anew(recorder: Recorder) -> None:
    """A stored error raised by a statement in a sibling span has a new origin."""
    with ztrace.span("root"):
        error = swallow(lambda: fail_in("a", ValueError("no")))
        swallow(lambda: fail_in("b", error))
    assert origin(recorder, "b") == (RAISED, "b")


def test_a_bare_raise_within_a_span_of_the_handler(recorder: Recorder) -> None:
    """A span started in a handler is passed by a bare `raise`."""
    with ztrace.span("root"):
        try:
            try:
                with ztrace.span("a"):
                    raise ValueError("no")
            except ValueError:
                with ztrace.span("handler"):
                    raise
        except ValueError:
            pass
    assert origin(recorder, "handler") == (PASSED, "a")


def test_spans_with_other_parents_are_on_the_way(recorder: Recorder) -> None:
    """An exception passes a span around its origin, even if that span is not the origin's parent."""

    def work(root: ztrace.Span) -> None:
        with ztrace.span("around"), ztrace.span("inside", parent=root):
            raise ValueError("no")

    with ztrace.span("root") as root:
        swallow(lambda: work(root))
    assert origin(recorder, "around") == (PASSED, "inside")


def test_a_remote_error_raised_by_name_passes(recorder: Recorder) -> None:
    """A remote error raised by name passes the client span and the spans around it."""
    error = zerorpc.RemoteError("ValueError", "no", "")

    def call() -> None:
        with ztrace.span("client", kind="client") as client:
            origins.mark_origin(error, client.trace_id, b"remotely", client)
            raise error

    def work() -> None:
        with ztrace.span("outer"):
            caught = swallow(call)
            raise caught

    swallow(work)
    for name in ("client", "outer"):
        record = record_of(recorder, name)
        assert (record.how, record.origin_span_id) == (PASSED, b"remotely")
    assert codes(record_of(recorder, "outer"))[0] == "raise caught"


def test_an_object_kept_over_many_traces_does_not_grow(recorder: Recorder) -> None:
    """An exception object kept over many traces holds the marks of its last origin only."""
    for _ in range(50):
        swallow(lambda: fail_in("a", SINGLETON.with_traceback(None)))
    gc.collect()
    mark = origins.mark_of(SINGLETON)
    assert mark is not None
    assert (len(mark.via), len(mark.heads)) == (0, 2)
    assert {record.exception[4] for record in recorder.spans if record.exception} == {RAISED}


def test_awaiting_for_ever_does_not_grow_a_mark(recorder: Recorder) -> None:
    """A failure requested without end keeps a bounded mark."""
    future: Future[None] = Future()
    with ztrace.span("root"):
        future.set_exception(swallow(lambda: fail_in("a", ValueError("no"))))
        kept = []  # Keeps each traceback a separate object.
        for _ in range(2_500):
            try:
                with ztrace.span("b"):
                    future.result()
            except ValueError as error:
                kept.append(error.__traceback__)
                marks = [origins.mark_of(error.with_traceback(None))]
    (mark,) = marks
    assert mark is not None
    assert len(mark.heads) <= 2_002
    assert {span.exception[4] for span in recorder.spans if span.name == "b" and span.exception} == {PASSED}


def test_a_stored_error_raised_in_the_same_function_begins_anew(recorder: Recorder) -> None:
    """A stored error raised by the function that caught it, in a new span, has a new origin."""
    with ztrace.span("root"):
        try:
            fail_in("a", SINGLETON)
        except ValueError:
            pass
        try:
            with ztrace.span("b"):
                raise SINGLETON
        except ValueError:
            pass
    assert origin(recorder, "b") == (RAISED, "b")
    assert codes(record_of(recorder, "b")) == ["raise SINGLETON"]


def copy_traceback(traceback: TracebackType | None) -> TracebackType | None:
    """Return a copy of a traceback without its frames, made the way tblib does."""
    if traceback is None:
        return None
    code = traceback.tb_frame.f_code
    source = "\n" * (traceback.tb_lineno - 1) + "raise __traceback_maker"
    made = compile(source, code.co_filename, "exec").replace(co_name=code.co_name)
    try:
        exec(made, {"__traceback_maker": KeyError, "__name__": traceback.tb_frame.f_globals["__name__"]})
    except KeyError as error:
        step = error.__traceback__
        assert step is not None
        assert step.tb_next is not None
        copy = step.tb_next
        return TracebackType(copy_traceback(traceback.tb_next), copy.tb_frame, copy.tb_lasti, copy.tb_lineno)
    raise AssertionError


def test_a_copied_traceback_is_no_new_raise(recorder: Recorder) -> None:
    """A copied traceback, whose frames all stand at a ``raise`` statement, keeps the origin."""

    async def get(future: "asyncio.Future[None]") -> None:
        with ztrace.span("b"):
            await future

    async def main() -> None:
        with ztrace.span("root"):
            error = swallow(lambda: raise_in_span(ValueError("no")))
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.set_exception(error.with_traceback(copy_traceback(error.__traceback__)))
            await asyncio.gather(get(future), return_exceptions=True)

    asyncio.run(main())
    assert origin(recorder, "b") == (PASSED, "inner")
    frames = [FrameRecord(*frame) for frame in record_of(recorder, "b").frames]
    # The last frame is the caller of the inner span, known to this span only from the copy.
    assert [frame.function for frame in frames][-1] == "raise_in_span"
