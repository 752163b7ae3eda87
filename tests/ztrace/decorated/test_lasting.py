"""Spans that last longer than the decorated function's call: of context managers and coroutines."""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Iterator

import pytest

import ztrace
from tests.ztrace.decorated.comparing import add_later
from tests.ztrace.recording import Recorder
from ztrace.records import OK


def test_the_span_of_a_context_manager_lasts_through_its_block(recorder: Recorder) -> None:
    """The span of a traced context manager ends after its block."""

    @ztrace.trace
    @contextlib.contextmanager
    def block() -> Iterator[None]:
        yield

    with block():
        assert recorder.spans == []
    assert recorder.span.status == OK


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
        assert ztrace.current_span() is None
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
