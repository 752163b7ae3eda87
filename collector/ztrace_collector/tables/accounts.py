"""What a message's sequence number means: new, seen before, too early, or after a gap.

One idea: a publisher's account is kept with its spans, and every span it ever created ends up in exactly one
column of it. After the end ``created = stored + elsewhere + lost``, the last added up over its reasons;
before it, what is left over is on its way.

No socket and no database here: `Account.receive` takes a header and changes the account.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from ztrace.records import INT64_MAX
from ztrace.wire import BYE, CRASH, DATA, TOMBSTONE, Header
from ztrace_collector.layout import (
    LOSS_COLUMNS,
    NEVER_RECEIVED,
    NOT_DELIVERED,
    PROCESS_CRASHED,
    QUEUE_FULL,
    REFUSED,
    WINDOW_FULL,
)

#: States of a publisher. One that went without a word stays LIVE: its ``last_seen_ns`` tells.
LIVE, ENDED, CRASHED = "live", "ended", "crashed"


class Loss(NamedTuple):
    """Spans that are not stored and never will be.

    Attributes:
        reason: one of `layout.LOSS_COLUMNS`.
        span_count: how many, at least one.
        first_ns: they ended between this time, Unix,
        last_ns: and this one.
        first_sequence: of the sequence numbers they had; None if they had none.
        last_sequence: likewise, included.
    """

    reason: str
    span_count: int
    first_ns: int
    last_ns: int
    first_sequence: int | None = None
    last_sequence: int | None = None


@dataclass(slots=True)
class Account:
    """What is known of one incarnation of a publisher: its row in ``publishers``.

    Attributes:
        instance: the row's key.
        service: whose it is, from its first message on.
        next_sequence: everything below is accounted for.
        last_seen_ns: when it was last heard of; of a crashed one, when it was last known to live.
        created: spans it says it has ended.
        stored: spans in the table ``spans``.
        elsewhere: spans that it was rid of before this database first heard of it.
        lost: spans that are lost, by reason.
        mended: what it had to cut or replace, by reason.
    """

    instance: int
    service: str
    first_seen_ns: int
    last_seen_ns: int
    state: str = LIVE
    next_sequence: int = 0
    created: int = 0
    stored: int = 0
    elsewhere: int = 0
    lost: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LOSS_COLUMNS, 0))
    mended: dict[str, int] = field(default_factory=dict)
    #: Nothing has been received yet.
    new: bool = False
    #: When it was heard of before the last message, and when that was.
    _between_ns: tuple[int, int] = (0, 0)

    def receive(
        self, header: Header, now_ns: int, stretch: tuple[int, int] | None = None
    ) -> tuple[bool, list[Loss]]:
        """Bring the account up to what a message says.

        For a DATA message that is to be stored its number is used up; `count` has to follow.

        Args:
            header: the message's.
            now_ns: when it was received.
            stretch: between which times the spans ended that it says are gone, if it tells.

        Returns:
            Whether the spans in the message's body are to be stored, and the losses that it shows. Whatever
            the answer, everything below ``next_sequence`` may be acknowledged: once a header has been
            received that is never below its floor, so no publisher is asked for what it no longer has.
        """
        began_ns = header.started_ns if self.new else self.last_seen_ns
        self._between_ns = (min(began_ns, now_ns), now_ns)
        self.last_seen_ns = max(now_ns, self.last_seen_ns)
        self.created = max(self.created, header.created)
        for reason, count in header.mended.items():
            self.mended[reason] = max(count, self.mended.get(reason, 0))
        losses = self._lose(QUEUE_FULL, header.dropped - self.lost[QUEUE_FULL])
        first = self.next_sequence
        losses += self._reach_floor(header)
        expected = header.sequence == self.next_sequence
        if header.kind == DATA:
            if expected:
                self._go_on(header)
            return expected, losses
        if header.kind == TOMBSTONE:
            losses += self._bury(header, stretch)
        elif header.kind in (BYE, CRASH):
            if expected:
                losses += self._end(header, first, stretch)
        elif self.state == ENDED and header.sequence >= self.next_sequence:
            self.state = LIVE
        return False, losses

    def count(self, stored: int, refused: int) -> list[Loss]:
        """Book the spans of an accepted message, and return what of them is lost."""
        self.stored = min(INT64_MAX, self.stored + stored)
        return self._lose(REFUSED, refused)

    def skip(self, header: Header, now_ns: int) -> list[Loss]:
        """Use up the number of a message that cannot be received, and return its spans as lost.

        Nothing else of the header is looked at; the publisher's next message makes that good.
        """
        first, self.new = self.next_sequence, False
        if not header.covered or header.sequence != max(first, header.floor):
            return []
        self._between_ns = (min(self.last_seen_ns, now_ns), now_ns)
        self.last_seen_ns = max(now_ns, self.last_seen_ns)
        self.created = max(self.created, header.created)
        self._go_on(header)
        return self._lose(REFUSED, header.span_count)

    def take(self, stored: int, refused: int, now_ns: int) -> list[Loss]:
        """Book spans that came another way than as the publisher's messages, and return what of them is lost.

        Sequence numbers stay as they are: if the publisher sends here, too, it is not to be disturbed.
        """
        if not self.next_sequence:
            self.last_seen_ns = max(now_ns, self.last_seen_ns)
        self._between_ns = (now_ns, now_ns)
        self.elsewhere -= min(stored, self.elsewhere)
        losses = self.count(stored, refused)
        self.created = max(self.created, self.lost[QUEUE_FULL] + self._numbered())
        return losses

    def _lose(
        self,
        reason: str,
        span_count: int,
        stretch: tuple[int, int] | None = None,
        sequences: tuple[int | None, int | None] = (None, None),
    ) -> list[Loss]:
        """Book spans that are lost, if there are any."""
        if span_count <= 0:
            return []
        self.lost[reason] = min(INT64_MAX, self.lost[reason] + span_count)
        return [Loss(reason, span_count, *(stretch or self._between_ns), *sequences)]

    def _numbered(self) -> int:
        """Return the spans of all sequence numbers below the next."""
        return self.stored + self.elsewhere + sum(self.lost.values()) - self.lost[QUEUE_FULL]

    def _open(self) -> int:
        """Return the spans created that are in no column of the account."""
        return max(0, self.created - self.lost[QUEUE_FULL] - self._numbered())

    def _go_on(self, header: Header) -> None:
        self.next_sequence = min(INT64_MAX, header.sequence + header.covered)
        self.state = LIVE

    def _reach_floor(self, header: Header) -> list[Loss]:
        """Go on at the floor if the publisher no longer holds what would come next."""
        first_seen, self.new = self.new, False
        if header.floor <= self.next_sequence:
            return []
        first, self.next_sequence = self.next_sequence, header.floor
        if first_seen:
            # It got rid of them with another database's collector, or before this one was made.
            self.elsewhere = max(0, header.retired - self.stored)
            return []
        if header.kind in (BYE, CRASH) and header.floor == header.sequence:
            return []  # It gave up what it held: that is told with all that is lost by its end.
        if 0 < self.elsewhere == self._numbered():
            # Its past goes on until something of it is accepted: what the file before this one acknowledged
            # had not reached it when its first message here was sent.
            self.elsewhere = max(self.elsewhere, header.retired)
            return []
        lost = header.retired - self._numbered()
        return self._lose(NEVER_RECEIVED, lost, None, (first, header.floor - 1))

    def _bury(self, header: Header, stretch: tuple[int, int] | None) -> list[Loss]:
        end = min(INT64_MAX, header.sequence + header.covered)
        if header.sequence > self.next_sequence or end <= self.next_sequence:
            return []
        lost = header.span_count
        if header.sequence < self.next_sequence:
            # No working publisher sends this: part of it is counted, and no more can be lost than is open.
            lost = min(lost, self._open())
        first = self.next_sequence
        self._go_on(header)
        return self._lose(WINDOW_FULL, lost, stretch, (first, end - 1))

    def _end(self, header: Header, first: int, stretch: tuple[int, int] | None) -> list[Loss]:
        """Close the account: nothing comes after this, so what is still open is lost."""
        crashed = header.kind == CRASH
        self._go_on(header)
        self.state = CRASHED if crashed else ENDED
        if crashed and stretch is not None:
            # The messages since then were its heir's: what counts is when it was last known to live.
            self.last_seen_ns = max(self.first_seen_ns, min(self.last_seen_ns, stretch[1]))
        given_up = (first, header.sequence - 1) if first < header.sequence else (None, None)
        return self._lose(PROCESS_CRASHED if crashed else NOT_DELIVERED, self._open(), stretch, given_up)
