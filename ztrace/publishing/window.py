"""The window: batches that a publisher keeps until they are stored, and tombstones of those given up.

One idea: the sequence numbers of the window have no gap. A batch that is dropped for lack of room leaves a
tombstone with its number and span count, so a loss is reported to the collector as exactly as a delivery.
Only a batch that was never sent can become a tombstone, and a tombstone that was sent never grows: the
collector may have either, and counts each number once.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from ztrace import diagnostics
from ztrace.wire import DATA, PROFILE, TOMBSTONE, pack_stretch

#: Bytes of an entry besides its body: a window of many small batches is bounded too.
ENTRY_BYTES = 300


class Place(NamedTuple):
    """Location of a batch on a shelf: a record of a segment of the spool.

    Attributes:
        sequence: number of the batch.
        spans_before: spans of all batches with lower numbers, delivered or not.
        span_count: spans of the batch.
        first_ns: end of its first span, Unix.
        last_ns: end of its last span, Unix.
        segment: number of the segment.
        offset: start of the record in the segment, in bytes.
        size: bytes of the body.
    """

    sequence: int
    spans_before: int
    span_count: int
    first_ns: int
    last_ns: int
    segment: int
    offset: int
    size: int


class Shelf(Protocol):
    """Storage for bodies outside memory: a `ztrace.spooling.spool.Spool`, or an orphaned one."""

    def append(
        self, sequence: int, spans_before: int, span_count: int, first_ns: int, last_ns: int, body: bytes
    ) -> Place:
        """Store a batch.

        Raises:
            OSError: the disk or the spool is full.
        """
        ...

    def read(self, place: Place) -> bytes:
        """Return the body of a batch.

        Raises:
            OSError, ValueError: the body is missing or damaged.
        """
        ...

    def release(self, floor: int, retired: int) -> None:
        """Release the batches below a sequence number, which hold a number of spans."""
        ...


class Storage(Shelf, Protocol):
    """Shelf that outlives its process: a `ztrace.spooling.spool.Spool`.

    Attributes:
        count: function to call once per ended span, before the span is queued; thread-safe.
        is_there: whether another process can find the shelf.
    """

    count: Callable[[], None]

    @property
    def is_there(self) -> bool:
        """See above."""
        ...

    def note_counts(self, dropped: int, sampled: int) -> None:
        """Record how many of the counted spans were dropped, and how many samples were taken."""
        ...

    def close(self, *, delivered: bool) -> None:
        """Release the files; they are deleted if everything has been delivered."""
        ...

    def abandon(self) -> None:
        """Release the parent's files in a forked child."""
        ...


class Entry:
    """Consecutive sequence numbers, and the message for them.

    Attributes:
        kind: DATA, PROFILE, TOMBSTONE, BYE or CRASH.
        sequence: the first number.
        covered: count of numbers.
        span_count: spans in the body, or dropped.
        first_ns, last_ns: range of these spans' ends, Unix.
        body: body of the message; None if it is on the shelf, at ``place``, or there is none.
        sent: the entry was sent once, so the collector may have it.
    """

    # Not a dataclass: importing `dataclasses` takes longer than everything else the program waits for.
    __slots__ = ("body", "covered", "first_ns", "kind", "last_ns", "place", "sent", "sequence", "span_count")

    def __init__(
        self,
        kind: int,
        sequence: int,
        span_count: int,
        first_ns: int,
        last_ns: int,
        body: bytes | None = None,
        place: Place | None = None,
        covered: int = 1,
    ) -> None:
        self.kind = kind
        self.sequence = sequence
        self.span_count = span_count
        self.first_ns = first_ns
        self.last_ns = last_ns
        self.body = body
        self.place = place
        self.covered = covered
        self.sent = False

    @property
    def end(self) -> int:
        """Number that follows the last one."""
        return self.sequence + self.covered


class Window:
    """Entries in the order of their numbers.

    Attributes:
        next_sequence: number of the next entry.
        batched: spans that have a number so far.
        retired: spans of acknowledged numbers: of all below ``floor``, until the window is given up.
    """

    def __init__(self, limit_bytes: int, shelf: Shelf | None = None) -> None:
        self.next_sequence = 0
        self.batched = 0
        self.retired = 0
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._shelf = shelf
        #: Batches in memory that were never sent, oldest first: they can be given up.
        self._expendable: deque[Entry] = deque()
        self._tombstone: Entry | None = None

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def floor(self) -> int:
        """Lowest number that is still kept."""
        return next(iter(self._entries), self.next_sequence)

    @property
    def kept(self) -> int:
        """Spans of the batches that are on the shelf."""
        return sum(entry.span_count for entry in self._entries.values() if entry.place is not None)

    def get(self, sequence: int) -> Entry | None:
        """Return the entry that starts with a number."""
        return self._entries.get(sequence)

    def begin(self, sequence: int, spans_before: int) -> None:
        """Start an empty window with a number other than 0."""
        self.next_sequence = sequence
        self.batched = self.retired = spans_before

    def add(self, span_count: int, first_ns: int, last_ns: int, body: bytes) -> None:
        """Append a batch of spans, or a profile, which has none; give up old ones if there is no room."""
        entry = Entry(
            DATA if span_count else PROFILE, self.next_sequence, span_count, first_ns, last_ns, body
        )
        if self._shelf is not None:
            try:
                entry.place = self._shelf.append(
                    entry.sequence, self.batched, span_count, first_ns, last_ns, body
                )
                entry.body = None
            except OSError:
                diagnostics.count("spool_full")
        self.restore(entry)
        if entry.body is not None:
            self._expendable.append(entry)
        while self._bytes > self._limit_bytes and self._expendable:
            self._bury(self._expendable.popleft())

    def restore(self, entry: Entry) -> None:
        """Append an entry without storing it on the shelf."""
        self._entries[entry.sequence] = entry
        self._bytes += _size(entry)
        self.next_sequence = entry.end
        self.batched += entry.span_count

    def end(self, kind: int, first_ns: int, last_ns: int) -> None:
        """Append a BYE or CRASH, the last entry of an incarnation."""
        self.restore(Entry(kind, self.next_sequence, 0, first_ns, last_ns, pack_stretch(first_ns, last_ns)))

    def give_up(self) -> int | None:
        """Discard all entries, as no time is left to deliver them.

        The count of acknowledged spans is kept: the collector finds the others missing.

        Returns:
            The end of the first span discarded, None if there was none.
        """
        first_ns = min((entry.first_ns for entry in self._entries.values()), default=None)
        self._entries.clear()
        self._expendable.clear()
        self._bytes = 0
        return first_ns

    def body_of(self, entry: Entry) -> bytes:
        """Return the body to send; a batch that is no longer readable becomes a tombstone."""
        if entry.body is None and entry.place is not None and self._shelf is not None:
            try:
                return self._shelf.read(entry.place)
            except (OSError, ValueError):
                diagnostics.count("spool_damaged")
                self._make_tombstone(entry)
        return pack_stretch(entry.first_ns, entry.last_ns) if entry.body is None else entry.body

    def mark_sent(self, entry: Entry) -> None:
        """Note that the collector may have the entry from now on."""
        entry.sent = True
        if self._expendable and self._expendable[0] is entry:
            self._expendable.popleft()

    def note_sent(self) -> None:
        """Note that the collector may have all entries: another process may have sent them."""
        for entry in self._entries.values():
            entry.sent = True

    def retire(self, next_sequence: int) -> int:
        """Discard the entries below a number, up to the first that was not sent: nobody can have that one.

        Returns:
            The count of entries discarded.
        """
        count = 0
        while self._entries:
            first = next(iter(self._entries.values()))
            if first.end > next_sequence or not first.sent:
                break
            self._entries.popitem(last=False)
            self._bytes -= _size(first)
            self.retired += first.span_count
            if self._expendable and self._expendable[0] is first:
                self._expendable.popleft()
            count += 1
        if count and self._shelf is not None:
            self._shelf.release(self.floor, self.retired)
        return count

    def _bury(self, entry: Entry) -> None:
        """Replace a batch by a tombstone, or extend the tombstone before it."""
        before = self._tombstone
        self._bytes -= _size(entry)
        if before is not None and not before.sent and before.end == entry.sequence:
            del self._entries[entry.sequence]
            before.covered += 1
            before.span_count += entry.span_count
            before.last_ns = max(before.last_ns, entry.last_ns)
            before.first_ns = min(before.first_ns, entry.first_ns)
            return
        self._make_tombstone(entry)
        self._bytes += _size(entry)
        self._tombstone = entry

    @staticmethod
    def _make_tombstone(entry: Entry) -> None:
        entry.kind = TOMBSTONE
        entry.body = entry.place = None


def _size(entry: Entry) -> int:
    return ENTRY_BYTES + (0 if entry.body is None else len(entry.body))
