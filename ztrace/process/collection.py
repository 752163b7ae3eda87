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
from itertools import repeat
from operator import call, itemgetter
from typing import Any

#: Objects that the threads may allocate while they are awake. Not more: a program that reads its thresholds
#: just then, to set a multiple of them, must not switch the collection off by that.
_RAISE = 10_000

_Thresholds = tuple[int, int, int]
_Step = Callable[[], Any]
_call: Callable[[_Step], Any] = call


class HeldCollection:
    """Thresholds of the program, and those while ztrace's threads are awake; shared by these threads."""

    def __init__(self) -> None:
        self._own: _Thresholds | None = None
        #: The raised thresholds; the same where nothing is collected.
        self._raised: _Thresholds | None = None
        #: Functions that set thresholds: the program's, and for each thread that is awake the raised ones.
        self._setters: list[_Step] = []
        #: Calls the last of them, as C does.
        self._set_last: _Step = map(_call, map(itemgetter(-1), repeat(self._setters))).__next__

    def hold(self) -> None:
        """Begin to hold the collection back, as a thread starts."""
        self._setters.append(partial(gc.set_threshold, *self._learn(gc.get_threshold())[1]))
        self._set_last()

    def sleep(self, wait: Callable[..., Any], *arguments: object) -> None:
        """Call a function of C that waits, with the program's thresholds meanwhile."""
        # Thresholds that the program has just set are its own from now on.
        own, raised = self._learn(gc.get_threshold())
        setter = partial(gc.set_threshold, *raised)
        # The answer of `get_threshold` may be the object that is one too many, unless it takes the place in
        # memory of one that has just been freed.
        freed: list[object] = [(*raised,)]
        steps: tuple[_Step, ...] = (
            self._setters.pop,
            self._set_last,
            partial(wait, *arguments),
            partial(self._setters.append, setter),
            freed.clear,
            gc.get_threshold,
            setter,
        )
        try:
            seen = list(map(_call, steps))[5]
        except BaseException:  # The wait was interrupted.
            self._setters.append(setter)
            setter()
            raise
        if seen not in (own, raised):
            self._learn(seen)
            self._set_last()

    def release(self) -> None:
        """Restore the program's thresholds once the last thread ends."""
        self._setters.pop()
        if gc.get_threshold() == self._raised:
            self._set_last()
        if len(self._setters) == 1:
            self._own = self._raised = None

    def abandon(self) -> None:
        """Restore the program's thresholds in a forked child, which has no such thread."""
        own, raised = self._own, self._raised
        self._own = self._raised = None
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
            awake = max(0, len(self._setters) - 1)
            set_own, set_raised = partial(gc.set_threshold, *own), partial(gc.set_threshold, *raised)
            self._setters[:] = [set_own, *awake * [set_raised]]
        return own, raised
