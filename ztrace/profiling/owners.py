"""Owners of spans: the greenlet, asyncio task or thread whose code runs within a span.

One idea: a span keeps the number of its thread, and only while a sampler runs also a weak reference to its
greenlet or task. A strong one would change the program: gevent ends a greenlet that is forgotten. The weak
reference costs 0.2 µs a span, the number 0.04.
"""

import sys
from collections.abc import Callable
from typing import Any
from weakref import ref

from ztrace import spans
from ztrace.native import get_ident, get_native_id
from ztrace.process.lanes import has_greenlets

#: Thread, or a greenlet or task and its thread, as a span has it; the references to one object are the same.
Owner = int | tuple[ref[Any], int]


class Greenlets:
    """Functions of the greenlet package, as C gives them, whatever a subclass overrides.

    Attributes:
        kind: the class of greenlets.
        current: returns the running greenlet of the calling thread.
        frame_of: returns the innermost frame of a parked greenlet, None of a running one.
        is_active: returns whether a greenlet has started and not ended.
    """

    def __init__(self, package: Any) -> None:
        self.kind: type = package.greenlet
        self.current: Callable[[], Any] = package.getcurrent
        self.frame_of: Callable[[Any], Any] = package.greenlet.gr_frame.__get__
        self.is_active: Callable[[Any], bool] = package.greenlet.__bool__


class Tasks:
    """Functions of asyncio, as C gives them.

    Attributes:
        running_loop: returns the loop that runs in the calling thread, or None.
        current: returns the running task of a loop, or None.
    """

    def __init__(self, package: Any) -> None:
        self.running_loop: Callable[[], Any] = package._get_running_loop
        # Python 3.11 has the mapping alone.
        self.current: Callable[[Any], Any] = getattr(package, "current_task", None) or (
            package._current_tasks.get
        )


greenlets: Greenlets | None = None
tasks: Tasks | None = None
#: Numbers that the system gives the threads in which spans have started, for their CPU clocks.
native_ids: dict[int, int] = {}
#: Threads in which spans of tasks have started.
loop_threads: set[int] = set()
#: Samplers that run.
_watchers = 0


def watch() -> None:
    """Give spans that start from now on their owners; `unwatch` ends it."""
    global _watchers
    _watchers += 1
    look_for_packages()
    native_ids.clear()
    loop_threads.clear()
    threading = sys.modules.get("threading")
    if threading is not None:
        for thread in list(getattr(threading, "_active", {}).values()):
            if type(thread.ident) is int and type(thread.native_id) is int:
                native_ids[thread.ident] = thread.native_id
    spans.find_owner = find_owner


def unwatch() -> None:
    """Give spans the number of their thread alone, once the last sampler ends."""
    global _watchers
    _watchers -= 1
    if _watchers <= 0:
        spans.find_owner = get_ident


def look_for_packages() -> None:
    """Find out whether the program has tasks and greenlets, which it may import at any time."""
    global greenlets, tasks
    try:
        if tasks is None and "asyncio.tasks" in sys.modules and "_asyncio" in sys.modules:
            tasks = Tasks(sys.modules["_asyncio"])
        if greenlets is None and "greenlet" in sys.modules and has_greenlets():
            greenlets = Greenlets(sys.modules["greenlet"])
    except (AttributeError, KeyError):
        return  # Another thread is importing a package, which is complete at a later look.


def find_owner() -> Owner:
    """Return the owner of a span that starts in the calling code."""
    thread = get_ident()
    if thread not in native_ids:
        native_ids[thread] = get_native_id()
    try:
        if tasks is not None:
            loop = tasks.running_loop()
            task = None if loop is None else tasks.current(loop)
            if task is not None:
                loop_threads.add(thread)
                return ref(task), thread
        if greenlets is not None:
            return ref(greenlets.current()), thread
    except TypeError:  # A task of a class without weak references.
        pass
    return thread
