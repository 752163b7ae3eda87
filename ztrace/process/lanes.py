"""Lanes: numbers of the threads, greenlets and asyncio tasks in which spans run.

One idea: who runs a span matters only where spans of one parent run beside each other, as in a gather: those
of one lane follow each other there. A parent that starts a child while another is open knows so, and from
then on its children, and it itself, are given their numbers as they end. Of two that overlap, one ends after
the other has started, so both have one. Nothing else costs anything, and nothing here keeps an owner alive:
gevent ends a greenlet that is forgotten.
"""

import sys
from itertools import count
from typing import Any
from weakref import ref

from ztrace.native import new_local

#: Greenlets and tasks whose numbers are kept; with more, all get new ones.
MAX_KEPT = 10_000

_next_number = count(1).__next__
#: Numbers by identity, each with a reference that shows whether the identity is still the same owner's.
_numbers: dict[int, tuple[ref[Any], int]] = {}
_of_thread = new_local()


def number_lane() -> int | None:
    """Return the number of the running task, greenlet or thread, which no other one of the process has.

    Returns:
        None for a task of a class without weak references, of which another may take the place.
    """
    owner = _find_task() or _find_greenlet()
    if owner is None:
        number: int | None = getattr(_of_thread, "number", None)
        if number is None:
            number = _of_thread.number = _next_number()
        return number
    known = _numbers.get(id(owner))
    if known is not None and known[0]() is owner:
        return known[1]
    try:
        entry = ref(owner), _next_number()
    except TypeError:
        return None
    if len(_numbers) >= MAX_KEPT:
        _numbers.clear()
    _numbers[id(owner)] = entry
    return entry[1]


def _find_task() -> Any:
    """Return the running task, None outside of asyncio."""
    loops = sys.modules.get("_asyncio") if "asyncio.tasks" in sys.modules else None
    loop = None if loops is None else loops._get_running_loop()
    if loops is None or loop is None:
        return None
    # Python 3.11 has the mapping alone.
    current = getattr(loops, "current_task", None)
    return loops._current_tasks.get(loop) if current is None else current(loop)


def _find_greenlet() -> Any:
    """Return the running greenlet, None in programs that run none."""
    package = sys.modules.get("greenlet")
    if package is None or not has_greenlets():
        return None
    return package.getcurrent()


def has_greenlets() -> bool:
    """Return whether a package is loaded that runs greenlets of its own, one thread's after the other."""
    # No generator: Python 3.12 may lose an exception that a tracer raises in one within a span's end.
    return "gevent" in sys.modules or "eventlet" in sys.modules
