"""Detection of forked children in which no hook of Python's has run.

`os.register_at_fork` covers forks by Python. Servers written in C, uWSGI for one, fork by themselves, and
their children would go on as the parent's publisher. Linux can clear a page of memory in each child
(``MADV_WIPEONFORK``), so a read of one byte, without a system call, shows on which side of a fork a span is.

Source: madvise(2); Linux 4.14.
"""

import mmap
import sys

from ztrace.context import Mark, get_current
from ztrace.native import getpid

#: Advice of madvise(2) that `mmap` has no name for.
_MADV_WIPEONFORK = 18


def mark_process() -> Mark:
    """Return a mark of this process: a page of memory, or without such pages a comparison of process ids."""
    if sys.platform == "linux":
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        try:
            page.madvise(_MADV_WIPEONFORK)
        except OSError:  # An older kernel.
            page.close()
        else:
            page[0] = 1
            return page
    return _ProcessId()


class _ProcessId:
    """Mark that reads the process id, but only where no span is current: the system call is a span's cost."""

    def __init__(self) -> None:
        self._pid = getpid()

    def __getitem__(self, index: int, /) -> int:
        return get_current() is not None or getpid() == self._pid
