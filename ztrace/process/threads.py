"""Threads of ztrace's own, which take none of the program's signals."""

import signal
from collections.abc import Callable

from ztrace.interpreter.interrupts import is_interrupt
from ztrace.native import start_new_thread
from ztrace.process.probing import Shortage

#: Signals that a thread brings about itself, by an error.
_OWN = {
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGSEGV,
    signal.SIGSYS,
    signal.SIGTRAP,
}


def start_thread(run: Callable[[], object]) -> None:
    """Start a thread that blocks the program's signals, as do the threads that it starts.

    The kernel may give a signal to any thread that does not block it, and only in a thread of the program's
    does a signal interrupt a wait of the program.

    Raises:
        Shortage: no thread can be started now.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _OWN)
        start_new_thread(run, ())
    except RuntimeError as error:
        if is_interrupt(error):
            raise
        raise Shortage(f"no thread can be started ({error})") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
