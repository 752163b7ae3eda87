"""Garbage collection, held back while ztrace's thread is awake: it belongs to the program's threads.

Python collects in the thread that happens to allocate the object which is one too many, and runs finalizers
there. Some objects have to die in the thread that made them: Tcl aborts the process, sqlite3 raises. So the
first threshold is raised while the thread is awake, by more than the thread allocates, and is the program's
again while it sleeps; what the program allocates meanwhile is collected a little later. The sleep and the
changes before and after it are one call of C, between whose parts no collection can begin that a thread of
the program has left to the next one, as Python 3.12 does.

`gc.disable` would do for less code, but a program that disables the collection itself, in the moment in which
ztrace has, would find it enabled again.
"""

import gc
from collections.abc import Callable
from functools import partial
from operator import call
from typing import Any

#: Objects that the thread may allocate while it is awake. Not more: a program that reads its thresholds just
#: then, to set a multiple of them, must not switch the collection off by that.
_RAISE = 10_000

_Thresholds = tuple[int, int, int]
_call: Callable[[Callable[[], Any]], Any] = call


class HeldCollection:
    """Thresholds of the program, and those while ztrace's thread is awake; used by that thread alone."""

    def __init__(self) -> None:
        self._own: _Thresholds | None = None
        self._raised: _Thresholds | None = None

    def hold(self) -> None:
        """Begin to hold the collection back, as the thread starts."""
        self._raise(gc.get_threshold())

    def sleep(self, wait: Callable[..., Any], *arguments: object) -> None:
        """Call a function of C that waits, with the program's thresholds meanwhile."""
        own, raised = self._own, self._raised
        if own is None or raised is None or gc.get_threshold() != raised:
            # Off, or set by the program just now: it stays as it is, and is held from the next time on.
            self._own = self._raised = None
            wait(*arguments)
            self._raise(gc.get_threshold())
            return
        steps: tuple[Callable[[], Any], ...] = (
            partial(gc.set_threshold, *own),
            partial(wait, *arguments),
            gc.get_threshold,
            partial(gc.set_threshold, *raised),
        )
        seen = list(map(_call, steps))[2]
        if seen != own:
            self._raise(seen)

    def release(self) -> None:
        """Restore the program's thresholds: the thread ends, or a forked child has no such thread."""
        own, raised = self._own, self._raised
        self._own = self._raised = None
        if own is not None and gc.get_threshold() == raised:
            gc.set_threshold(*own)

    def _raise(self, own: _Thresholds) -> None:
        """Raise the first threshold, unless it is 0, which means that nothing is collected."""
        if own[0]:
            self._own = own
            self._raised = (own[0] + _RAISE, own[1], own[2])
            gc.set_threshold(*self._raised)
