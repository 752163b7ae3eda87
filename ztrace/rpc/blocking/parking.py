"""Waits of a caller: of its thread, or of its greenlet where gevent runs.

A program that gevent has patched waits cooperatively by itself. In one that uses gevent unpatched, a thread
with a hub must not block: its greenlets wait by gevent's own means.
"""

import os
import select
import sys
import threading
from typing import Any, Final, Protocol

#: Events of a descriptor: readable.
_READABLE: Final = select.POLLIN


class Opening(Protocol):
    """What resumes a caller that waits."""

    def open(self) -> None:
        """Let the caller pass."""


class Gate(Opening, Protocol):
    """Gate that one caller waits at and another opens, once."""

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until the gate is open; return False on timeout."""
        ...


class Poller(Protocol):
    """Set of descriptors, any of which may become readable."""

    def wait(self, timeout_s: float) -> list[int]:
        """Wait until a descriptor is readable, or for the timeout; return those that are."""
        ...


class _ThreadGate:
    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def open(self) -> None:
        if self._lock.locked():
            self._lock.release()

    def wait(self, timeout_s: float | None) -> bool:
        return self._lock.acquire(timeout=-1 if timeout_s is None else max(0.0, timeout_s))


class _GreenGate:
    __slots__ = ("_event",)

    def __init__(self) -> None:
        from gevent.event import Event

        self._event = Event()

    def open(self) -> None:
        self._event.set()

    def wait(self, timeout_s: float | None) -> bool:
        return bool(self._event.wait(timeout_s))


class Waker:
    """Gate of the caller that polls: opening it makes its descriptor readable.

    Attributes:
        descriptor: for pollers; `close_again` is to be called once it is readable.
    """

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def open(self) -> None:
        """Wake up the caller that polls, or the next one."""
        os.eventfd_write(self.descriptor, 1)

    def close_again(self) -> None:
        """Make the descriptor unreadable."""
        try:
            os.eventfd_read(self.descriptor)
        except BlockingIOError:
            return

    def __del__(self) -> None:
        os.close(self.descriptor)


class _Poller:
    """Poller of the module `select`, which may be gevent's."""

    def __init__(self, poll: Any, descriptors: list[int]) -> None:
        for descriptor in descriptors:
            poll.register(descriptor, _READABLE)
        self._poll = poll.poll

    def wait(self, timeout_s: float) -> list[int]:
        return [descriptor for descriptor, _ in self._poll(max(0.0, timeout_s) * 1000)]


def is_green() -> bool:
    """Return whether this thread has a hub of gevent and its functions are not patched."""
    gevent = sys.modules.get("gevent")
    if gevent is None:
        return False
    from gevent._hub_local import get_hub_if_exists
    from gevent.monkey import is_module_patched

    return get_hub_if_exists() is not None and not is_module_patched("threading")


def make_gate() -> Gate:
    """Return a closed gate for the current caller."""
    return _GreenGate() if is_green() else _ThreadGate()


def make_poller(descriptors: list[int]) -> Poller:
    """Return a poller for the current caller."""
    if is_green():
        from gevent.select import poll

        return _Poller(poll(), descriptors)
    return _Poller(select.poll(), descriptors)
