"""Accounts of publishers: whether a sequence number is new, a duplicate, early, or after a gap.

One idea: a publisher's account is stored with its spans, and each span it ever created ends up in exactly one
column of the account. After the publisher's end, ``created = stored + elsewhere + lost``, with the losses of
all reasons added up; before the end, the difference is in flight.

There is no socket and no database here: `Account.receive` takes a header and changes the account.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ztrace.records import INT64_MAX
from ztrace.wire import BYE, CRASH, DATA, PROFILE, TOMBSTONE, Header
from ztrace_collector.layout import (
    LOSS_COLUMNS,
    NEVER_RECEIVED,
    NOT_DELIVERED,
    PROCESS_CRASHED,
    QUEUE_FULL,
    REFUSED,
    WINDOW_FULL,
)
from ztrace_collector.tables.sampled import Sampled

#: States of a publisher. A publisher that ended without a message stays LIVE, with an old ``last_seen_ns``.
LIVE, ENDED, CRASHED = "live", "ended", "crashed"
#: Reasons kept of what a publisher had to change, several times those that exist; and the name of the rest.
MAX_REASONS, OTHER_REASONS = 24, "other reasons"


def bound_reasons(counts: Mapping[str, int], limit: int = MAX_REASONS) -> dict[str, int]:
    """Return the highest counts of reasons that peers chose, the others added up under one."""
    if len(counts) <= limit:
        return dict(counts)
    most = sorted(counts, key=lambda reason: (-counts[reason], reason))
    kept = {reason: counts[reason] for reason in most[:limit]}
    kept[OTHER_REASONS] = min(
        INT64_MAX, kept.get(OTHER_REASONS, 0) + sum(counts[reason] for reason in most[limit:])
    )
    return kept


class Loss(NamedTuple):
    """Spans that are not stored and never will be.

    Attributes:
        reason: one of `layout.LOSS_COLUMNS`.
        span_count: number of spans, at least one.
        first_ns: start of the period in which they ended, Unix.
        last_ns: end of that period.
        first_sequence: first of their sequence numbers; None if they had none.
        last_sequence: last of their sequence numbers; None likewise.
    """

    reason: str
    span_count: int
    first_ns: int
    last_ns: int
    first_sequence: int | None = None
    last_sequence: int | None = None


@dataclass(slots=True)
class Account:
    """Account of one incarnation of a publisher: its row in ``publishers``.

    Attributes:
        instance: key of the row.
        service: name of the service, from the first message on.
        next_sequence: all lower sequence numbers are accounted for.
        first_sequence: lowest of the numbers up to there that were received here, not by another collector.
        past_ranges: ranges of numbers that were received here before, each with its end, to be written.
        last_seen_ns: time of the last message; for a crashed publisher, when it was last known to be alive.
        created: number of ended spans, as reported by the publisher.
        stored: number of spans in the table ``spans``.
        elsewhere: number of spans that the publisher was rid of before its first message to this database, or
            delivered to another collector since.
        acknowledged_elsewhere: spans that other collectors have acknowledged, as reported by the publisher.
        lost: number of lost spans, by reason.
        mended: number of values that the publisher truncated or replaced, by reason.
        sampled: account of its samples.
    """

    instance: int
    service: str
    first_seen_ns: int
    last_seen_ns: int
    state: str = LIVE
    next_sequence: int = 0
    first_sequence: int = 0
    created: int = 0
    stored: int = 0
    elsewhere: int = 0
    acknowledged_elsewhere: int = 0
    lost: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LOSS_COLUMNS, 0))
    mended: dict[str, int] = field(default_factory=dict)
    sampled: Sampled = field(default_factory=Sampled)
    past_ranges: list[tuple[int, int]] = field(default_factory=list)
    #: No message has been received yet.
    new: bool = False
    #: Times of the last two messages.
    _between_ns: tuple[int, int] = (0, 0)

    def receive(
        self, header: Header, now_ns: int, stretch: tuple[int, int] | None = None
    ) -> tuple[bool, list[Loss]]:
        """Apply a message's header to the account.

        A DATA or PROFILE message to be stored uses up its number; for spans, `count` has to follow.

        Args:
            header: the header.
            now_ns: the time of arrival, Unix.
            stretch: the period in which the spans ended that the message reports as lost, if it has one.

        Returns:
            Whether the body is to be stored, and the losses that the header shows. In either
                case,
            everything below ``next_sequence`` may be acknowledged: after a header it is never below the
                header's
            floor, so no publisher is asked for a batch that it no longer has.
        """
        began_ns = header.started_ns if self.new else self.last_seen_ns
        self._between_ns = (min(began_ns, now_ns), now_ns)
        self.last_seen_ns = max(now_ns, self.last_seen_ns)
        self.created = max(self.created, header.created)
        self.sampled.hear(header.sampled)
        if header.mended:
            self._mend(header.mended)
        losses = self._lose(QUEUE_FULL, header.dropped - self.lost[QUEUE_FULL])
        first = self.next_sequence
        losses += self._reach_floor(header)
        expected = header.sequence == self.next_sequence
        if header.kind in (DATA, PROFILE):
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
        """Count the spans of an accepted message, and return the losses."""
        self.stored = min(INT64_MAX, self.stored + stored)
        return self._lose(REFUSED, refused)

    def skip(self, header: Header, now_ns: int) -> list[Loss]:
        """Use up the number of a message that cannot be received, and return its spans as lost.

        The rest of the header is ignored; the publisher's next message makes up for that.
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
        """Count spans that did not arrive as messages of the publisher, and return the losses.

        Sequence numbers do not change, so a publisher that sends here as well is not disturbed.
        """
        if not self.next_sequence:
            self.last_seen_ns = max(now_ns, self.last_seen_ns)
        self._between_ns = (now_ns, now_ns)
        self.elsewhere -= min(stored, self.elsewhere)
        losses = self.count(stored, refused)
        self.created = max(self.created, self.lost[QUEUE_FULL] + self._numbered())
        return losses

    def _mend(self, mended: Mapping[str, int]) -> None:
        """Raise the counts by reason to those of a header; reasons beyond the bound share one count."""
        beyond = 0
        for reason, count in mended.items():
            if reason in self.mended or len(self.mended) < MAX_REASONS:
                self.mended[reason] = max(count, self.mended.get(reason, 0))
            else:
                beyond += count
        if beyond:
            self.mended[OTHER_REASONS] = min(INT64_MAX, max(beyond, self.mended.get(OTHER_REASONS, 0)))

    def _lose(
        self,
        reason: str,
        span_count: int,
        stretch: tuple[int, int] | None = None,
        sequences: tuple[int | None, int | None] = (None, None),
    ) -> list[Loss]:
        """Count lost spans, if there are any."""
        if span_count <= 0:
            return []
        self.lost[reason] = min(INT64_MAX, self.lost[reason] + span_count)
        return [Loss(reason, span_count, *(stretch or self._between_ns), *sequences)]

    def _numbered(self) -> int:
        """Return the number of spans in all sequence numbers below the next."""
        return self.stored + self.elsewhere + sum(self.lost.values()) - self.lost[QUEUE_FULL]

    def _open(self) -> int:
        """Return the number of created spans that are in no column of the account."""
        return max(0, self.created - self.lost[QUEUE_FULL] - self._numbered())

    def _go_on(self, header: Header) -> None:
        self.next_sequence = min(INT64_MAX, header.sequence + header.covered)
        self.state = LIVE

    def _reach_floor(self, header: Header) -> list[Loss]:
        """Continue at the floor if the publisher no longer holds the next sequence number."""
        first_seen, self.new = self.new, False
        acknowledged = max(0, header.acknowledged_elsewhere - self.acknowledged_elsewhere)
        self.acknowledged_elsewhere += acknowledged
        if header.floor <= self.next_sequence:
            return []
        first, self.next_sequence = self.next_sequence, header.floor
        gone = max(0, header.retired - self._numbered())
        if first_seen:
            # Another collector stored them, or the publisher discarded them before its first message here.
            self.elsewhere = max(0, header.retired - self.stored)
            self.sampled.begin(header.sampled)
            self.first_sequence = header.floor
            return []
        if 0 < self.elsewhere == self._numbered():
            # Until something is accepted, this is still its past: an acknowledgement from the previous file
            # had not reached it when it sent its first message here.
            self.elsewhere += gone
            self.first_sequence = header.floor
            return []
        moved = min(gone, acknowledged)
        if moved:
            self.elsewhere += moved
            if self.first_sequence < first:
                self.past_ranges.append((self.first_sequence, first))
            self.first_sequence = header.floor
        if moved or header.collectors > 1:
            self.sampled.begin(header.sampled)  # The numbers between may have been profiles alone.
        if header.kind in (BYE, CRASH) and header.floor == header.sequence:
            return []  # It discarded everything at its end, and `_end` counts that.
        return self._lose(NEVER_RECEIVED, gone - moved, None, (first, header.floor - 1))

    def _bury(self, header: Header, stretch: tuple[int, int] | None) -> list[Loss]:
        end = min(INT64_MAX, header.sequence + header.covered)
        if header.sequence > self.next_sequence or end <= self.next_sequence:
            return []
        lost = header.span_count
        if header.sequence < self.next_sequence:
            # No correct publisher sends this. Part of it is counted already, and the rest is at most what is
            # open.
            lost = min(lost, self._open())
        first = self.next_sequence
        self._go_on(header)
        return self._lose(WINDOW_FULL, lost, stretch, (first, end - 1))

    def _end(self, header: Header, first: int, stretch: tuple[int, int] | None) -> list[Loss]:
        """Close the account: no message follows, so open spans are lost."""
        crashed = header.kind == CRASH
        self._go_on(header)
        self.sampled.end()
        self.state = CRASHED if crashed else ENDED
        if crashed and stretch is not None:
            # Its heir sent the messages since then, so take the time at which it was last known to be alive.
            self.last_seen_ns = max(self.first_seen_ns, min(self.last_seen_ns, stretch[1]))
        given_up = (first, header.sequence - 1) if first < header.sequence else (None, None)
        return self._lose(PROCESS_CRASHED if crashed else NOT_DELIVERED, self._open(), stretch, given_up)
