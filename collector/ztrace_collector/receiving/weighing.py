"""Bytes that libzmq holds for each connection, and which connections hold too many, or send none.

One idea: libzmq bounds a frame, and the whole messages of a connection, but not the frames of a message that
never ends. The system counts the bytes read from each connection; those read since its last message was
received are what libzmq holds. While no message can be received, they are one unfinished message.

To ask the system about a thousand connections takes milliseconds. So many are weighed when this process has
grown, which it does with what it holds, and otherwise at longer intervals.

Only Linux reports this, and only of TCP; elsewhere nothing is weighed.
"""

import os
import time
from collections.abc import Callable, Collection

from ztrace.process.connections import count_read
from ztrace.wire import MAX_FRAME_BYTES

#: Bytes of an unfinished message: its largest frame and its header; and of the unfinished ones of all.
MAX_UNFINISHED, MAX_ALL_UNFINISHED = MAX_FRAME_BYTES + (1 << 20), 64 << 20
#: Bytes held for a connection, and for all, while messages wait to be taken: more than libzmq's queue of a
#: publisher's largest messages.
MAX_HELD, MAX_ALL_HELD = 40 << 20, 1 << 30
#: Time without a byte after which a peer is gone: publishers send something every second.
SILENT_S = 30.0
#: Time between two looks after which this process may have been stopped.
LATE_S = 2.0
#: Interval of the looks while connections are open, and while none is or the process has not grown; share of
#: the time they may take. A peer on this machine sends 200 MB between two looks.
LOOK_S, IDLE_LOOK_S, SHARE = 0.05, 0.5, 0.05
#: Interval while a connection is new or holds so much.
QUICK_S, QUICK_BYTES = 0.01, 1 << 20
#: Memory by which the process has grown: a part of what all connections may hold; and connections up to which
#: they are weighed sooner than the process.
GROWN_BYTES, FEW = 8 << 20, 16


class Scales:
    """Bytes that libzmq holds for each connection, by descriptor.

    Attributes:
        silent: connections that had sent nothing for long, as of the last look.
    """

    def __init__(self, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        #: Bytes read from a connection until its last message was taken, as of the look after that.
        self._until: dict[int, int] = {}
        self.silent: list[int] = []
        self._heard: set[int] = set()
        #: Bytes read from a connection as of the last look, and the time at which they last increased.
        self._read: dict[int, tuple[int, float]] = {}
        self._looked_s = self._next_s = 0.0
        #: Least memory of this process since the last look.
        self._resident = 0
        #: There are connections; one is new, or holds enough to be looked at soon.
        self._is_open = self._is_quick = False

    def wait_s(self) -> float:
        """Return how long to wait at most for the next look."""
        if not self._is_open:
            return IDLE_LOOK_S
        return QUICK_S if self._is_quick else LOOK_S

    def hear(self, number: int) -> None:
        """Note that a message of a connection was taken."""
        self._heard.add(number)

    def forget(self, number: int) -> None:
        """Start over with a descriptor that belongs to another connection now."""
        self._until.pop(number, None)
        self._read.pop(number, None)
        self._heard.discard(number)
        self._is_quick = True

    def look(self, numbers: Collection[int], is_drained: Callable[[], bool]) -> list[int]:
        """Return the connections that hold too much, the heaviest first; nothing if it is not time to look.

        Args:
            numbers: descriptors of the open connections.
            is_drained: returns whether no whole message waits to be taken. It is asked once the bytes are
                known: what has arrived by then may be whole messages.
        """
        now_s = self._clock_s()
        self._is_open = bool(numbers)
        self.silent = []
        if now_s < self._next_s:
            return []
        if len(numbers) > FEW:
            resident = _resident_bytes()
            has_grown = resident > self._resident + GROWN_BYTES
            if not self._is_quick and not has_grown and now_s < self._looked_s + IDLE_LOOK_S:
                self._resident = min(self._resident, resident)
                self._next_s = now_s + LOOK_S
                return []
            self._resident = resident
        weights: dict[int, int] = {}
        until: dict[int, int] = {}
        for number in numbers:
            read = count_read(number)
            if self._read.get(number, (0, 0.0))[0] != read:
                self._read[number] = read, now_s
            until[number] = read if number in self._heard else self._until.get(number, 0)
            if read > until[number]:
                weights[number] = read - until[number]
        self._is_quick = (
            not until.keys() <= self._until.keys() or max(weights.values(), default=0) > QUICK_BYTES
        )
        self._until = until
        self._read = {number: self._read[number] for number in numbers if number in self._read}
        self._heard.clear()
        self._next_s = now_s + max(QUICK_S if self._is_quick else LOOK_S, (self._clock_s() - now_s) / SHARE)
        drained = is_drained()
        if not drained or now_s - self._looked_s > LATE_S:
            # More may wait in the system, for room in libzmq's queue or since this process stood still.
            self._read = {number: (read, now_s) for number, (read, _) in self._read.items()}
        self.silent = [number for number, (_, since_s) in self._read.items() if now_s - since_s > SILENT_S]
        self._looked_s = now_s
        most, most_of_all = (MAX_UNFINISHED, MAX_ALL_UNFINISHED) if drained else (MAX_HELD, MAX_ALL_HELD)
        total = sum(weights.values())
        heavy: list[int] = []
        for number in sorted(weights, key=lambda each: -weights[each]):
            if weights[number] <= most and total <= most_of_all:
                break
            heavy.append(number)
            total -= weights[number]
        return heavy


def _resident_bytes() -> int:
    """Return the memory of this process, 0 if it is unknown."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
