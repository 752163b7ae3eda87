"""Middleware for thread pools: a task runs with the span that was current when it was submitted."""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import Any

from ztrace.middleware.carrying import carry, is_enabled

#: Methods of ``multiprocessing.pool.ThreadPool`` through which every task of it is submitted.
_SUBMITTING = ("apply_async", "_map_async", "imap", "imap_unordered")


def install() -> None:
    """Patch the thread pools of the standard library, once."""
    if is_enabled():
        _wrap_pools()


@functools.cache
def _wrap_pools() -> None:
    ThreadPoolExecutor.submit = _wrap(ThreadPoolExecutor.submit)  # type: ignore[method-assign]
    for name in _SUBMITTING:  # Of ThreadPool alone: its base class hands tasks to processes.
        setattr(ThreadPool, name, _wrap(getattr(ThreadPool, name)))


def _wrap(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def submit(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return original(self, carry(fn), *args, **kwargs)

    return submit
