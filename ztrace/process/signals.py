"""SIGTERM to a program that has no handler for it: deliver the remaining spans, then end as it would have.

One idea: nothing shows that there is a handler here. The exit status, and the effect of a second SIGTERM, are
those of a program without ztrace; a program that has a handler, sets one later, or ignores the signal, keeps
what it has.

Python runs a handler in the main thread, between two instructions. A signal that arrives between the last of
them and a system call that waits would be handled when that call returns, if ever. The program would have
ended without ztrace, so the publisher's thread hears of the signal as well (`nudge`), and if the handler does
not begin, that thread interrupts the main one.
"""

import atexit
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from ztrace.interpreter.interrupts import is_interrupt
from ztrace.native import get_ident, getpid, monotonic
from ztrace.process.notices import Notices

#: Time for the handler to begin.
_PATIENCE_S = 0.05
_SIGTERM_BIT = 1 << (signal.SIGTERM - 1)

_deliver: Callable[[], None] | None = None
#: The main thread, once the handler has been set in this process.
_main = 0
#: Notices of SIGTERM, and the time of one for which the handler has not begun yet.
_notices: Notices | None = None
#: Set when the interpreter exits
_exiting = False
_came_s = 0.0
#: Signals blocked before a fork, by thread.
_masks: dict[int, set[int]] = {}


def deliver_on_sigterm(deliver: Callable[[], None]) -> None:
    """Register a function that an unhandled SIGTERM calls before it ends the process.

    Args:
        deliver: must return soon; it is called anywhere in the main thread, under gevent in the hub too.
    """
    global _deliver
    _deliver = deliver
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
    atexit.register(_stop_listening, for_good=True)
    if _set_handler() and "gevent" in sys.modules:
        _listen()


def arm() -> None:
    """Set the handler unless it is set, and listen, before a thread starts that calls `nudge`.

    Where gevent is loaded, only a handler that has just been set is listened to: the event loop may have
    replaced an older one, which Python does not know, and would be called twice.
    """
    if _set_handler() or (_main and "gevent" not in sys.modules):
        _listen()


def nudge() -> None:
    """Ensure that the handler begins: called again and again by a thread that is not the main thread."""
    global _came_s
    notices = _notices
    if notices is None:
        return
    if notices.take():
        _came_s = _came_s or monotonic()
    if _came_s and monotonic() - _came_s > _PATIENCE_S:
        _came_s = 0.0
        if signal.getsignal(signal.SIGTERM) is _handle:
            signal.pthread_kill(_main, signal.SIGTERM)


def _set_handler() -> bool:
    """Set the handler, if this is the main thread and SIGTERM would end the process; return success."""
    global _main
    if _deliver is None or _main or not _is_unhandled():
        return False
    try:
        signal.signal(signal.SIGTERM, _handle)
    except ValueError as error:
        if is_interrupt(error):
            raise
        return False  # Not the main thread.
    _main = get_ident()
    return True


def _listen() -> None:
    global _notices, _came_s
    if _notices is None and not _exiting:
        _came_s = 0.0
        try:
            _notices = Notices(signal.SIGTERM)
        except OSError as error:
            if is_interrupt(error):
                raise
            return  # No descriptors: the handler is there nevertheless.


def _stop_listening(*, for_good: bool = False) -> None:
    global _notices, _exiting
    _exiting = _exiting or for_good  # A publisher that starts later could not release its notices.
    notices, _notices = _notices, None
    if notices is not None:
        notices.close()


def _handle(number: int, frame: FrameType | None) -> None:
    if getpid() == 1:
        return  # The kernel would not have ended this one either.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # First: the next one does not wait.
    try:
        if _deliver is not None:
            _deliver()
    finally:
        os.kill(getpid(), signal.SIGTERM)


def _is_unhandled() -> bool:
    """Return whether SIGTERM would end the process, as far as the kernel knows: libev does not ask Python."""
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL or getpid() == 1:
        return False
    try:
        with open("/proc/self/status", "rb") as lines:
            status = dict(line.split(b":", 1) for line in lines if line.startswith((b"SigIgn", b"SigCgt")))
        return not (int(status[b"SigIgn"], 16) | int(status[b"SigCgt"], 16)) & _SIGTERM_BIT
    except (OSError, KeyError, ValueError) as error:
        if is_interrupt(error):
            raise
        return "gevent" not in sys.modules


def _before_fork() -> None:
    if _main:
        # A child would forget one that comes before it has the default back.
        _masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


def _after_fork_in_parent() -> None:
    mask = _masks.pop(get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork_in_child() -> None:
    """Restore the default in a forked child: until it has spans, there is nothing to deliver."""
    global _deliver, _main
    if signal.getsignal(signal.SIGTERM) is _handle:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    elif _main:
        _deliver = None  # The program has replaced the handler, and its children keep what it has set.
    _main = 0
    _stop_listening()
    _after_fork_in_parent()
