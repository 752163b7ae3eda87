"""Requests for profiles, sent to the publishers again and again until they are over.

One idea: the rows of the requests are all there is to know. Each is sent with the time that it has left, so a
publisher that connects late takes part for the rest, and one that knows it already ignores it.
"""

import sqlite3
import time
from collections.abc import Callable

from ztrace.wire import MAX_HZ, MAX_REQUEST_S, Request, pack_request
from ztrace_collector.layout import SECOND_NS
from ztrace_collector.storing.requesting import MAX_RUNNING
from ztrace_collector.storing.writer import Writer

#: Interval of looking for requests, and of repeating them.
LOOK_S, REPEAT_S = 0.5, 1.0

_RUNNING = (
    "SELECT nonce, service, hz, seconds, at_ns, sent_ns FROM profile_requests WHERE at_ns <= ?"
    f" AND at_ns + {SECOND_NS} * seconds > ? ORDER BY id DESC LIMIT {MAX_RUNNING}"
)


class Requests:
    """Sending of the requests in a writer's database."""

    def __init__(
        self,
        send: Callable[[bytes], None],
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take over the sending; nothing is sent yet.

        Args:
            send: sends a frame to every publisher.
            clock_ns: the wall clock, by which requests end.
            clock_s: a clock that never jumps.
        """
        self._send = send
        self._clock_ns, self._clock_s = clock_ns, clock_s
        self._next_s = 0.0
        #: Time of sending each request that runs.
        self._sent_s: dict[bytes, float] = {}

    def wait_s(self) -> float:
        """Return the time until the next look."""
        return max(0.0, self._next_s - self._clock_s())

    def step(self, writer: Writer) -> None:
        """Send the requests that are due.

        Raises:
            DatabaseError: as in `Writer.write_beside`.
        """
        now_s = self._clock_s()
        if now_s < self._next_s:
            return
        self._next_s = now_s + LOOK_S
        now_ns = self._clock_ns()
        rows = writer.read(_RUNNING, now_ns + SECOND_NS, now_ns)
        running = {bytes(nonce) for nonce, *_ in rows}
        self._sent_s = {nonce: sent_s for nonce, sent_s in self._sent_s.items() if nonce in running}
        new: list[bytes] = []
        for nonce, service, hz, seconds, at_ns, sent_ns in rows:
            if now_s < self._sent_s.get(nonce, now_s - REPEAT_S) + REPEAT_S:
                continue
            left_s = min(seconds, max(1, -(-(at_ns + SECOND_NS * seconds - now_ns) // SECOND_NS)))
            # Any program may have written the row.
            if len(nonce) == 8 and 1 <= hz <= MAX_HZ and 1 <= left_s <= MAX_REQUEST_S:
                self._send(pack_request(Request(nonce, service, hz, left_s)))
                self._sent_s[nonce] = now_s
                if sent_ns is None:
                    new.append(nonce)
        if new:
            writer.write_beside(lambda db: _mark(db, new, now_ns))


def _mark(db: sqlite3.Connection, nonces: list[bytes], now_ns: int) -> None:
    db.executemany(
        "UPDATE profile_requests SET sent_ns = ? WHERE nonce = ? AND sent_ns IS NULL",
        [(now_ns, nonce) for nonce in nonces],
    )
