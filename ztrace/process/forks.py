"""Detection of forked children in which no hook of Python's has run.

`os.register_at_fork` covers forks by Python. Servers written in C, uWSGI for one, fork by themselves, and
their children would continue as the parent's publisher. Linux can clear a page of memory in each child
(``MADV_WIPEONFORK``), so one byte shows on which side of a fork a span is, without a system call.

Source: madvise(2); Linux 4.14.
"""

import mmap
import sys

from ztrace.context import get_current
from ztrace.interpreter.interrupts import is_interrupt
from ztrace.native import getpid

#: Advice of madvise(2) that `mmap` has no name for.
_MADV_WIPEONFORK = 18


def mark_process() -> object:
    """Return an object that is true in this process, and false in children that are forked from it.

    The object is a page of memory, or without such pages a comparison of process ids.
    """
    return _mark_page() or _ProcessId()


def _mark_page() -> object | None:
    """Return the first byte of a page that forks clear, as a number of C: its truth takes 5 to 10 ns."""
    try:
        from _ctypes import _SimpleCData  # All of ctypes makes a callback, which hardened systems refuse.
    except ImportError:
        return None
    if sys.platform != "linux":
        return None
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        page.madvise(_MADV_WIPEONFORK)
    except OSError as error:
        page.close()
        if is_interrupt(error):
            raise
        return None  # An older kernel.
    page[0] = 1

    class Byte(_SimpleCData):  # type: ignore[type-arg]
        _type_ = "B"

    return Byte.from_buffer(page)


class _ProcessId:
    """Mark that reads the process id, but only where no span is current: the system call is a span's cost."""

    def __init__(self) -> None:
        self._pid = getpid()

    def __bool__(self) -> bool:
        return get_current() is not None or getpid() == self._pid
