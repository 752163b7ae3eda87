"""What a publisher keeps until the collector has it: batches, and tombstones in place of those given up.

One idea: the window is a row of sequence numbers without a hole. A batch that has to go for want of room
leaves a tombstone with its number and count, so whatever is lost here is told to the collector as exactly as
what is delivered. Only what was never sent can become a tombstone, and one that was sent never grows: the
collector may have either, and counts each number once.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from ztrace import diagnostics
from ztrace.wire import DATA, TOMBSTONE, pack_stretch

#: What an entry costs besides its body, so that a window of many small batches is bounded as well.
ENTRY_BYTES = 300


class Place(NamedTuple):
    """Location of a batch on a shelf: a record of a segment of the spool.

    Attributes:
        sequence: its number.
        spans_before: spans of all batches with lower numbers, whatever became of them.
        span_count: its own.
        first_ns: when the first of its spans ended, Unix.
        last_ns: when the last one did.
        segment: the number of its segment.
        offset: where its record begins.
        size: bytes of its body.
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
    """Storage for bodies outside memory: a `ztrace.spooling.spool.Spool`, or what is left of one."""

    def append(
        self, sequence: int, spans_before: int, span_count: int, first_ns: int, last_ns: int, body: bytes
    ) -> Place:
        """Keep a batch.

        Raises:
            OSError: there is no room.
        """
        ...

    def read(self, place: Place) -> bytes:
        """Return a body.

        Raises:
            OSError, ValueError: it is gone or damaged.
        """
        ...

    def release(self, floor: int, retired: int) -> None:
        """Forget what is below a sequence number: so many spans."""
        ...


class Storage(Shelf, Protocol):
    """A shelf that outlives its process: a `ztrace.spooling.spool.Spool`.

    Attributes:
        count: called by any thread, once for each span that has ended, before the span is queued.
        is_there: whether another process can find the shelf.
    """

    count: Callable[[], None]

    @property
    def is_there(self) -> bool:
        """See above."""
        ...

    def note_dropped(self, dropped: int) -> None:
        """Record how many of the counted spans were dropped."""
        ...

    def close(self, *, delivered: bool) -> None:
        """Release the files; they are deleted if everything has been delivered."""
        ...

    def abandon(self) -> None:
        """Release the parent's files in a forked child."""
        ...


class Entry:
    """Some sequence numbers, and what is sent for them.

    Attributes:
        kind: DATA, TOMBSTONE, BYE or CRASH.
        sequence: the first number.
        covered: how many numbers.
        span_count: spans in the body, or gone.
        first_ns, last_ns: between which times these spans ended, Unix.
        body: None if it is on the shelf, at ``place``, or there is none.
        sent: it has been on its way once, so the collector may have it.
    """

    # Not a dataclass: importing those takes longer than all the rest that a program waits for.
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
        """The number after its last."""
        return self.sequence + self.covered


class Window:
    """Entries in the order of their numbers.

    Attributes:
        next_sequence: the number of the next entry.
        batched: spans that were given a number so far.
        retired: spans of the numbers that were acknowledged: of all below ``floor``, until it is given up.
    """

    def __init__(self, limit_bytes: int, shelf: Shelf | None = None) -> None:
        self.next_sequence = 0
        self.batched = 0
        self.retired = 0
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._shelf = shelf
        #: Batches in memory that have never been sent, oldest first: what can be given up.
        self._expendable: deque[Entry] = deque()
        self._tombstone: Entry | None = None

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def floor(self) -> int:
        """The lowest number that is still kept."""
        return next(iter(self._entries), self.next_sequence)

    @property
    def kept(self) -> int:
        """Spans of the batches that are on the shelf."""
        return sum(entry.span_count for entry in self._entries.values() if entry.place is not None)

    def get(self, sequence: int) -> Entry | None:
        """Return the entry that begins with a number."""
        return self._entries.get(sequence)

    def begin(self, sequence: int, spans_before: int) -> None:
        """Start an empty window with a number other than 0."""
        self.next_sequence = sequence
        self.batched = self.retired = spans_before

    def add(self, span_count: int, first_ns: int, last_ns: int, body: bytes) -> None:
        """Append a batch; if there is no room, the oldest that were never sent make it."""
        entry = Entry(DATA, self.next_sequence, span_count, first_ns, last_ns, body)
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
        """Append an entry as it is."""
        self._entries[entry.sequence] = entry
        self._bytes += _size(entry)
        self.next_sequence = entry.end
        self.batched += entry.span_count

    def end(self, kind: int, first_ns: int, last_ns: int) -> None:
        """Append a BYE or CRASH: nothing comes after it."""
        self.restore(Entry(kind, self.next_sequence, 0, first_ns, last_ns, pack_stretch(first_ns, last_ns)))

    def give_up(self) -> int | None:
        """Forget everything: there is no time left to deliver it.

        What was acknowledged stays known: the rest is what the collector finds missing.

        Returns:
            When the first of the spans ended, None if there were none.
        """
        first_ns = min((entry.first_ns for entry in self._entries.values()), default=None)
        self._entries.clear()
        self._expendable.clear()
        self._bytes = 0
        return first_ns

    def body_of(self, entry: Entry) -> bytes:
        """Return what is to be sent; a batch that cannot be read any more becomes a tombstone."""
        if entry.body is None and entry.place is not None and self._shelf is not None:
            try:
                return self._shelf.read(entry.place)
            except (OSError, ValueError):
                diagnostics.count("spool_damaged")
                self._make_tombstone(entry)
        return pack_stretch(entry.first_ns, entry.last_ns) if entry.body is None else entry.body

    def mark_sent(self, entry: Entry) -> None:
        """Remember that the collector may have it from now on."""
        entry.sent = True
        if self._expendable and self._expendable[0] is entry:
            self._expendable.popleft()

    def retire(self, next_sequence: int) -> int:
        """Forget the entries below a number.

        Returns:
            How many there were.
        """
        count = 0
        while self._entries:
            first = next(iter(self._entries.values()))
            if first.end > next_sequence:
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
        """Put a tombstone in place of a batch, or make the one before it longer."""
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
