"""Spans that last longer than the decorated function's call: of context managers and coroutines."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

import pytest

import ztrace
from tests.ztrace.decorating.comparing import add_later, bare
from tests.ztrace.recording import Recorder
from ztrace.context import get_current
from ztrace.records import ERROR, OK


def decorators(order: str) -> tuple[Any, Any]:
    """Return the decorators above and below another one, of which one traces."""
    return (ztrace.trace("block"), bare) if order == "above" else (bare, ztrace.trace("block"))


@pytest.mark.parametrize("order", ["above", "below"])
def test_the_span_of_a_context_manager_is_current_in_its_block(recorder: Recorder, order: str) -> None:
    """The span of a traced context manager ends after the block, and is the parent of the block's spans."""
    above, below = decorators(order)

    @above  # type: ignore[untyped-decorator]
    @contextlib.contextmanager
    @below  # type: ignore[untyped-decorator]
    def block() -> Iterator[None]:
        with ztrace.span("held"):
            yield
        with ztrace.span("after"):
            pass

    with ztrace.span("outer") as outer:
        with block(), ztrace.span("inside"):
            pass
        assert ztrace.current_span() is outer
    parents = {"inside": "held", "held": "block", "after": "block", "block": "outer", "outer": None}
    assert recorder.parents() == parents


@pytest.mark.parametrize("order", ["above", "below"])
def test_the_span_of_an_async_context_manager_is_current_too(recorder: Recorder, order: str) -> None:
    """The span of an asynchronous context manager is the parent of its block's spans, one that fails too."""
    above, below = decorators(order)

    @above  # type: ignore[untyped-decorator]
    @contextlib.asynccontextmanager
    @below  # type: ignore[untyped-decorator]
    async def block() -> AsyncIterator[None]:
        await asyncio.sleep(0)
        yield

    async def fail() -> None:
        async with block():
            with ztrace.span("inside"):
                await asyncio.sleep(0)
            raise ValueError("failed")

    async def main() -> None:
        with ztrace.span("outer") as outer:
            with pytest.raises(ValueError, match="failed"):
                await fail()
            assert ztrace.current_span() is outer

    asyncio.run(main())
    assert recorder.parents() == {"inside": "block", "block": "outer", "outer": None}
    assert recorder.named("block").status == ERROR


def test_the_span_of_a_coroutine_from_a_plain_function_ends_with_it(recorder: Recorder) -> None:
    """The span lasts from the call to the coroutine's end, and is current only while the coroutine runs."""

    @ztrace.trace
    @functools.wraps(add_later)
    def work() -> Awaitable[int]:
        with ztrace.span("at the call"):
            return inner()

    async def inner() -> int:
        await asyncio.sleep(0)
        with ztrace.span("within"):
            raise ValueError("failed")

    async def main() -> None:
        waiting = work()
        assert get_current() is None
        task = asyncio.ensure_future(waiting)
        with ztrace.span("beside"), pytest.raises(ValueError, match="failed"):
            await task

    asyncio.run(main())
    assert recorder.parents() == {
        "at the call": "add_later",
        "within": "add_later",
        "add_later": None,
        "beside": None,
    }


@pytest.mark.parametrize("end", ["close", "cancel", "drop"])
def test_a_coroutine_from_a_plain_function_that_never_starts(recorder: Recorder, end: str) -> None:
    """Closed, cancelled or dropped before its first step, it ends its span and warns as undecorated."""
    work = ztrace.trace(functools.wraps(add_later)(lambda: add_later(1)))

    async def cancel() -> None:
        asyncio.ensure_future(work()).cancel()
        await asyncio.sleep(0)

    if end == "close":
        work().close()
    elif end == "cancel":
        asyncio.run(cancel())
    else:
        with pytest.warns(RuntimeWarning, match="coroutine 'add_later' was never awaited") as warned:
            work()  # type: ignore[unused-coroutine]
        assert len(warned) == 1
    assert recorder.span.status == OK
