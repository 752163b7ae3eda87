"""Exceptions raised at a chosen place of ztrace's code, as signals, debuggers and timeouts raise them."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from greenlet import getcurrent, greenlet

import ztrace

#: Folder whose code is interrupted.
FOLDER = os.path.dirname(ztrace.__file__)
#: Events at which to raise. Python 3.13 traces the instructions of some calls alone.
EVENTS = ["opcode", "line"] if sys.version_info < (3, 13) else ["line"]


class Limit(Exception):
    """A soft time limit, as signal handlers raise them."""


class Kill(BaseException):
    """A hard limit."""


class Interrupter:
    """Trace function that raises within ztrace's code, at the event of a given number.

    Attributes:
        raised: whether it has raised.
        place: function and line where it raised.
        greenlet: that was interrupted.
    """

    def __init__(self, event: str, number: int, error: type[BaseException]) -> None:
        self._event = event
        self._left = number
        self._error = error
        self.raised = False
        self.place = ""
        self.greenlet: greenlet | None = None

    def __call__(self, frame: FrameType, event: str, _: object) -> "Interrupter | None":
        """Raise if it is the event; trace ztrace's frames alone."""
        if event == "call":
            if not frame.f_code.co_filename.startswith(FOLDER):
                return None
            frame.f_trace_opcodes, frame.f_trace_lines = self._event == "opcode", self._event == "line"
        elif event == self._event:
            self._count(frame)
        return self

    def _count(self, frame: FrameType) -> None:
        self._left -= 1
        if self._left < 0:
            self.raised = True
            self.place = f"{frame.f_code.co_qualname}:{frame.f_lineno}"
            self.greenlet = getcurrent()
            raise self._error

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Trace the block, and put back the trace function of before, as of a debugger or of coverage."""
        before = sys.gettrace()
        sys._getframe().f_trace_opcodes = True  # Or some versions trace no instructions at all.
        sys.settrace(self)
        try:
            yield
        finally:
            sys.settrace(before)


#: Events of a profile function that are where signals are handled: at the entry of a function, and after a
#: call into C. Python 3.11 tells of a call before the entry, where no ``try`` statement applies.
BOUNDARIES = ("call", "c_return") if sys.version_info >= (3, 12) else ("c_return",)


class BoundaryInterrupter(Interrupter):
    """Profile function that raises within ztrace's code, where signals are handled."""

    def __init__(self, number: int, error: type[BaseException]) -> None:
        super().__init__("boundary", number, error)

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """Raise if it is the event."""
        if event in BOUNDARIES and frame.f_code.co_filename.startswith(FOLDER):
            self._count(frame)

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Profile the block."""
        before = sys.getprofile()
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(before)


def interrupt(scenario: Callable[[], object], interrupter: Interrupter) -> BaseException | None:
    """Run a scenario, and return the exception that the program got."""
    return next(_run(scenario, interrupter))


def _run(scenario: Callable[[], object], interrupter: Interrupter) -> Iterator[BaseException | None]:
    """Run a scenario within a generator, whose handled exceptions are its own.

    A trace function that raises at the first or last instruction of an ``except`` clause (PUSH_EXC_INFO,
    POP_EXCEPT) leaves the exception of the clause as the one being handled: the compiler's exception table
    takes it that these two cannot raise. All later exceptions would have it as their context.
    """
    caught = None
    try:
        with interrupter.tracing():
            scenario()
    except BaseException as error:
        caught = error
    yield caught
