"""Middleware for thread pools: a task runs with the span that was current when it was submitted."""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ztrace.middleware.carrying import carry, is_enabled

#: Module and class of each pool, with the methods through which every task is submitted. The base class of
#: ThreadPool, which hands tasks to processes, is not patched.
_POOLS = (
    ("concurrent.futures.thread", "ThreadPoolExecutor", ("submit",)),
    ("multiprocessing.pool", "ThreadPool", ("apply_async", "_map_async", "imap", "imap_unordered")),
)


def install() -> None:
    """Patch those thread pools of the standard library that are imported, once each."""
    if is_enabled():
        for module, pool, methods in _POOLS:
            if module in sys.modules:
                _wrap_pool(getattr(sys.modules[module], pool), methods)


@functools.cache
def _wrap_pool(pool: type, methods: Sequence[str]) -> None:
    for name in methods:
        setattr(pool, name, _wrap(getattr(pool, name)))


def _wrap(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def submit(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return original(self, carry(fn), *args, **kwargs)

    return submit
