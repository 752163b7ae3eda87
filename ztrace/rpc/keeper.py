"""Thread that sends due heartbeats of clients and servers whose own thread is busy.

A handler that blocks its event loop, or a program that computes between two items of a stream, would
otherwise lose its peers after three periods. One thread serves the whole process; it starts with the first
owner, and a forked child starts its own.
"""

import os
import threading
import time
from typing import Final, Protocol
from weakref import WeakSet

#: Seconds between two looks at the owners.
LOOK_S: Final = 0.1


class Owner(Protocol):
    """Client or server whose heartbeats the keeper may have to send."""

    def keep(self, now_s: float) -> None:
        """Send due heartbeats, if the owner's thread has not turned for a while; thread-safe."""


class _Keeper:
    def __init__(self) -> None:
        self.owners: WeakSet[Owner] = WeakSet()
        self.process_id = os.getpid()
        self.changed = threading.Lock()
        threading.Thread(target=self._run, name="ztrace-rpc-keeper", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(LOOK_S)
            with self.changed:
                owners = list(self.owners)
                if not owners:
                    _forget(self)
                    return
            now_s = time.monotonic()
            for owner in owners:
                owner.keep(now_s)
            del owners


_keeper: _Keeper | None = None
_starting = threading.Lock()


def look_after(owner: Owner) -> None:
    """Have the keeper send an owner's heartbeats until `release` or the owner's end."""
    global _keeper
    with _starting:
        keeper = _keeper
        if keeper is None or keeper.process_id != os.getpid():
            keeper = _keeper = _Keeper()
        with keeper.changed:
            keeper.owners.add(owner)


def release(owner: Owner) -> None:
    """Stop looking after an owner; the thread ends with the last one."""
    keeper = _keeper
    if keeper is not None:
        with keeper.changed:
            keeper.owners.discard(owner)


def _forget(keeper: _Keeper) -> None:
    global _keeper
    if _keeper is keeper:
        _keeper = None
