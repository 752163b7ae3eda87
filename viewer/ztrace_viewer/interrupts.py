"""Ctrl-C, deferred to the moments at which a command can be stopped.

One idea: Python raises KeyboardInterrupt between any two instructions, also between opening a file and
remembering it. A command that writes files or draws on the terminal therefore defers Ctrl-C, and names the
moments that can be interrupted, such as a blocking read. Once it has been raised, or once the work is done,
Ctrl-C is ignored: the rest takes milliseconds, and an impatient user must not stop the cleanup.

SIGTERM and SIGHUP, which would end the process without any cleanup, are handled alike.
"""

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

_T = TypeVar("_T")


#: Signals that end a command, each with the handler that a process starts with.
_DEFAULTS = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}


class _State:
    """Handler of signals, and its state."""

    def __init__(self, *, is_allowed: bool) -> None:
        self.is_allowed = is_allowed
        self.is_pending = self.is_ignored = False
        self.number = int(signal.SIGINT)
        self.handled: list[signal.Signals] = []

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt where that is allowed, else remember the signal."""
        if not self.is_ignored:
            self.is_pending, self.number = True, number
            if self.is_allowed:
                self.check()

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed."""
        if self.is_pending:
            self.is_pending, self.is_ignored = False, True
            raise KeyboardInterrupt


#: Handler in place: for good after `take_over`, else during the outermost `deferred` block.
_state: _State | None = None


def take_over() -> None:
    """Handle signals from here on to the end of the process, which is announced by `end`.

    Signals that the process was told to ignore stay ignored, as under nohup.
    """
    global _state
    numbers = [number for number in _DEFAULTS if _can_handle(number)]
    if numbers:
        _state = _State(is_allowed=True)
        _state.handled = numbers
        for number in numbers:
            signal.signal(number, _state.handle)


def exit_status() -> int:
    """Return the status of a command that a signal has interrupted, as a shell reports it."""
    return 128 + (signal.SIGINT if _state is None else _state.number)


@contextmanager
def deferred() -> Iterator[None]:
    """Defer Ctrl-C to the next `allowed` block, or to the end of this one.

    Nested blocks end with the outermost. Outside the main thread, and where SIGINT is ignored or has a
    handler of its own, nothing changes.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    global _state
    if _state is not None:
        state = _state
        before, state.is_allowed = state.is_allowed, False
        try:
            yield
        finally:
            state.is_allowed = before
        if before:
            state.check()
    elif _can_handle(signal.SIGINT):
        _state = state = _State(is_allowed=False)
        previous = signal.signal(signal.SIGINT, state.handle)
        try:
            yield
        finally:
            _state = None
            signal.signal(signal.SIGINT, previous)
        state.check()
    else:
        yield


@contextmanager
def allowed() -> Iterator[None]:
    """Allow Ctrl-C in a block: it raises KeyboardInterrupt there, also if it was pressed before.

    Outside a `deferred` block Ctrl-C is allowed anyway, and this does nothing.
    """
    if _state is None:
        yield
        return
    state = _state
    before, state.is_allowed = state.is_allowed, True
    try:
        state.check()
        yield
    finally:
        state.is_allowed = before


def interruptible(items: Iterable[_T]) -> Iterator[_T]:
    """Yield some items; Ctrl-C is allowed while the next one is made, and deferred while it is used."""
    iterator = iter(items)
    while True:
        with allowed():
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


@contextmanager
def ignored() -> Iterator[None]:
    """Ignore Ctrl-C in a block that takes milliseconds and must not stop halfway.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed before the block.
    """
    with deferred():
        before = _state is not None and _state.is_ignored
        ignore()
        try:
            yield
        finally:
            if _state is not None:
                _state.is_ignored = before


def ignore() -> None:
    """Ignore Ctrl-C from here on, to the end of the outermost `deferred` block or, taken over, for good.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed before.
    """
    if _state is not None:
        _state.is_ignored = True  # First: a signal that comes after the check is too late.
        _state.check()


def end() -> None:
    """Ignore Ctrl-C while the interpreter exits: it would print a traceback, or change the exit status."""
    if _state is not None:
        _state.is_ignored = True
        for number in _state.handled:
            signal.signal(number, signal.SIG_IGN)


def _can_handle(number: signal.Signals) -> bool:
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and signal.getsignal(number) == _DEFAULTS[number]
