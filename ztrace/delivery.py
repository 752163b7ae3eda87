"""Batches from the queue to the collector: numbered, kept until they are stored, sent again if need be.

One idea: what is not acknowledged stays in the window. The collector answers with the next sequence number it
wants of this incarnation; everything below is retired, and after a lost connection, or too long a silence,
sending starts over at the oldest batch (go back N). A full window stops the emptying of the queue, so memory
is bounded by both, and what finds no room is counted where it is dropped.

Source: the measurements in docs/adr/0002-delivery.md; the frames in `ztrace.wire`.
"""

import os
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import zmq

from ztrace import diagnostics
from ztrace.encoding import encode
from ztrace.native import original
from ztrace.wire import (
    BEAT,
    BYE,
    DATA,
    TOPIC,
    Header,
    pack_header,
    unpack_acks,
)

if TYPE_CHECKING:
    from ztrace.publisher import Publisher

#: Spans of one batch: each message gives up the interpreter three times, and beside a program that computes
#: it takes five milliseconds each time to get it back.
BATCH_SPANS = 2048
#: How long the thread sleeps between two looks at the queue and at the socket: what a span waits at most
#: before it is sent. Each look costs the program a third of a millisecond of cold code.
LINGER_S = 0.1
#: The same while somebody waits for it, or while the socket is full.
HURRY_MS = 5
#: The pause after a look that found several batches: a flood must not fill the queue.
FLOOD_S = 0.01
#: Bytes of encoded spans kept until they are acknowledged; about 600,000 spans.
WINDOW_BYTES = 64 << 20
#: Batches on their way at once.
IN_FLIGHT = 32
#: Without progress for this long everything in flight is sent again; doubles up to a minute. One second
#: made a slow collector drown in duplicates.
RESEND_S = 5.0
#: A beat tells the collector that an idle publisher lives, and asks for an acknowledgement that got lost.
BEAT_S = 1.0
#: How long a closing publisher waits for a collector that has never answered.
UNREACHED_S = 0.5


@dataclass(frozen=True, slots=True)
class Batch:
    """Encoded spans under one sequence number."""

    sequence: int
    span_count: int
    body: bytes


class Delivery:
    """What the background thread works on; its counters are read by other threads.

    Attributes:
        running: the thread has not ended.
        reached: the collector has been there.
        batched: spans taken from the queue and encoded.
        refused: spans taken from the queue that could not be.
        retired: spans of acknowledged batches.
        filling: odd while spans are in neither the queue nor these counts.
    """

    def __init__(self, publisher: "Publisher") -> None:
        self.running = True
        self.batched = 0
        self.refused = 0
        self.retired = 0
        self.filling = 0
        self._publisher = publisher
        self._incarnation = os.urandom(16)
        self._started_ns = time.time_ns()
        self._window: deque[Batch] = deque()
        self._window_bytes = 0
        self._next_sequence = 0
        #: How many batches from the window's left have been sent over the present connection.
        self._sent = 0
        self._connected = False
        self.reached = False
        self._progress_s = self._spoke_s = self._beat_s = time.monotonic()
        self._resend_s = RESEND_S
        self._hurry_until_s = 0.0
        self._flooded = False
        #: A lock that is never free: the thread sleeps by waiting for it, `hurry` wakes it by releasing it.
        self._alarm = original("_thread", "allocate_lock")()
        self._alarm.acquire()
        self._deadline_s: float | None = None
        self._unreached_s = 0.0
        # Made here and not in the thread, so that without a socket there is no thread either, and kept as
        # attributes, so that in a forked child nothing closes the parent's.
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.ipv6 = "[" in publisher.settings.endpoint
        for option, value in (
            (zmq.XPUB_NODROP, 1),
            (zmq.XPUB_VERBOSE, 1),
            (zmq.IMMEDIATE, 1),
            (zmq.SNDHWM, 64),
            (zmq.LINGER, 0),
            (zmq.RECONNECT_IVL, 50),
            (zmq.RECONNECT_IVL_MAX, 1000),
            (zmq.HEARTBEAT_IVL, 1000),
            (zmq.HEARTBEAT_TIMEOUT, 3000),
        ):
            self._socket.setsockopt(option, value)
        try:
            self._socket.connect(publisher.settings.endpoint)
        except Exception:
            self.discard()
            raise

    def hurry(self, timeout_s: float) -> None:
        """Wake the thread, and have it look at queue and socket all the time for so long."""
        self._hurry_until_s = time.monotonic() + timeout_s
        try:
            self._alarm.release()
        except RuntimeError:  # Not asleep.
            return

    def close(self, timeout_s: float) -> None:
        """Ask the thread to deliver what there is within the deadline, and to end."""
        now_s = time.monotonic()
        self._unreached_s = now_s + UNREACHED_S
        self._deadline_s = now_s + timeout_s
        self.hurry(timeout_s)

    def discard(self) -> None:
        """Close what the thread would have worked with; left open it would block who collects the garbage."""
        self._socket.close(linger=0)
        self._context.term()

    def run(self) -> None:
        """Be the background thread."""
        try:
            while not self._done():
                try:
                    self._pause()
                    self._receive()
                    self._fill()
                    self._send()
                    self._beat()
                except Exception:
                    diagnostics.count_failure("delivery")
                    time.sleep(HURRY_MS / 1000)
            self._say_bye()
        except BaseException:
            diagnostics.count_failure("delivery")
        finally:
            self.running = False

    def _pause(self) -> None:
        """Sleep, but not when there is something to wait for: an acknowledgement, or room in the socket."""
        if time.monotonic() < self._hurry_until_s or (self._connected and self._sent < len(self._window)):
            self._socket.poll(HURRY_MS)
        else:
            self._alarm.acquire(True, FLOOD_S if self._flooded else LINGER_S)

    def _done(self) -> bool:
        if self._deadline_s is None:
            return False
        now_s = time.monotonic()
        if not self._window and not self._publisher.queue:
            return True
        return now_s >= self._deadline_s or (not self.reached and now_s >= self._unreached_s)

    def _receive(self) -> None:
        """Take what the collector says: it is there, it has gone, or what it has stored."""
        while self._socket.poll(0, zmq.POLLIN):
            frame = self._socket.recv(zmq.NOBLOCK)
            if frame[:1] == b"\x01":
                self._connected = self.reached = True
                self._start_over()
            elif frame[:1] == b"\x00":
                self._connected = False
            else:
                next_sequence = unpack_acks(frame).get(self._incarnation)
                if next_sequence is not None:
                    self._retire(next_sequence)

    def _retire(self, next_sequence: int) -> None:
        while self._window and self._window[0].sequence < next_sequence:
            batch = self._window.popleft()
            self._window_bytes -= len(batch.body)
            self._sent = max(0, self._sent - 1)
            self.retired += batch.span_count
            self._progress_s = time.monotonic()
            self._resend_s = RESEND_S

    def _start_over(self) -> None:
        self._sent = 0
        self._progress_s = time.monotonic()

    def _fill(self) -> None:
        """Encode the queue into the window, as far as that has room."""
        queue = self._publisher.queue
        self._flooded = len(queue) > BATCH_SPANS
        while queue and self._window_bytes < WINDOW_BYTES:
            self.filling += 1
            records = [queue.popleft() for _ in range(min(len(queue), BATCH_SPANS))]
            encoded = 0
            try:
                for span_count, body in encode(records):
                    self._window.append(Batch(self._next_sequence, span_count, body))
                    self._window_bytes += len(body)
                    self._next_sequence += 1
                    encoded += span_count
            finally:
                refused = len(records) - encoded
                self.batched += encoded
                self.refused += refused
                self._publisher.dropped += refused  # No call in this line: other threads add to it too.
                self.filling += 1

    def _send(self) -> None:
        if not self._connected:
            return
        if self._sent and time.monotonic() - self._progress_s > self._resend_s:
            self._start_over()
            self._resend_s = min(60.0, 2 * self._resend_s)
        if not self._sent:
            self._progress_s = time.monotonic()
        while self._sent < min(len(self._window), IN_FLIGHT):
            batch = self._window[self._sent]
            header = self._header(DATA, batch.sequence, 1, batch.span_count)
            if not self._send_message(header, batch.body):
                return
            self._sent += 1
            self._fill()  # Sending may have taken a while, and the queue is shorter than the window.

    def _beat(self) -> None:
        """Once a second set the clock, and say something if nothing has been said."""
        now_s = time.monotonic()
        if now_s - self._beat_s >= BEAT_S:
            self._beat_s = now_s
            self._publisher.renew_offset()
            if self._connected and now_s - self._spoke_s >= BEAT_S:
                self._send_message(self._header(BEAT, self._next_sequence, 0, 0), b"")

    def _say_bye(self) -> None:
        """Say that this incarnation has ended, whether or not everything could be delivered."""
        if self._connected:
            self._send_message(self._header(BYE, self._next_sequence, 0, 0), b"")
        self._socket.close(linger=200)
        self._context.term()

    def _send_message(self, header: Header, body: bytes) -> bool:
        try:
            self._socket.send_multipart([TOPIC, pack_header(header), body], zmq.NOBLOCK)
        except zmq.Again:
            return False
        self._spoke_s = time.monotonic()
        return True

    def _header(self, kind: int, sequence: int, covered: int, span_count: int) -> Header:
        publisher, settings = self._publisher, self._publisher.settings
        return Header(
            kind=kind,
            incarnation=self._incarnation,
            sequence=sequence,
            floor=self._window[0].sequence if self._window else self._next_sequence,
            covered=covered,
            span_count=span_count,
            created=self.batched + len(publisher.queue) + publisher.dropped,
            dropped=publisher.dropped,
            retired=self.retired,
            mended=dict(diagnostics.counts),
            service=settings.service,
            host=settings.host,
            pid=os.getpid(),
            started_ns=self._started_ns,
        )
