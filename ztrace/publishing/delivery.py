"""One incarnation's batches on their way to the collector: sent in order, again if need be, until stored.

One idea: the collector answers with the next sequence number it wants; everything below is retired, and after
a lost connection, or too long a silence, sending starts over at the oldest (go back N). Nothing here waits or
knows the time: `ztrace.publishing.worker` says when it is, so that a test can.

Source: the measurements in docs/adr/0002-delivery.md; the frames in `ztrace.wire`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ztrace.publishing.window import Window
from ztrace.wire import BEAT, OPEN, TOPIC, Header, Identity, pack_header

#: Entries on their way at once.
IN_FLIGHT = 32
#: Without progress for this long everything in flight is sent again; doubles up to the second figure. One
#: second made a slow collector drown in duplicates.
RESEND_S, RESEND_MAX_S = 5.0, 60.0

#: Sends a message whole, or says that there is no room for it now.
Send = Callable[[Sequence[bytes]], bool]


class Totals(NamedTuple):
    """What an incarnation says of itself in every message.

    Attributes:
        created: spans that have ended.
        dropped: spans that were given no number.
        mended: what was cut, replaced or failed at, by reason.
    """

    created: int
    dropped: int
    mended: Mapping[str, int]


class Delivery:
    """A window, and how far the collector has come with it.

    Attributes:
        window: what is to be delivered.
        limit: how many of its entries may be on their way at once.
        progress_s: when the collector last had some of it, or there was nothing on its way.
    """

    limit = IN_FLIGHT

    def __init__(
        self, identity: Identity, window: Window, totals: Callable[[], Totals], now_s: float
    ) -> None:
        self.window = window
        self._identity = identity
        self._totals = totals
        #: The number to send next over the present connection, and how many entries it has on the way.
        self._next = window.floor
        self._in_flight = 0
        self.progress_s = now_s
        self._resend_s = RESEND_S

    @property
    def incarnation(self) -> bytes:
        """Whose acknowledgements this wants."""
        return self._identity.incarnation

    @property
    def has_more(self) -> bool:
        """There is something that has not been sent over the present connection."""
        return self._next < self.window.next_sequence

    def start_over(self, now_s: float) -> None:
        """Begin again with the oldest entry: the connection is new, or what was sent seems lost."""
        self._next = self.window.floor
        self._in_flight = 0
        self.progress_s = now_s

    def acknowledge(self, next_sequence: int, now_s: float) -> None:
        """Take the collector's word that everything below a number is stored."""
        retired = self.window.retire(next_sequence)
        if retired:
            self._in_flight = max(0, self._in_flight - retired)
            self._next = max(self._next, self.window.floor)
            self.progress_s = now_s
            self._resend_s = RESEND_S

    def send(self, send: Send, now_s: float) -> bool:
        """Send one entry, if there is one whose turn it is.

        Returns:
            Whether it was sent.
        """
        if self._in_flight and now_s - self.progress_s > self._resend_s:
            self.start_over(now_s)
            self._resend_s = min(RESEND_MAX_S, 2 * self._resend_s)
        entry = self.window.get(self._next)
        if entry is None or self._in_flight >= self.limit:
            return False
        if not self._in_flight:
            self.progress_s = now_s
        body = self.window.body_of(entry)  # First: it may turn out to be a tombstone.
        header = self._header(entry.kind, entry.sequence, entry.covered, entry.span_count)
        if not send((TOPIC, header, body)):
            return False
        self.window.mark_sent(entry)
        self._next = entry.end
        self._in_flight += 1
        return True

    def send_beat(self, send: Send) -> bool:
        """Say that the incarnation is alive, and ask for an acknowledgement that may have been lost."""
        return send((TOPIC, self._header(BEAT, self.window.next_sequence, 0, 0), b""))

    def send_open(self, send: Send, span_count: int, body: bytes) -> bool:
        """Send spans that have not ended."""
        return send((TOPIC, self._header(OPEN, self.window.next_sequence, 0, span_count), body))

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
            )
        )
