"""Garbage collection, held back while a thread of ztrace's is awake: it belongs to the program's threads.

Python collects in the thread that happens to allocate the object which is one too many, and runs finalizers
there. Some objects have to die in the thread that made them: Tcl aborts the process, sqlite3 raises. So the
first threshold is raised while such a thread is awake, by more than it allocates, and is the program's again
while all of them sleep; what the program allocates meanwhile is collected a little later. The sleep and the
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
    """Thresholds of the program, and those while ztrace's threads are awake; shared by these threads."""

    def __init__(self) -> None:
        #: Thresholds of the program, and the raised ones; the same where nothing is collected.
        self._own: _Thresholds | None = None
        self._raised: _Thresholds | None = None
        self._awake = 0

    def hold(self) -> None:
        """Begin to hold the collection back, as a thread starts."""
        self._awake += 1
        self._learn(gc.get_threshold())
        self._raise()

    def sleep(self, wait: Callable[..., Any], *arguments: object) -> None:
        """Call a function of C that waits, with the program's thresholds meanwhile."""
        # Thresholds that the program has just set are its own from now on.
        own, raised = self._learn(gc.get_threshold())
        self._awake -= 1
        steps: tuple[Callable[[], Any], ...] = (
            partial(gc.set_threshold, *(raised if self._awake else own)),
            partial(wait, *arguments),
            gc.get_threshold,
            partial(gc.set_threshold, *raised),
        )
        try:
            seen = list(map(_call, steps))[2]
        finally:
            self._awake += 1
        if self._learn(seen) != (own, raised):
            self._raise()

    def release(self) -> None:
        """Restore the program's thresholds once the last thread ends."""
        self._awake -= 1
        if self._awake <= 0:
            self.abandon()

    def abandon(self) -> None:
        """Restore the program's thresholds in a forked child, which has no such thread."""
        own, raised = self._own, self._raised
        self._own = self._raised = None
        self._awake = 0
        if own is not None and gc.get_threshold() == raised:
            gc.set_threshold(*own)

    def _learn(self, seen: _Thresholds) -> tuple[_Thresholds, _Thresholds]:
        """Return the program's thresholds and the raised ones, given those that are set now.

        A first threshold of 0, with which nothing is collected, is not raised.
        """
        own, raised = self._own, self._raised
        if own is None or raised is None or seen not in (own, raised):
            own = raised = seen
            if seen[0]:
                raised = (seen[0] + _RAISE, seen[1], seen[2])
            self._own, self._raised = own, raised
        return own, raised

    def _raise(self) -> None:
        if self._raised is not None:
            gc.set_threshold(*self._raised)
