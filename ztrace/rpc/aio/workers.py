"""Threads that run plain functions of a server.

Unlike those of `concurrent.futures`, they are daemons: a function that never returns does not keep a process
from ending, long after its caller was told so.
"""

import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

#: Function and its arguments; None ends a thread.
Work = tuple[Callable[..., object], tuple[Any, ...]]

_log = logging.getLogger(__name__)


class Workers:
    """Threads that start as they are needed, up to a number.

    Args:
        size: most functions that run at once.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._works: SimpleQueue[Work | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._started = 0
        self._closed = False

    def submit(self, function: Callable[..., object], *arguments: Any) -> None:
        """Run a function in a thread, once one is free; one thread alone may call this."""
        if self._closed:
            return
        self._works.put((function, arguments))
        if not self._idle.acquire(blocking=False) and self._started < self._size:
            self._started += 1
            threading.Thread(target=self._run, name=f"ztrace-rpc-{self._started}", daemon=True).start()

    def close(self) -> None:
        """Discard what has not started, and end the threads once their functions have returned."""
        self._closed = True
        while not self._works.empty():
            self._works.get()
        for _ in range(self._started):
            self._works.put(None)

    def _run(self) -> None:
        while True:
            try:
                work = self._works.get(block=False)
            except Empty:
                self._idle.release()
                work = self._works.get()
            if work is None:
                return
            try:
                work[0](*work[1])
            except BaseException:
                _log.exception("a generator of a served method could not be closed")
            del work
