"""Delivery of one incarnation's batches: sent in order, and resent until the collector has stored them.

One idea: the collector answers with the next sequence number that it expects; all entries below are retired,
and after a lost connection or too long a silence, sending restarts at the oldest entry (go back N). Nothing
here waits or reads a clock: the caller passes the time, and so can a test.

Source: the measurements in docs/adr/0002-delivery.md; the frames in `ztrace.wire`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ztrace.publishing.window import Window
from ztrace.wire import BEAT, OPEN, TOPIC, Header, Identity, pack_header

#: Limit of entries in flight.
IN_FLIGHT = 32
#: Time without progress after which all entries in flight are resent, and the limit up to which it doubles.
#: One second flooded a slow collector with duplicates.
RESEND_S, RESEND_MAX_S = 5.0, 60.0

#: Function that sends a message whole, or returns False if there is no room for it now.
Send = Callable[[Sequence[bytes]], bool]


class Totals(NamedTuple):
    """Counts of an incarnation that every message carries.

    Attributes:
        created: spans that have ended.
        dropped: spans without a sequence number.
        mended: corrections and failures, by reason.
        sampled: samples that were taken.
    """

    created: int
    dropped: int
    mended: Mapping[str, int]
    sampled: int = 0


class Delivery:
    """Progress of the collector in a window.

    Attributes:
        window: entries to deliver.
        limit: limit of entries in flight.
        progress_s: time at which the collector last acknowledged entries, or none was in flight.
    """

    limit = IN_FLIGHT

    def __init__(
        self,
        identity: Identity,
        window: Window,
        totals: Callable[[], Totals],
        now_s: float,
        *,
        collectors: int = 1,
    ) -> None:
        """Prepare to deliver.

        Args:
            identity: identity of the incarnation.
            window: entries to deliver.
            totals: function that returns the present counts.
            now_s: the time.
            collectors: number of collectors that may receive the incarnation's messages.
        """
        self.window = window
        self._identity = identity
        self._totals = totals
        #: Number to send next over the current connection, and entries in flight.
        self._next = window.floor
        self._in_flight = 0
        self.progress_s = now_s
        self._resend_s = RESEND_S
        self._collectors = collectors
        #: Collector that receives the messages, and spans that each one has acknowledged.
        self._collector = ""
        self._acknowledged: dict[str, int] = {}

    @property
    def incarnation(self) -> bytes:
        """Id of the incarnation whose acknowledgements are expected."""
        return self._identity.incarnation

    @property
    def has_more(self) -> bool:
        """True while entries have not been sent over the current connection."""
        return self._next < self.window.next_sequence

    def start_over(self, now_s: float, collector: str) -> None:
        """Restart at the oldest entry over a new connection to a collector."""
        self._collector = collector
        self._restart(now_s)

    def _restart(self, now_s: float) -> None:
        self._next = self.window.floor
        self._in_flight = 0
        self.progress_s = now_s

    def acknowledge(self, next_sequence: int, now_s: float) -> None:
        """Retire the entries below a number, which the collector has stored."""
        before = self.window.retired
        retired = self.window.retire(next_sequence)
        if retired:
            spans = self.window.retired - before
            self._acknowledged[self._collector] = self._acknowledged.get(self._collector, 0) + spans
            self._in_flight = max(0, self._in_flight - retired)
            self._next = max(self._next, self.window.floor)
            self.progress_s = now_s
            self._resend_s = RESEND_S

    def send(self, send: Send, now_s: float) -> bool:
        """Send the next entry, if the limit allows it.

        Returns:
            False if there was none, or no room for it.
        """
        if self._in_flight and now_s - self.progress_s > self._resend_s:
            self._restart(now_s)
            self._resend_s = min(RESEND_MAX_S, 2 * self._resend_s)
        entry = self.window.get(self._next)
        if entry is None or self._in_flight >= self.limit:
            return False
        if not self._in_flight:
            self.progress_s = now_s
        body = self.window.body_of(entry)  # First: an unreadable batch becomes a tombstone.
        header = self._header(entry.kind, entry.sequence, entry.covered, entry.span_count)
        if not send((TOPIC, header, body)):
            return False
        self.window.mark_sent(entry)
        self._next = entry.end
        self._in_flight += 1
        return True

    def send_beat(self, send: Send) -> bool:
        """Send a sign of life, which requests an acknowledgement that may have been lost."""
        return send((TOPIC, self._header(BEAT, self.window.next_sequence, 0, 0), b""))

    def send_open(self, send: Send, span_count: int, body: bytes) -> bool:
        """Send spans that have not ended."""
        return send((TOPIC, self._header(OPEN, self.window.next_sequence, 0, span_count), body))

    @property
    def _elsewhere(self) -> int:
        """Number of acknowledged spans that the present collector has not acknowledged."""
        if self._collectors == 1:
            return 0
        return self.window.retired - self._acknowledged.get(self._collector, 0)

    def _header(self, kind: int, sequence: int, covered: int, span_count: int) -> bytes:
        identity, totals = self._identity, self._totals()
        return pack_header(
            Header(
                kind=kind,
                incarnation=identity.incarnation,
                sequence=sequence,
                floor=self.window.floor,
                covered=covered,
                span_count=span_count,
                created=totals.created,
                dropped=totals.dropped,
                retired=self.window.retired,
                mended=dict(totals.mended),
                service=identity.service,
                host=identity.host,
                pid=identity.pid,
                started_ns=identity.started_ns,
                sampled=totals.sampled,
                service_version=identity.service_version,
                acknowledged_elsewhere=self._elsewhere,
                collectors=self._collectors,
            )
        )
