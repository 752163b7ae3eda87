"""Check for the resources that libzmq needs, since it aborts the process where they are short.

libzmq asserts that threads can be started and descriptors opened while it makes a context. No trace is worth
an abort: threads, descriptors and memory are acquired and released first, a few more than libzmq takes.
Another thread of the program may still take the last ones in between.

Source: libzmq 4.3.5, src/thread.cpp:241, src/epoll.cpp:38.
"""

import mmap
import os
import resource

from ztrace import diagnostics
from ztrace.native import allocate_lock, get_native_id, monotonic, sleep, start_new_thread

#: Reason under which each attempt that has to be repeated is counted.
SHORTAGE = "shortage"
#: A context has an I/O thread and a reaper.
_THREADS = 3
#: Pipes: a context with one connected socket opens 7 descriptors.
_PIPES = 6
#: Memory of a thread's stack where its limit is infinite, and memory beside the stacks.
_STACK_BYTES, _SPARE_BYTES = 8 << 20, 4 << 20
#: Time for the threads to be gone from the kernel's count.
_TIMEOUT_S = 1.0
_GLANCE_S = 0.0005
#: Where Linux lists the threads, each until it is no longer counted; and a pause where there is no such list.
_TASKS = "/proc/self/task"
_BLIND_S = 0.01


class Shortage(Exception):
    """The process lacks threads, descriptors or memory, and may have some later."""


def note(shortage: Shortage) -> None:
    """Count a shortage, and warn of the first."""
    first = SHORTAGE not in diagnostics.counts
    diagnostics.count(SHORTAGE)
    if first:
        diagnostics.warn(f"{shortage}: spans wait in memory, and ztrace tries again until they can be sent")


def probe() -> None:
    """Check that a ZeroMQ context can be made now.

    Raises:
        Shortage: it cannot.
    """
    try:
        _probe_descriptors()
    except OSError as error:
        raise Shortage(f"too few file descriptors are left ({error.strerror})") from error
    try:
        _probe_memory()
    except OSError as error:
        raise Shortage(f"too little memory is left ({error.strerror})") from error
    try:
        _probe_threads()
    except RuntimeError as error:
        if "shutdown" in str(error):
            return  # Python 3.12.0 and 3.12.1 start no thread once the main thread has ended; libzmq does.
        raise Shortage(f"too few threads are left ({error})") from error


def _probe_descriptors() -> None:
    descriptors: list[int] = []
    try:
        for _ in range(_PIPES):
            descriptors += os.pipe()
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _probe_memory() -> None:
    limit = resource.getrlimit(resource.RLIMIT_STACK)[0]
    stack = _STACK_BYTES if limit == resource.RLIM_INFINITY else limit
    size = _THREADS * stack + _SPARE_BYTES
    mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()


def _probe_threads() -> None:
    """Start threads that end at once, and wait until the kernel counts them no longer."""
    gate = allocate_lock()
    ids: list[int] = []

    def wait() -> None:
        ids.append(get_native_id())
        with gate:
            pass

    started = 0
    gate.acquire()
    try:
        for _ in range(_THREADS):
            start_new_thread(wait, ())
            started += 1
    finally:
        gate.release()
        deadline_s = monotonic() + _TIMEOUT_S
        while len(ids) < started or any(map(_is_running, ids)):
            if monotonic() > deadline_s:
                raise RuntimeError("threads do not end")
            sleep(_GLANCE_S)
        if not os.path.isdir(_TASKS):
            sleep(_BLIND_S)


def _is_running(native_id: int) -> bool:
    return os.path.exists(f"{_TASKS}/{native_id}")
