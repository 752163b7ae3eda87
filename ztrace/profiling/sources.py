"""The source of stacks: what the owners of spans do in one moment.

One idea: a thread of its own sees everything without the program's help. A parked greenlet has its frames, a
waiting task its chain of coroutines, and the running one of a thread is the one that has none of its own: its
frames are the thread's. So nothing is paid for a switch from one to the other.

No frame outlives a `look`: frames hold the program's local variables, and those have to end when the
program's functions do, in its own threads.
"""

import functools
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import compress, count, repeat
from operator import call, ge
from types import FrameType
from typing import Any, Protocol
from weakref import ref

from ztrace.context import current_in
from ztrace.interpreter.opcodes import opcode_of
from ztrace.native import clock_gettime_ns, get_ident
from ztrace.profiling import owners
from ztrace.profiling.owners import Owner
from ztrace.profiling.stacks import Stacks

#: Standing of an owner: parked by its scheduler; its thread runs its code; its thread blocks in it; or one of
#: the last two, which `Source.has_run` tells a moment later.
PARKED, ACTIVE, BLOCKED, UNSURE = range(4)
#: Shares of the time since the last look in which a thread blocks, as waiting threads wake up now and then,
#: and beyond which it does not.
_BLOCKED_SHARE, _ACTIVE_SHARE = 0.02, 0.9
#: Time that a thread runs in the moment after a look unless it blocks.
_MOMENT_NS = 50_000
#: Instructions at which a thread leaves the interpreter to others, and blocks in none.
_PAUSES = (
    "JUMP_BACKWARD",
    "RESUME",
    *(f"POP_JUMP_BACKWARD_IF_{what}" for what in ("TRUE", "FALSE", "NONE", "NOT_NONE")),
)
#: Files of the functions that run a loop of tasks, and of those that run one of greenlets.
_LOOPS = ("asyncio/base_events.py", "asyncio/runners.py")
_HUBS = ("gevent/hub.py", "eventlet/hubs/hub.py")


#: One owner in one moment: the number of its thread, its standing, the place of its stack, for the source's
#: own use, and whether other code runs on the thread, of a PARKED one. Plain, for there are many.
View = tuple[int, int, Any, bool]


class Source(Protocol):
    """Source of stacks; the tests have a scripted one, and later Pythons sample from outside."""

    def look(self, owners: Sequence[Owner], passed_ns: int) -> Sequence[View | None]:
        """Return a view of each owner; None of one that has ended or cannot be seen.

        Args:
            owners: each once.
            passed_ns: time since the last look.
        """
        ...

    def find_children(self) -> Sequence[tuple[object, Owner, View]]:
        """Return views of running code that the last look did not ask for, with the span that it inherits."""
        ...

    def read(self, owner: Owner, view: View, stacks: Stacks) -> int:
        """Return the number of an owner's stack."""
        ...

    def has_run(self, thread: int) -> bool:
        """Return whether a thread has run since the last look, a moment ago."""
        ...

    def let_go(self) -> list[Any]:
        """Drop the frames of the last look, and return the objects that only this source still holds."""
        ...

    def forget(self) -> None:
        """Forget the numbers of stacks: there is a new table."""
        ...


class Interpreter:
    """Stacks of this process, read by a thread of it."""

    def __init__(self) -> None:
        #: Objects of the program that are in use until `let_go`.
        self._held: list[Any] = []
        self._frames: dict[int, FrameType] = {}
        #: CPU time of each thread at the last look, and its standing.
        self._clocks: dict[int, int] = {}
        self._standings: dict[int, int] = {}
        #: Whether each thread runs other code than its loop.
        self._busy: dict[int, bool] = {}
        self._passed_ns = 0
        #: Running tasks of the threads whose tasks were looked at.
        self._tasks: dict[int, Any] = {}
        #: Stacks of parked owners and blocked threads, by owner, with what shows that they have not moved.
        self._known: dict[int, tuple[Any, int]] = {}

    def look(self, owners: Sequence[Owner], passed_ns: int) -> Sequence[View | None]:
        """Return a view of each owner; see `Source`."""
        self._passed_ns = passed_ns
        self._standings.clear()
        self._busy.clear()
        self._tasks.clear()
        self._frames = sys._current_frames()
        self._frames.pop(get_ident(), None)
        return list(map(self._view, owners))

    def _view(self, owner: Owner) -> View | None:
        if type(owner) is int:
            # Before the sampler's start, spans of greenlets and tasks had the number of their thread too.
            if owners.greenlets is not None or (owners.tasks is not None and self._is_loops(owner)):
                return None
            return self._view_running(owner, None)
        reference, thread = owner  # type: ignore[misc]
        target = reference()
        if target is None:
            return None
        self._held.append(target)
        greenlets = owners.greenlets
        if greenlets is not None and issubclass(type(target), greenlets.kind):
            frame = greenlets.frame_of(target)
            if frame is not None:
                self._held.append(frame)
                return thread, PARKED, frame, self._is_busy(thread)
            return self._view_running(thread, None) if greenlets.is_active(target) else None
        return self._view_task(target, thread)

    def _is_busy(self, thread: int) -> bool:
        """Return whether a thread runs other code than its loop of greenlets."""
        busy = self._busy.get(thread)
        if busy is None:
            frame = self._frames.get(thread)
            busy = frame is not None and not frame.f_code.co_filename.endswith(_HUBS)
            self._busy[thread] = busy
        return busy

    def _is_loops(self, thread: int) -> bool:
        """Return whether a thread runs an asyncio loop."""
        if thread in owners.loop_threads:
            return True
        frame = self._frames.get(thread)
        while frame is not None:
            if frame.f_code.co_filename.endswith(_LOOPS):
                return True
            frame = frame.f_back
        return False

    def _view_task(self, task: Any, thread: int) -> View | None:
        if task.done() or owners.tasks is None:
            return None
        coroutine = task.get_coro()
        self._held.append(coroutine)
        current = owners.tasks.current(task.get_loop())
        if current is task:
            outermost = getattr(coroutine, "cr_frame", None)
            self._held.append(outermost)
            return self._view_running(thread, outermost)
        if current is not None:
            self._tasks[thread] = current
        return thread, PARKED, coroutine, current is not None

    def find_children(self) -> Sequence[tuple[object, Owner, View]]:
        """Return views of running tasks that were not looked at; see `Source`.

        Up to Python 3.11, a task does not tell its context.
        """
        children: list[tuple[object, Owner, View]] = []
        for thread, task in self._tasks.items():
            self._held.append(task)
            if thread not in self._standings and hasattr(task, "get_context"):
                view = self._view_task(task, thread)
                if view is not None and view[1] != PARKED:
                    children.append((current_in(task.get_context()), (ref(task), thread), view))
        return children

    def _view_running(self, thread: int, outermost: FrameType | None) -> View | None:
        frame = self._frames.get(thread)
        if frame is None:
            return None
        standing = self._standings.get(thread)
        if standing is None:
            standing = self._standings[thread] = self._find_standing(thread, frame)
        return thread, standing, (frame, outermost), False

    def _find_standing(self, thread: int, frame: FrameType) -> int:
        """Return the standing of a running owner by the CPU clock of its thread; ACTIVE where there is none.

        A thread that waits for the interpreter stands still as one that blocks does, but elsewhere.
        """
        now_ns = _read_cpu_clock(thread)
        if now_ns is None:
            return ACTIVE
        before_ns = self._clocks.get(thread)
        self._clocks[thread] = now_ns
        if frame.f_code.co_code[frame.f_lasti] in _pause_opcodes():
            return ACTIVE
        if before_ns is None:
            return UNSURE
        share = (now_ns - before_ns) / max(1, self._passed_ns)
        if share < _BLOCKED_SHARE:
            return BLOCKED
        return ACTIVE if share > _ACTIVE_SHARE else UNSURE

    def has_run(self, thread: int) -> bool:
        """Return whether a thread has run since the last look; see `Source`."""
        now_ns = _read_cpu_clock(thread)
        if now_ns is None or now_ns - self._clocks.get(thread, now_ns) >= _MOMENT_NS:
            return True
        return _waits_for_core(thread)

    def read(self, owner: Owner, view: View, stacks: Stacks) -> int:
        """Return the number of an owner's stack; see `Source`."""
        _, standing, place, _ = view
        key = owner if type(owner) is int else id(owner[0])  # type: ignore[index]
        outermost = None
        if standing != PARKED:
            frame, outermost = place
            if standing != BLOCKED:
                return stacks.add(frame, outermost)
        elif type(place) is FrameType:
            frame = place
        else:
            return self._read_chain(place, stacks)
        back = frame.f_back
        # The table keeps the code objects alive, so theirs are no others' identities; a frame's may be.
        mark = (
            id(frame),
            frame.f_lasti,
            id(frame.f_code),
            *(() if back is None else (id(back), back.f_lasti, id(back.f_code))),
        )
        known = self._known.get(key)
        if known is not None and known[0] == mark:
            return known[1]
        number = stacks.add(frame, outermost)
        self._known[key] = mark, number
        return number

    def _read_chain(self, coroutine: Any, stacks: Stacks) -> int:
        """Return the number of a waiting task's stack: its coroutines, each awaiting the next."""
        frames: list[FrameType] = []
        while coroutine is not None:
            for frame_name, next_name in _CHAINS:
                frame = getattr(coroutine, frame_name, None)
                if frame is not None:
                    frames.append(frame)
                    coroutine = getattr(coroutine, next_name)
                    break
            else:
                break
        frames.reverse()
        self._held += frames
        return stacks.add_frames(frames)

    def let_go(self) -> list[Any]:
        """Drop the frames of the last look; see `Source`."""
        self._tasks.clear()
        self._held += self._frames.values()
        self._frames = {}
        return let_go_of(self._held, OWN_REFERENCES)

    def forget(self) -> None:
        """Forget the numbers of stacks; see `Source`."""
        self._known.clear()
        self._clocks = {thread: ns for thread, ns in self._clocks.items() if thread in owners.native_ids}


#: Attributes of coroutines, generators and asynchronous generators: the frame, and what they await.
_CHAINS = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await"))


def let_go_of(held: list[Any], references: int) -> list[Any]:
    """Empty a list, and return those of its objects to which there is no other reference.

    All of it is one call of C, between whose parts no other thread can drop its references.

    Args:
        held: the list.
        references: references that an object has here.
    """
    last: list[Any] = []
    are_last = map(ge, repeat(references), map(sys.getrefcount, held))
    steps: tuple[Callable[[], object], ...] = (partial(last.extend, compress(held, are_last)), held.clear)
    list(map(_call, steps))
    return last


def _count_references() -> int:
    """Return how many references `let_go_of` itself has to an object that it examines."""
    return next(number for number in count(1) if let_go_of([object()], number))


_call: Callable[[Callable[[], object]], object] = call
#: References of `let_go_of`, which depend on the version of Python.
OWN_REFERENCES = _count_references()


@functools.cache
def _pause_opcodes() -> frozenset[int]:
    return frozenset(map(opcode_of, _PAUSES))


def _read_cpu_clock(thread: int) -> int | None:
    """Return the CPU time of a thread, None if it has ended or the system has no such clock.

    Source: the kernel's numbers of clocks, ``CPUCLOCK_PERTHREAD | CPUCLOCK_SCHED``, in posix-timers.h.
    """
    native_id = owners.native_ids.get(thread)
    if native_id is None or sys.platform != "linux":
        return None
    try:
        return clock_gettime_ns((~native_id << 3) | 6)
    except OSError:  # Another thread may have its number by now, and is known with its next span.
        owners.native_ids.pop(thread, None)
        return None


def _waits_for_core(thread: int) -> bool:
    """Return whether a thread would run if the machine had a core for it.

    Source: proc(5), ``/proc/pid/task/tid/stat``: the state follows the name in parentheses.
    """
    try:
        descriptor = os.open(f"/proc/self/task/{owners.native_ids[thread]}/stat", os.O_RDONLY)
        try:
            return os.read(descriptor, 256).rpartition(b") ")[2].startswith(b"R")
        finally:
            os.close(descriptor)
    except (OSError, KeyError):
        return False
