"""Middleware for process pools: a client span from the submission of a task to its outcome.

The task is a server span in its process. Tasks of ``imap``, whose results are read whenever the program reads
them, are consumer spans of one producer span.
"""

import functools
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

from ztrace import spans
from ztrace.exceptions.tracebacks import take_off_frame
from ztrace.lifecycle.recovery import insist
from ztrace.middleware.tasks import end_call, make_task, new_call
from ztrace.spans import CLIENT, PRODUCER, Span


def wrap_executor(executor: Any) -> None:
    """Wrap ``submit`` of ProcessPoolExecutor, through which ``map`` submits its chunks."""
    original = executor.submit

    @functools.wraps(original)
    def submit(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        def hand_over(span: Span | None) -> Any:
            future = original(self, make_task(fn, span), *args, **kwargs)
            if span is not None:
                future.add_done_callback(functools.partial(insist, _end_future, span))
            return future

        return _call(fn, CLIENT, hand_over)

    executor.submit = submit


def wrap_pool(pool: Any, thread_pool: type) -> None:
    """Wrap the methods of a pool of processes through which every task is submitted.

    Args:
        pool: the class.
        thread_pool: its subclass, whose tasks stay in this process.
    """
    apply_async, map_async = pool.apply_async, pool._map_async

    @functools.wraps(apply_async)
    def wrapped_apply(
        self: Any,
        func: Any,
        args: Any = (),
        kwds: Any = {},  # noqa: B006 as the method has it
        callback: Any = None,
        error_callback: Any = None,
    ) -> Any:
        if isinstance(self, thread_pool):
            return apply_async(self, func, args, kwds, callback, error_callback)

        def hand_over(span: Span | None) -> Any:
            ends = _callbacks(span, callback, error_callback)
            return _ended(apply_async(self, make_task(func, span), args, kwds, *ends), span)

        return _call(func, CLIENT, hand_over)

    @functools.wraps(map_async)
    def wrapped_map(
        self: Any,
        func: Any,
        iterable: Any,
        mapper: Any,
        chunksize: Any = None,
        callback: Any = None,
        error_callback: Any = None,
    ) -> Any:
        if isinstance(self, thread_pool):
            return map_async(self, func, iterable, mapper, chunksize, callback, error_callback)

        def hand_over(span: Span | None) -> Any:
            ends = _callbacks(span, callback, error_callback)
            task = make_task(mapper, span)
            return _ended(map_async(self, func, iterable, task, chunksize, *ends), span)

        return _call(func, CLIENT, hand_over)

    pool.apply_async, pool._map_async = wrapped_apply, wrapped_map
    for name in ("imap", "imap_unordered"):
        setattr(pool, name, _wrap_imap(getattr(pool, name), thread_pool))


def _wrap_imap(original: Callable[..., Any], thread_pool: type) -> Callable[..., Any]:
    @functools.wraps(original)
    def imap(self: Any, func: Any, iterable: Any, chunksize: Any = 1) -> Any:
        if isinstance(self, thread_pool):
            return original(self, func, iterable, chunksize)

        def hand_over(span: Span | None) -> Any:
            results = original(self, make_task(func, span), iterable, chunksize)
            if span is not None:
                span.end()
            return results

        return _call(func, PRODUCER, hand_over)

    return imap


def _call(function: Any, kind: int, hand_over: Callable[[Span | None], Any]) -> Any:
    """Submit a function within a span; ``hand_over`` gets the span, and arranges its end."""
    span = None
    try:
        try:
            if spans.publisher is not None:
                span = new_call(function, kind)
                if span is not None:
                    span.start(activate=False)
            return hand_over(span)
        except BaseException as exception:
            take_off_frame(exception)
            if span is not None:
                end_call(span, exception)
            raise
    except BaseException as exception:
        if span is not None:  # An exception may have arrived in the code above.
            insist(end_call, span, exception)
        raise


def _end_future(span: Span, future: Any) -> None:
    end_call(span, CancelledError() if future.cancelled() else future.exception())


def _callbacks(span: Span | None, callback: Any, error_callback: Any) -> tuple[Any, Any]:
    """Return the callbacks of a pool's result, which end the span first."""
    if span is None:
        return callback, error_callback

    def end(result: Any) -> None:
        insist(end_call, span)
        if callback:
            callback(result)

    def fail(error: Any) -> None:
        insist(end_call, span, error)
        if error_callback:
            error_callback(error)

    return end, fail


def _ended(result: Any, span: Span | None) -> Any:
    """Return a pool's result; the span of an empty map has ended, and no callback is called."""
    if span is not None and result.ready():
        end_call(span)
    return result
