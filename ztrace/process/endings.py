"""Endings of child processes that run no exit handlers: multiprocessing's, and those of billiard, Celery's
copy.

Both run multiprocessing's finalizers at the end of a process. billiard's pool ends its workers by `os._exit`
instead, after a callback.
"""

import sys
from collections.abc import Callable
from typing import Any

from ztrace.native import getpid

#: Timeout of the delivery at the end of a child.
_TIMEOUT_S = 2.0
#: multiprocessing, and the copy of it that serializes by dill.
_PACKAGES = ("multiprocessing", "multiprocess")
#: Priority among the finalizers: those of the program's own come first.
_PRIORITY = 0


def close_at_end(close: Callable[[float], object]) -> None:
    """Register a function to call with a timeout when this process, a child of such a package, ends."""
    pid = getpid()

    def end() -> None:
        if getpid() == pid:
            close(_TIMEOUT_S)

    for package in _PACKAGES:
        util: Any = sys.modules.get(f"{package}.util")
        process: Any = sys.modules.get(f"{package}.process")
        if util is None or process is None:
            continue
        # billiard sets the current process of multiprocessing too, but no `parent_process`.
        current = process.current_process()
        if getattr(current, "_parent_pid", None) is not None:
            util.Finalize(None, end, exitpriority=_PRIORITY)
            _close_before_exit(getattr(current, "_target", None), end)


def _close_before_exit(worker: Any, end: Callable[[], None]) -> None:
    """Register a function that a worker of billiard's pool calls after its own ``on_exit``."""
    pool: Any = sys.modules.get("billiard.pool")
    if pool is None or not isinstance(worker, pool.Worker):
        return
    before = worker.on_exit

    def on_exit(pid: int, code: int) -> None:
        try:
            if before is not None:
                before(pid, code)
        finally:
            end()

    worker.on_exit = on_exit
