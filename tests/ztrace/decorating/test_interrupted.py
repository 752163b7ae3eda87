"""Exceptions that arrive in the wrappers of decorated functions, as those of signal handlers do."""

import asyncio
import contextlib
import functools
import gc
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

import ztrace
from tests.ztrace.interrupting import BoundaryInterrupter, Limit, interrupt
from tests.ztrace.recording import Recorder
from ztrace.context import get_current


@ztrace.trace
def work() -> int:
    """Return a number."""
    return 1


@ztrace.trace
def fail() -> None:
    """Raise."""
    raise KeyError("x")


@ztrace.trace
def rows() -> Iterator[int]:
    """Yield two numbers."""
    yield 1
    yield 2


@ztrace.trace
async def wait() -> None:
    """Let another task run."""
    await asyncio.sleep(0)


@ztrace.trace
async def rows_later() -> AsyncIterator[int]:
    """Yield a number."""
    yield 1


def as_it_is(function: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], Coroutine[Any, Any, None]]:
    """Wrap a coroutine function by a plain one."""

    @functools.wraps(function)
    def call() -> Coroutine[Any, Any, None]:
        return function()

    return call


@ztrace.trace
@as_it_is
async def wait_wrapped() -> None:
    """Let another task run."""
    await asyncio.sleep(0)


@contextlib.contextmanager
@ztrace.trace
def block() -> Iterator[None]:
    """Yield once."""
    yield


def use_block() -> None:
    """Enter and leave a context manager."""
    with block():
        pass


def use_error() -> None:
    """Call a function that raises."""
    with contextlib.suppress(KeyError):
        fail()


async def read_later() -> None:
    """Read an asynchronous generator."""
    async for _ in rows_later():
        pass


SCENARIOS: dict[str, Callable[[], object]] = {
    "call": work,
    "error": use_error,
    "generator": lambda: list(rows()),
    "abandoned generator": lambda: next(rows()),
    "coroutine": lambda: asyncio.run(wait()),
    "wrapped coroutine": lambda: asyncio.run(wait_wrapped()),
    "asynchronous generator": lambda: asyncio.run(read_later()),
    "context manager": use_block,
}


# An exception keeps some coroutines from running, and is discarded where a generator is freed.
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", SCENARIOS)
def test_an_exception_leaves_no_span(recorder: Recorder, counts: dict[str, int], name: str) -> None:
    """Wherever a signal is handled in a wrapper, its exception leaves no span open or current."""
    number, interrupter = 0, None
    while interrupter is None or interrupter.raised:
        interrupter = BoundaryInterrupter(number, Limit)
        with ztrace.span("outer") as outer:
            interrupt(SCENARIOS[name], interrupter)
            if len(recorder.register) > 1:
                gc.collect()  # A coroutine that did not get to its first step ends its span when it is freed.
            assert get_current() is outer, interrupter.place
            assert list(recorder.register) == [outer], interrupter.place
            assert outer.open_children == 0, interrupter.place
        assert counts == {}
        ids = [span.span_id for span in recorder.spans]
        assert len(set(ids)) == len(ids), interrupter.place
        recorder.queue.clear()
        number += 1
    assert number > 5
