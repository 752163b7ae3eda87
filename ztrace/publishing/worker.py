"""The background thread: takes spans from the queue, and sees to it that they arrive.

One idea: one turn of the loop does what there is to do, in the order in which it matters: hear, fill the
window, send, say once a second that all is well. All that takes time is between turns, in `pause`.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from ztrace import diagnostics, records, signals
from ztrace.native import allocate_lock, monotonic, sleep, unix_ns
from ztrace.publishing.delivery import Delivery, Send, Totals
from ztrace.publishing.encoding import encode
from ztrace.publishing.link import Link
from ztrace.publishing.unfinished import Unfinished
from ztrace.publishing.window import Storage, Window
from ztrace.records import Record
from ztrace.settings import Settings
from ztrace.spans import Span
from ztrace.wire import BYE, Identity, unpack_acks

#: How long the thread sleeps while somebody waits for it, or while the socket is full.
HURRY_MS = 5
#: The pause after a turn that found several batches: a flood must not fill the queue.
FLOOD_S = 0.01
#: The pause before the next batch when it is there already: time for a program that computes to take the
#: interpreter back, for which it would otherwise wait five milliseconds.
YIELD_S = 0.0002
#: How often the collector hears of a publisher that has nothing to send.
BEAT_S = 1.0
#: After this long without a connection another one is begun from scratch.
RENEW_S = 30.0
#: How long a closing publisher waits for a collector that has never answered: a child that lives for a moment
#: is let in only when the collector is between two transactions.
UNREACHED_S = 1.5
#: How long a goodbye is waited for when all else is delivered, and what it may take to leave the process.
GOODBYE_S = 0.2

_START, _DURATION = map(records.Span._fields.index, ("start_ns", "duration_ns"))


class Clocks(NamedTuple):
    """Where the time comes from: a test brings its own."""

    monotonic_s: Callable[[], float] = monotonic
    unix_ns: Callable[[], int] = unix_ns


SYSTEM_CLOCKS = Clocks()


class Source(Protocol):
    """The part of a publisher that its thread works on.

    Attributes:
        queue: records of ended spans, oldest first; spans append, the thread takes.
        register: spans that have started and not ended, oldest first.
        dropped: spans that found no room, or could not be encoded.
        offset_ns: Unix time minus the monotonic clock.
    """

    queue: deque[Record]
    register: dict[Span, None]
    dropped: int
    offset_ns: int

    @property
    def settings(self) -> Settings:
        """Settings of the process."""
        ...

    @property
    def identity(self) -> Identity:
        """Identity of the incarnation."""
        ...

    def renew_offset(self) -> None:
        """Read both clocks again."""
        ...


class Adopter(Protocol):
    """Delivery of the spools of dead processes, as `ztrace.spooling.adoption.Adoption` does it."""

    def step(self, send: Send, now_s: float) -> bool:
        """Send some entries; return whether there is a spool to deliver."""
        ...

    def acknowledge(self, acks: Mapping[bytes, int], now_s: float) -> None:
        """Process acknowledgements, by incarnation."""
        ...

    def start_over(self, now_s: float) -> None:
        """Send again what is not acknowledged, over a new connection."""
        ...

    def close(self) -> None:
        """Release the spool that is being delivered."""
        ...


class Worker:
    """What the thread works on; its counters are read by other threads.

    Attributes:
        running: the thread has not ended.
        reached: the collector has been there.
        refused: spans taken from the queue that could not be encoded.
        filling: odd while spans are in neither the queue nor the window.
        left: spans of the window that were not delivered when the thread ended.
    """

    def __init__(
        self,
        publisher: Source,
        link: Link,
        spool: Storage | None,
        adopt: Callable[[float], Adopter] | None = None,
        clocks: Clocks = SYSTEM_CLOCKS,
    ) -> None:
        self.running = True
        self.reached = False
        self.refused = 0
        self.filling = 0
        self.left = 0
        self._publisher = publisher
        self._settings = publisher.settings
        self._link = link
        self._spool = spool
        self._clocks = clocks
        now_s = clocks.monotonic_s()
        self.window = Window(self._settings.window_bytes, spool)
        self._delivery = Delivery(publisher.identity, self.window, self._totals, now_s)
        self._adoption = None if adopt is None else adopt(now_s)
        self._unfinished = Unfinished(publisher.register)
        self._adopting = False
        self._connected = self._ended = False
        self._spoke_s = self._beat_s = self._heard_s = now_s
        self._hurry_until_s = now_s
        self._flooded = False
        #: A lock that is never free: the thread sleeps by waiting for it, `hurry` wakes it by releasing it.
        self._alarm = allocate_lock()
        self._alarm.acquire()
        self._deadline_s: float | None = None
        self._unreached_s = now_s

    def hurry(self, timeout_s: float) -> None:
        """Wake the thread, and have it look at queue and socket all the time for so long."""
        self._hurry_until_s = self._clocks.monotonic_s() + timeout_s
        try:
            self._alarm.release()
        except RuntimeError:  # Not asleep.
            return

    def close(self, timeout_s: float) -> None:
        """Ask the thread to deliver what there is within the deadline, and to end."""
        now_s = self._clocks.monotonic_s()
        self._unreached_s = now_s + UNREACHED_S
        self._deadline_s = now_s + timeout_s
        self.hurry(timeout_s)

    def run(self) -> None:
        """Be the background thread."""
        try:
            while not self.is_done():
                try:
                    self._pause()
                    signals.nudge()
                    self.turn()
                except Exception:
                    diagnostics.count_failure("delivery")
                    sleep(HURRY_MS / 1000)
            self.finish()
        except BaseException:
            diagnostics.count_failure("delivery")
        finally:
            self.running = False

    def turn(self) -> None:
        """Do what there is to do."""
        self._receive()
        self._fill()
        self._say_bye()
        self._send()
        self._beat()
        if self._spool is not None:
            self._spool.note_dropped(self._publisher.dropped)

    def is_done(self) -> bool:
        """Tell whether there is nothing left to do, or no time for it."""
        if self._deadline_s is None:
            return False
        now_s = self._clocks.monotonic_s()
        if now_s >= self._deadline_s or (not self.reached and now_s >= self._unreached_s):
            return True
        if self._publisher.queue:
            return False
        if not self._ended:
            return not self.window and not self._connected  # There is nobody to say goodbye to.
        if self._spool is not None or self.window.batched > self.window.retired:
            return not self.window
        return not self.window or now_s - self._delivery.progress_s >= GOODBYE_S

    def finish(self) -> None:
        """Say how it ended, and close."""
        while self._spool is not None and self._publisher.queue and not self._ended:
            self._fill()
        self.left = self.window.batched - self.window.retired
        if self._adoption is not None:
            self._adoption.close()
        delivered = self._ended and not self.window
        if self._spool is not None:
            # What is on the disk is not lost: whoever takes it over says goodbye for us.
            self._spool.close(delivered=delivered)
        elif self._connected and not delivered:
            if not self._ended:
                self._send_open(self._unfinished.take_all())
            now_ns = self._clocks.unix_ns()
            first_ns = self.window.give_up()
            self.window.end(BYE, min(first_ns or now_ns, now_ns), now_ns)
            self._delivery.start_over(self._clocks.monotonic_s())
            self._delivery.send(self._link.send, self._clocks.monotonic_s())
        self._link.close(int(1000 * GOODBYE_S))

    def _say_bye(self) -> None:
        """Once there is nothing more to come, have that delivered as well, behind all the rest."""
        if self._deadline_s is None or self._ended or not self._connected or self._publisher.queue:
            return
        self._ended = True
        self._send_open(self._unfinished.take_all())
        now_ns = self._clocks.unix_ns()
        self.window.end(BYE, now_ns, now_ns)

    def _pause(self) -> None:
        """Sleep, but not when there is something to wait for: an acknowledgement, or room in the socket."""
        now_s = self._clocks.monotonic_s()
        if len(self._publisher.queue) >= self._settings.batch_spans:
            self._alarm.acquire(True, YIELD_S)
        elif now_s < self._hurry_until_s or (self._connected and (self._delivery.has_more or self._adopting)):
            self._link.wait(HURRY_MS)
        else:
            self._alarm.acquire(True, FLOOD_S if self._flooded else self._settings.linger_s)

    def _receive(self) -> None:
        """Take what the collector says: it is there, it has gone, or what it has stored."""
        while (frame := self._link.receive()) is not None:
            now_s = self._clocks.monotonic_s()
            if frame[:1] == b"\x01":
                self._connected = self.reached = True
                self._delivery.start_over(now_s)
                if self._adoption is not None:
                    self._adoption.start_over(now_s)
            elif frame[:1] == b"\x00":
                self._connected = False
            else:
                acks = unpack_acks(frame)
                next_sequence = acks.get(self._delivery.incarnation)
                if next_sequence is not None:
                    self._delivery.acknowledge(next_sequence, now_s)
                if self._adoption is not None:
                    self._adoption.acknowledge(acks, now_s)

    def _fill(self) -> None:
        """Encode a batch of the queue into the window."""
        queue, batch_spans = self._publisher.queue, self._settings.batch_spans
        self._flooded = len(queue) > batch_spans
        if not queue or self._ended or (len(queue) < batch_spans and self._can_wait()):
            return
        self.filling += 1
        records = [queue.popleft() for _ in range(min(len(queue), batch_spans))]
        encoded = 0
        try:
            first_ns, last_ns = _stretch(records)
            for span_count, body in encode(records, self._settings.scrub):
                self.window.add(span_count, first_ns, last_ns, body)
                encoded += span_count
        finally:
            refused = len(records) - encoded
            self.refused += refused
            self._publisher.dropped += refused  # No call in this line: other threads add to it too.
            self.filling += 1

    def _can_wait(self) -> bool:
        """Tell whether a batch had better become a whole one: nobody takes it, and no spool is to keep it."""
        return not self._connected and self._spool is None and self._deadline_s is None

    def _send(self) -> None:
        if not self._connected:
            return
        while self._send_some():
            pass
        if self._adoption is not None:
            self._adopting = self._adoption.step(self._link.send, self._clocks.monotonic_s())

    def _send_some(self) -> bool:
        now_s = self._clocks.monotonic_s()
        sent = self._delivery.send(self._link.send, now_s)
        if sent:
            self._spoke_s = now_s
        return sent

    def _beat(self) -> None:
        """Once a second set the clock, tell of what has not ended, and say something if nothing was said."""
        now_s = self._clocks.monotonic_s()
        if now_s - self._beat_s < BEAT_S:
            return
        self._beat_s = now_s
        self._publisher.renew_offset()
        if not self._connected:
            if now_s - self._heard_s >= RENEW_S:
                self._heard_s = now_s
                self._link.renew()
            return
        self._heard_s = now_s
        if self._ended:
            return  # After a goodbye there is nothing to say.
        self._send_open(self._unfinished.take_due())
        if now_s - self._spoke_s >= BEAT_S and self._delivery.send_beat(self._link.send):
            self._spoke_s = now_s

    def _send_open(self, records: list[Record]) -> None:
        if records:
            for span_count, body in encode(records, self._settings.scrub):
                self._delivery.send_open(self._link.send, span_count, body)

    def _totals(self) -> Totals:
        publisher = self._publisher
        dropped = publisher.dropped
        return Totals(self.window.batched + len(publisher.queue) + dropped, dropped, diagnostics.counts)


def _stretch(records: list[Record]) -> tuple[int, int]:
    """Return when the first and the last of some spans ended: the queue is in that order."""
    first, last = (record[_START] + record[_DURATION] for record in (records[0], records[-1]))
    return min(first, last), max(first, last)
