"""What a message's sequence number means: new, seen before, too early, or after a gap.

One idea: a publisher's account is kept with its spans, and every number it ever gave out ends up in exactly
one column of it. Once a publisher has drained,
``created = stored + dropped + missing + refused + elsewhere``.

No socket and no database here: `Account.receive` takes a header and changes the account.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from ztrace.wire import BYE, CRASH, DATA, TOMBSTONE, Header

#: States of a publisher. One that went without a word stays LIVE: its ``last_seen_ns`` tells.
LIVE, ENDED, CRASHED = "live", "ended", "crashed"

#: Why sequence numbers were never stored, as the table ``gaps`` has it.
NEVER_RECEIVED = "never received"
WINDOW_FULL = "window full"
NOT_DELIVERED = "not delivered before the end"
PROCESS_CRASHED = "process crashed"

#: SQLite's largest integer: sums of what a hostile header claims stay there instead of failing.
MOST = (1 << 63) - 1


class Gap(NamedTuple):
    """Sequence numbers that are not stored and never will be, and how many spans they had."""

    first_sequence: int
    last_sequence: int
    span_count: int
    reason: str


@dataclass(slots=True)
class Account:
    """What is known of one incarnation of a publisher: its row in ``publishers``.

    Attributes:
        instance: the row's key.
        next_sequence: everything below is accounted for.
        created: spans it says it has ended.
        dropped: spans it says it dropped before they had a sequence number.
        stored: spans in the table ``spans``.
        missing: spans that are known to be lost on the way.
        refused: spans that arrived and could not be stored.
        elsewhere: spans that it was rid of before this database first heard of it.
        mended: what it had to cut or replace, by reason.
    """

    instance: int
    first_seen_ns: int
    last_seen_ns: int
    state: str = LIVE
    next_sequence: int = 0
    created: int = 0
    stored: int = 0
    dropped: int = 0
    missing: int = 0
    refused: int = 0
    elsewhere: int = 0
    mended: dict[str, int] = field(default_factory=dict)
    #: Nothing has been received yet.
    new: bool = False

    def receive(self, header: Header) -> tuple[bool, list[Gap]]:
        """Bring the account up to what a header says.

        For a DATA message that is to be stored its number is used up; `count` has to follow.

        Returns:
            Whether the spans in the message's body are to be stored, and the gaps that it shows. Whatever the
            answer, everything below ``next_sequence`` may be acknowledged: once a header has been received
            that is never below its floor, so no publisher is asked for what it no longer has.
        """
        self.created = max(self.created, header.created)
        self.dropped = max(self.dropped, header.dropped)
        for reason, count in header.mended.items():
            self.mended[reason] = max(count, self.mended.get(reason, 0))
        gaps = self._reach_floor(header)
        if header.kind == DATA:
            return self._accept(header), gaps
        if header.kind == TOMBSTONE:
            self._bury(header, gaps)
        elif header.kind in (BYE, CRASH):
            self._end(header, gaps)
        elif self.state == ENDED:
            self.state = LIVE
        return False, gaps

    def count(self, stored: int, refused: int) -> None:
        """Book the spans of an accepted message."""
        self.stored = min(MOST, self.stored + stored)
        self.refused = min(MOST, self.refused + refused)

    def _numbered(self) -> int:
        """Return the spans of all sequence numbers below the next."""
        return self.stored + self.refused + self.missing + self.elsewhere

    def _reach_floor(self, header: Header) -> list[Gap]:
        """Go on at the floor if the publisher no longer holds what would come next."""
        first_seen, self.new = self.new, False
        if header.floor <= self.next_sequence:
            return []
        first, self.next_sequence = self.next_sequence, header.floor
        if first_seen:
            # It got rid of them with another database's collector, or before this one was made.
            self.elsewhere = header.retired
            return []
        lost = max(0, header.retired - self._numbered())
        self.missing = min(MOST, self.missing + lost)
        return [Gap(first, header.floor - 1, lost, NEVER_RECEIVED)]

    def _accept(self, header: Header) -> bool:
        if header.sequence != self.next_sequence:
            return False
        self.next_sequence = min(MOST, header.sequence + 1)
        self.state = LIVE
        return True

    def _bury(self, header: Header, gaps: list[Gap]) -> None:
        end = min(MOST, header.sequence + header.covered)
        if header.sequence > self.next_sequence or end <= self.next_sequence:
            return
        lost = header.span_count
        if header.sequence < self.next_sequence:
            # It grew since it was last received, and part of it is counted: no more can be lost than is open.
            lost = min(lost, self._open())
        gaps.append(Gap(self.next_sequence, end - 1, lost, WINDOW_FULL))
        self.missing = min(MOST, self.missing + lost)
        self.next_sequence = end
        self.state = LIVE

    def _end(self, header: Header, gaps: list[Gap]) -> None:
        """Close the account: nothing comes after this, so what is still open is lost."""
        crashed = header.kind == CRASH
        lost = self._open()
        if lost:
            last = max(self.next_sequence, header.sequence - 1)
            reason = PROCESS_CRASHED if crashed else NOT_DELIVERED
            gaps.append(Gap(self.next_sequence, last, lost, reason))
            self.missing = min(MOST, self.missing + lost)
        self.next_sequence = max(self.next_sequence, header.sequence)
        self.state = CRASHED if crashed or self.state == CRASHED else ENDED

    def _open(self) -> int:
        """Return the spans created that are in no column of the account."""
        return max(0, self.created - self.dropped - self._numbered())
