"""Tracebacks through decorated functions: equal to those of the undecorated ones."""

import asyncio
import contextlib
import functools
import traceback
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any

import pytest

import ztrace
from tests.ztrace.decorating.comparing import Decorator, bare
from tests.ztrace.recording import Recorder
from ztrace.records import ExceptionRecord, Span


def fail(number: int) -> int:
    """Raise from a further call, with a cause."""
    try:
        return number // 0
    except ZeroDivisionError as error:
        raise ValueError(number) from error


async def fail_later(number: int) -> int:
    """Raise after a pause."""
    await asyncio.sleep(0)
    return fail(number)


def fail_between(number: int) -> Generator[int, object, int]:
    """Yield, and raise in the next step, or what is thrown in."""
    try:
        yield number
    except KeyError:
        raise
    return fail(number)


async def fail_between_later(number: int) -> AsyncGenerator[int, object]:
    """Yield, and raise in the next step, or what is thrown in."""
    yield number
    fail(number)


def caught(call: Callable[[], object]) -> BaseException:
    """Return the exception that a call raises."""
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("nothing raised")


def old() -> KeyError:
    """Return an exception that has been raised before."""
    try:
        raise KeyError("old")
    except KeyError as error:
        return error


def run_function(trace: Decorator) -> BaseException:
    """Call a function that raises."""
    work = trace(fail)
    return caught(lambda: work(1))


def run_with_wrong_arguments(trace: Decorator) -> BaseException:
    """Call a function with arguments that do not fit."""
    work = trace(fail)
    return caught(lambda: work(1, 2))


def run_recursion(trace: Decorator) -> BaseException:
    """Call a function that calls itself."""

    @trace
    def work(depth: int) -> None:
        if depth:
            work(depth - 1)
        fail(1)

    return caught(lambda: work(3))


def run_raised_again(trace: Decorator) -> BaseException:
    """Call a function that raises again what another one raised."""

    @trace
    def inner() -> None:
        fail(1)

    @trace
    def outer() -> None:
        try:
            inner()
        except ValueError as error:
            kept = error
        raise kept  # pyright: ignore[reportGeneralTypeIssues]

    return caught(outer)


def run_method(trace: Decorator) -> BaseException:
    """Call methods of each kind, which raise while another one's exception is handled."""

    class Holder:
        @trace
        @classmethod
        def make(cls) -> None:
            fail(1)

        @trace
        @staticmethod
        def work() -> None:
            try:
                Holder.make()
            except ValueError:
                fail(2)

        @trace  # type: ignore[prop-decorator]
        @property
        def total(self) -> None:
            self.work()

    return caught(lambda: Holder().total)


def run_partial(trace: Decorator) -> BaseException:
    """Call a partial function that raises."""
    work = trace(functools.partial(fail, 1))
    return caught(work)


def run_coroutine(trace: Decorator) -> BaseException:
    """Await a coroutine function that raises."""
    work = trace(fail_later)
    return caught(lambda: asyncio.run(work(1)))


def run_coroutine_of_a_plain_function(trace: Decorator) -> BaseException:
    """Await the coroutine that a plain function returns."""

    @functools.wraps(fail_later)
    def start(number: int) -> Any:
        return fail_later(number)

    work = trace(start)
    return caught(lambda: asyncio.run(work(1)))


def run_plain_function_before_its_coroutine(trace: Decorator) -> BaseException:
    """Call a function that raises before it makes its coroutine."""

    @trace
    @functools.wraps(fail_later)
    def work(number: int) -> Any:
        fail(number)
        return fail_later(number)

    return caught(lambda: work(1))


def run_generator(trace: Decorator) -> BaseException:
    """Iterate over a generator that raises."""
    work = trace(fail_between)
    return caught(lambda: list(work(1)))


def run_thrown(trace: Decorator) -> BaseException:
    """Throw a new exception into a generator, which does not handle it."""
    steps = trace(fail_between)(1)
    next(steps)
    return caught(lambda: steps.throw(ZeroDivisionError("new")))


def run_thrown_old(trace: Decorator) -> BaseException:
    """Throw an exception that has a traceback into a generator, which raises it again."""
    steps = trace(fail_between)(1)
    next(steps)
    return caught(lambda: steps.throw(old()))


def run_delegating(trace: Decorator) -> BaseException:
    """Iterate over a generator that delegates to another one."""
    inner = trace(fail_between)

    @trace
    def outer() -> Generator[int, object, Any]:
        return (yield from inner(1))

    return caught(lambda: list(outer()))


def run_context_manager(trace: Decorator) -> BaseException:
    """Raise in the block of a context manager, in both orders of the decorators."""

    @trace
    @contextlib.contextmanager
    @trace
    def block() -> Iterator[None]:
        try:
            yield
        except ValueError:
            fail(2)

    def call() -> None:
        with block():
            fail(1)

    return caught(call)


def run_async_generator(trace: Decorator) -> BaseException:
    """Iterate over an asynchronous generator that raises."""
    work = trace(fail_between_later)

    async def main() -> None:
        async for _ in work(1):
            pass

    return caught(lambda: asyncio.run(main()))


def run_async_thrown(trace: Decorator) -> BaseException:
    """Throw an exception into an asynchronous generator."""
    work = trace(fail_between_later)

    async def main() -> None:
        steps = work(1)
        await anext(steps)
        await steps.athrow(old())

    return caught(lambda: asyncio.run(main()))


#: Ways of an exception through decorated functions.
RUNS: list[Callable[[Decorator], BaseException]] = [
    run_function,
    run_with_wrong_arguments,
    run_recursion,
    run_raised_again,
    run_method,
    run_partial,
    run_coroutine,
    run_coroutine_of_a_plain_function,
    run_plain_function_before_its_coroutine,
    run_generator,
    run_thrown,
    run_thrown_old,
    run_delegating,
    run_context_manager,
    run_async_generator,
    run_async_thrown,
]


@pytest.mark.parametrize("configured", [True, False])
@pytest.mark.parametrize("run", RUNS)
def test_tracebacks_equal_those_without_the_decorator(
    request: pytest.FixtureRequest, run: Callable[[Decorator], BaseException], configured: bool
) -> None:
    """A formatted exception, its causes included, is the same with and without the decorator."""
    if configured:
        request.getfixturevalue("recorder")
    assert traceback.format_exception(run(ztrace.trace)) == traceback.format_exception(run(bare))


def frames_of(span: Span) -> list[str]:
    """Return the lines of a span's exception."""
    assert isinstance(span.exception, ExceptionRecord)
    return [frame[4] for frame in span.exception.frames]


def test_each_span_records_its_own_part_of_the_way(recorder: Recorder) -> None:
    """Spans of decorated functions record the frames down to the span that the exception passed before."""

    @ztrace.trace("inner")
    def inner() -> None:
        fail(1)

    @ztrace.trace("outer")
    def outer() -> None:
        inner()

    caught(outer)
    raised = [line for line in frames_of(recorder.named("inner")) if line]
    assert raised == ["fail(1)", "raise ValueError(number) from error"]
    assert frames_of(recorder.named("outer")) == ["inner()"]


def test_arguments_that_do_not_fit_are_recorded_with_the_call(recorder: Recorder) -> None:
    """The exception of a call with wrong arguments has the line of the call."""
    run_with_wrong_arguments(ztrace.trace)
    assert frames_of(recorder.span)[-1] == "return caught(lambda: work(1, 2))"
