"""Middleware for pools: a task runs with the span that was current when it was submitted.

Tasks of thread pools have no span of their own; those of process pools are calls.
"""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ztrace.middleware.carrying import carry, is_enabled

#: Module and class of each thread pool, with the methods through which every task is submitted.
_THREAD_POOLS = (
    ("concurrent.futures.thread", "ThreadPoolExecutor", ("submit",)),
    ("multiprocessing.pool", "ThreadPool", ("apply_async", "_map_async", "imap", "imap_unordered")),
)


def install() -> None:
    """Patch those pools of the standard library that are imported, once each."""
    if is_enabled():
        for module, pool, methods in _THREAD_POOLS:
            if module in sys.modules:
                _wrap_pool(getattr(sys.modules[module], pool), methods)
        _wrap_processes(*map(sys.modules.get, ("concurrent.futures.process", "multiprocessing.pool")))


@functools.cache
def _wrap_pool(pool: type, methods: Sequence[str]) -> None:
    for name in methods:
        setattr(pool, name, _wrap(getattr(pool, name)))


def _wrap(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def submit(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if args:
            args = carry(args[0]), *args[1:]
        elif "func" in kwargs:  # As a pool names it.
            kwargs["func"] = carry(kwargs["func"])
        return original(self, *args, **kwargs)

    return submit


def _wrap_processes(futures: Any, pools: Any) -> None:
    """Wrap the pools of those modules that are imported."""
    if futures is not None:
        _wrap_executor(futures.ProcessPoolExecutor)
    if pools is not None:
        _wrap_process_pool(pools.Pool, pools.ThreadPool)


@functools.cache
def _wrap_executor(executor: type) -> None:
    from ztrace.middleware.process_pools import wrap_executor  # Most programs have no pool of processes.

    wrap_executor(executor)


@functools.cache
def _wrap_process_pool(pool: type, thread_pool: type) -> None:
    from ztrace.middleware.process_pools import wrap_pool

    wrap_pool(pool, thread_pool)
