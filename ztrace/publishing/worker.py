"""The background thread: takes spans from the queue, and delivers them.

One idea: one turn of the loop runs the pending steps in order of importance: connect, receive, fill the
window, send, and beat once a second. All waiting is between turns, in `_pause`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ztrace import diagnostics
from ztrace.native import allocate_lock, sleep
from ztrace.process import signals
from ztrace.process.collection import HeldCollection
from ztrace.publishing.choosing import HURRY_S, Chooser
from ztrace.publishing.delivery import Delivery, Totals
from ztrace.publishing.encoding import encode, find_stretch
from ztrace.publishing.intake import FOREIGN, Unwanted
from ztrace.publishing.link import Link
from ztrace.publishing.peer import Peer
from ztrace.publishing.ports import SYSTEM_CLOCKS, Adopter, Clocks, NoProfiler, Profiler, Source
from ztrace.publishing.reporting import Reports
from ztrace.publishing.window import Storage, Window
from ztrace.wire import BYE, REFUSED, Request

#: Poll interval while a caller waits in `flush` or `close`, or while the socket is full.
HURRY_MS = 5
#: Pause after a turn that found several batches: a flood must not fill the queue.
FLOOD_S = 0.01
#: Pause before a batch that is complete already: time for a program that computes to take the interpreter
#: back, for which it would otherwise wait five milliseconds.
YIELD_S = 0.0002
#: Interval of the beats of an idle publisher.
BEAT_S = 1.0
#: Interval at which a thread that sleeps for longer looks at what it is sent.
LOOK_S = 0.1
#: Timeout of a closing publisher for a collector that has never answered: it accepts the connection of a
#: short-lived child only between two transactions. Each further collector has its turn after that.
UNREACHED_S = 1.5
#: Timeout for the acknowledgement of the BYE once all spans are delivered, and for the last message to leave.
GOODBYE_S = 0.2


class Worker:
    """State of the thread; its counters are read by other threads.

    Attributes:
        begun: the thread has started.
        running: the thread has not ended.
        peer: the collector.
        taken: spans taken from the queue.
        refused: spans taken from the queue that could not be encoded.
        filling: odd while spans are in neither the queue nor the window.
    """

    def __init__(
        self,
        publisher: Source,
        connect: Callable[[str], Link],
        spool: Storage | None,
        adopt: Callable[[float], Adopter] | None = None,
        clocks: Clocks = SYSTEM_CLOCKS,
        profile: Callable[[HeldCollection], Profiler] = NoProfiler,
    ) -> None:
        """Prepare the thread.

        Args:
            publisher: owner of the queue.
            connect: function that makes a link to an endpoint, and raises where that is not possible now;
                `run` closes the link.
            spool: storage for undelivered batches; `run` closes it.
            adopt: factory of the delivery of dead processes' spools, given the monotonic time.
            clocks: sources of the time.
            profile: factory of the profiler, given the collection to hold back; `run` closes it.
        """
        self.begun = False
        self.running = True
        self.taken = self.refused = self.filling = 0
        self._publisher = publisher
        self._settings = publisher.settings
        self._collection = HeldCollection()
        self._rest = self._collection.sleep
        self._profiler = profile(self._collection)
        self._spool = spool
        self._clocks = clocks
        now_s = clocks.monotonic_s()
        self.window = Window(self._settings.window_bytes, spool)
        incarnation, endpoints = publisher.identity.incarnation, self._settings.endpoints
        self.peer = Peer(Chooser(endpoints, incarnation, now_s), connect, now_s)
        self._delivery = Delivery(
            publisher.identity, self.window, self._totals, now_s, collectors=len(endpoints)
        )
        self._adoption = None if adopt is None else adopt(now_s)
        self._reports = Reports(publisher, self._delivery)
        self._ended = self._flooded = self._adopting = False
        self._spoke_s = self._beat_s = now_s
        self._hurry_until_s = now_s
        #: A lock that is never free: the thread sleeps by waiting for it, `hurry` wakes the thread by a
        #: release.
        self._alarm = allocate_lock()
        self._alarm.acquire()
        self._deadline_s: float | None = None
        self._unreached_s = now_s

    @property
    def left(self) -> int:
        """Spans taken from the queue that are not acknowledged."""
        return self.taken - self.refused - self.window.retired

    def hurry(self, timeout_s: float) -> None:
        """Wake the thread, and shorten its poll interval until the timeout."""
        self._hurry_until_s = self._clocks.monotonic_s() + timeout_s
        try:
            self._alarm.release()
        except RuntimeError:  # Not asleep.
            return

    def close(self, timeout_s: float) -> None:
        """Make the thread deliver everything within the timeout, and end."""
        now_s = self._clocks.monotonic_s()
        self._unreached_s = now_s + UNREACHED_S + HURRY_S * (len(self._settings.endpoints) - 1)
        self._deadline_s = now_s + timeout_s
        self._profiler.close()
        self.hurry(timeout_s)

    def abandon(self) -> None:
        """Release the parent's files in a forked child, and the collection."""
        self._collection.abandon()
        self._profiler.abandon()
        if self._adoption is not None:
            self._adoption.abandon()

    def run(self) -> None:
        """Run the publishing loop until the publisher is closed; a second thread in here returns at once."""
        if self.begun:
            return
        self.begun = True
        try:
            self._collection.hold()
            self._profiler.start()
            while not self.is_done():
                try:
                    self._pause()
                    signals.nudge()
                    self.turn()
                except Exception:
                    _count_failure()
                    self._rest(sleep, HURRY_MS / 1000)
            self.finish()
        except Exception:
            _count_failure()
        finally:
            self.running = False
            self._collection.release()

    def turn(self) -> None:
        """Run one turn of the loop: connect, receive, encode, send, beat."""
        now_s = self._clocks.monotonic_s()
        can_hurry = self._deadline_s is not None or not self.peer.reached
        self.peer.connect(now_s, is_hurried=can_hurry and now_s < self._hurry_until_s)
        self._receive()
        self._fill()
        self._keep_profiles()
        self._say_bye()
        self._send()
        if self._reports.are_due:
            self._reports.look()
        self._beat()

    def is_done(self) -> bool:
        """Return whether everything is delivered, or the deadline has passed."""
        if self._deadline_s is None:
            return False
        now_s = self._clocks.monotonic_s()
        if now_s >= self._deadline_s or (not self.peer.reached and now_s >= self._unreached_s):
            return True
        if self._publisher.queue or self._profiler.is_running:
            return False
        if not self._ended:
            return not self.window and not self.peer.is_connected  # No peer for a BYE.
        if self._spool is not None or self.window.batched > self.window.retired:
            return not self.window
        return not self.window or now_s - self._delivery.progress_s >= GOODBYE_S

    def finish(self) -> None:
        """Send the last message of the incarnation, and close the link and the spool."""
        while self._spool is not None and self._publisher.queue and not self._ended:
            self._fill()
        self._keep_profiles()
        if self._adoption is not None:
            self._adoption.close()
        delivered = self._ended and not self.window
        if self._spool is not None:
            # Batches on the disk are not lost: the process that adopts them sends the BYE.
            self._spool.close(delivered=delivered)
        elif (link := self.peer.link) is not None and self.peer.is_connected and not delivered:
            if not self._ended:
                self._reports.send_all(link.send)
            now_ns = self._clocks.unix_ns()
            first_ns = self.window.give_up()
            self.window.end(BYE, min(first_ns or now_ns, now_ns), now_ns)
            self._delivery.start_over(self._clocks.monotonic_s(), self.peer.endpoint)
            self._delivery.send(link.send, self._clocks.monotonic_s())
        self.peer.close(int(1000 * GOODBYE_S))

    def _say_bye(self) -> None:
        """Queue the BYE once the last span is encoded."""
        if self._deadline_s is None or self._ended or not self.peer.is_connected:
            return
        if self._publisher.queue or self._profiler.is_running:
            return
        self._ended = True
        if self.peer.link is not None:
            self._reports.send_all(self.peer.link.send)
        self.window.end(BYE, now_ns := self._clocks.unix_ns(), now_ns)

    def _pause(self) -> None:
        """Sleep for the linger interval, or less while an acknowledgement or room in the socket is due."""
        now_s = self._clocks.monotonic_s()
        if len(self._publisher.queue) >= self._settings.batch_spans:
            self._rest(self._alarm.acquire, True, YIELD_S)
        elif now_s < self._hurry_until_s or (
            self.peer.is_connected and (self._delivery.has_more or self._adopting)
        ):
            if self.peer.link is None:
                self._rest(self._alarm.acquire, True, HURRY_MS / 1000)
            elif not self.peer.link.is_readable():
                self._rest(self.peer.link.wait, HURRY_MS)
        else:
            busy = self._flooded or self._reports.are_due
            self._sleep(now_s, FLOOD_S if busy else self._settings.linger_s)

    def _sleep(self, now_s: float, duration_s: float) -> None:
        """Sleep until `hurry` is called, and look meanwhile at what the collector sends."""
        end_s = now_s + duration_s
        while self._hurry_until_s <= now_s < end_s:
            self._rest(self._alarm.acquire, True, min(LOOK_S, end_s - now_s))
            now_s = self._clocks.monotonic_s()
            if now_s < end_s:
                self._receive()

    def _receive(self) -> None:
        """Read what the collector has sent, or cut the connection if it sends what no collector does."""
        now_s = self._clocks.monotonic_s()
        try:
            for said in self.peer.receive(now_s):
                self._hear(said, now_s)
        except Unwanted as unwanted:
            self.peer.cut(unwanted.reason, now_s)

    def _hear(self, said: Request | Mapping[bytes, int] | None, now_s: float) -> None:
        """Process a welcome, a request, or an acknowledgement."""
        if said is None:
            self._delivery.start_over(now_s, self.peer.endpoint)
            if self._adoption is not None:
                self._adoption.start_over(now_s, self.peer.endpoint)
        elif isinstance(said, Request):
            self._profiler.hear(said)
        else:
            next_sequence = said.get(self._delivery.incarnation)
            if next_sequence == REFUSED:
                self.peer.turn_away()
            elif next_sequence is not None:
                if next_sequence > self.window.next_sequence:
                    raise Unwanted(FOREIGN)
                self.peer.refusal = None
                self._delivery.acknowledge(next_sequence, now_s)
            if self._adoption is not None:
                self._adoption.acknowledge(said, now_s)

    def _fill(self) -> None:
        """Encode a batch from the queue into the window."""
        queue, batch_spans = self._publisher.queue, self._settings.batch_spans
        self._flooded = len(queue) > batch_spans
        if not queue or self._ended or (len(queue) < batch_spans and self._can_wait()):
            return
        self.filling += 1
        records = [queue.popleft() for _ in range(min(len(queue), batch_spans))]
        self.taken += len(records)
        encoded, odd = 0, list[Any]()
        try:
            first_ns, last_ns = find_stretch(records)
            for span_count, body in encode(records, self._settings.scrub, odd):
                self.window.add(span_count, first_ns, last_ns, body)
                encoded += span_count
        finally:
            refused = len(records) - encoded
            self.refused += refused
            self._publisher.dropped += refused  # No call in this line: other threads add to it too.
            self.filling += 1
            records.clear()
            if odd:
                self._publisher.give_back(odd)

    def _keep_profiles(self) -> None:
        """Move the profiles that are ready into the window, unless the BYE is there already."""
        ready = [] if self._ended else list(iter(self._profiler.take, None))
        if self._spool is not None:  # Counted before it is kept: the process may be killed any moment.
            self._spool.note_counts(self._publisher.dropped, self._profiler.sampled)
        for profile in ready:
            self.window.add(0, *profile)

    def _can_wait(self) -> bool:
        """Return whether the batch may wait until it is full: no collector receives it, no spool keeps it."""
        return not self.peer.is_connected and self._spool is None and self._deadline_s is None

    def _send(self) -> None:
        link = self.peer.link
        if link is None or not self.peer.is_connected:
            return
        while self._delivery.send(link.send, now_s := self._clocks.monotonic_s()):
            self._spoke_s = now_s
        if self._adoption is not None:
            self._adopting = self._adoption.step(link.send, self._clocks.monotonic_s())

    def _beat(self) -> None:
        """Renew the clocks' offset once a second, send open spans, and a beat if nothing else was sent."""
        now_s = self._clocks.monotonic_s()
        if now_s - self._beat_s < BEAT_S:
            return
        self._beat_s = now_s
        self._publisher.renew_offset()
        self._reports.look()
        link = self.peer.link
        if not self.peer.tend(now_s) or link is None or self._ended:
            return  # The collector rejects anything after a BYE.
        self._reports.send_due(link.send)
        if now_s - self._spoke_s >= BEAT_S and self._delivery.send_beat(link.send):
            self._spoke_s = now_s

    def _totals(self) -> Totals:
        publisher = self._publisher
        dropped = publisher.dropped
        created = self.window.batched + len(publisher.queue) + dropped
        return Totals(created, dropped, diagnostics.counts, self._profiler.sampled)


def _count_failure() -> None:
    """Count the exception being handled; there may not be memory even for that."""
    try:
        diagnostics.count_failure("delivery")
    except Exception:
        pass
