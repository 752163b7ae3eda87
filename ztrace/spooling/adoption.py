"""Delivery of the spools that ended processes left in the folder.

One idea: an orphan is delivered under its own incarnation, by the rules of a running one, so the collector
needs no code for adoption: it recognizes batches that it has, and the CRASH (or BYE) at the end closes the
account with everything that was counted and never written.
"""

from collections.abc import Mapping
from pathlib import Path

from ztrace.publishing.delivery import Delivery, Send, Totals
from ztrace.publishing.window import Entry, Place, Window
from ztrace.spooling.orphans import Orphan, find_orphans
from ztrace.wire import BYE, CRASH, DATA, PROFILE, TOMBSTONE

#: Interval between two searches of the folder.
PERIOD_S = 10.0
#: Maximum number of an orphan's entries in flight; the process's own spans come first.
IN_FLIGHT = 8
#: Size limit of an orphan's window, whose bodies stay on disk.
_UNLIMITED = 1 << 62


class Inheritance:
    """Delivery of one orphan to the collector."""

    def __init__(self, orphan: Orphan, now_s: float, collector: str, collectors: int) -> None:
        self._orphan = orphan
        totals = Totals(orphan.created, orphan.dropped, {}, orphan.sampled)
        # Which collectors have acknowledged its batches is not known: with several, any may have.
        self.delivery = Delivery(
            orphan.identity, _read_window(orphan), lambda: totals, now_s, collectors=collectors
        )
        self.delivery.start_over(now_s, collector)
        self.delivery.limit = IN_FLIGHT

    @property
    def is_delivered(self) -> bool:
        """True once the collector has stored everything."""
        return not self.delivery.window

    def close(self) -> None:
        """Delete the files if everything is delivered; otherwise release them."""
        if self.is_delivered:
            self._orphan.delete()
        else:
            self._orphan.release()

    def abandon(self) -> None:
        """Release the files, which the parent delivers."""
        self._orphan.release()


class Adoption:
    """Search for orphans, and their delivery one at a time."""

    def __init__(self, folder: Path, now_s: float, service: str | None = None, collectors: int = 1) -> None:
        """Start; the first search is made by the first `step`.

        Args:
            folder: where spools are.
            now_s: the monotonic time, by the clock of the times given to `step`.
            service: service whose orphans are adopted; None for those of any.
            collectors: number of collectors that may have received the orphans' messages.
        """
        self._folder = folder
        self._service = service
        self._collector, self._collectors = "", collectors
        self._look_s = now_s
        self._current: Inheritance | None = None

    def step(self, send: Send, now_s: float) -> bool:
        """Send some entries of the current orphan.

        Returns:
            Whether there is an orphan.
        """
        if self._current is not None and self._current.is_delivered:
            self.close()
            self._look_s = now_s
        if self._current is None and now_s >= self._look_s:
            self._look_s = now_s + PERIOD_S
            self._current = self._find(now_s)
        if self._current is None:
            return False
        while self._current.delivery.send(send, now_s):
            pass
        return True

    def _find(self, now_s: float) -> Inheritance | None:
        for orphan in find_orphans(self._folder):
            if self._service in (None, orphan.identity.service):
                return Inheritance(orphan, now_s, self._collector, self._collectors)
            orphan.release()
        return None

    def acknowledge(self, acks: Mapping[bytes, int], now_s: float) -> None:
        """Process acknowledgements, by incarnation."""
        if self._current is not None:
            next_sequence = acks.get(self._current.delivery.incarnation)
            if next_sequence is not None:
                self._current.delivery.acknowledge(next_sequence, now_s)

    def start_over(self, now_s: float, collector: str) -> None:
        """Send again what is not acknowledged, over a new connection to a collector."""
        self._collector = collector
        if self._current is not None:
            self._current.delivery.start_over(now_s, collector)

    def close(self) -> None:
        """Release the current orphan, or delete it if it is delivered."""
        current, self._current = self._current, None
        if current is not None:
            current.close()

    def abandon(self) -> None:
        """Release the parent's files in a forked child, which leaves them as they are."""
        current, self._current = self._current, None
        if current is not None:
            current.abandon()


class _Shelf:
    """Bodies of an orphan's window, which stay on disk."""

    def __init__(self, orphan: Orphan) -> None:
        self._orphan = orphan

    def append(
        self, sequence: int, spans_before: int, span_count: int, first_ns: int, last_ns: int, body: bytes
    ) -> Place:
        raise OSError("an orphan gets nothing more")

    def read(self, place: Place) -> bytes:
        return self._orphan.read(place)

    def release(self, floor: int, retired: int) -> None:
        """Keep the files; all are deleted at once, when everything is stored."""


def _read_window(orphan: Orphan) -> Window:
    """Return an orphan's window: its batches, holes for the missing numbers, and its end.

    Numbers are missing where the spool or its disk was full or a record is damaged. Some of them may have
    arrived, so they are reported as holes without a count: their spans that are not stored are in the
    difference that the collector finds at the end, like the spans that never got a number.
    """
    window = Window(_UNLIMITED, _Shelf(orphan))
    window.begin(orphan.floor, orphan.retired)
    last_ns = orphan.identity.started_ns
    for place in orphan.entries:
        _skip_to(window, place.sequence, last_ns)
        window.restore(
            Entry(
                # A batch of spans has at least one.
                DATA if place.span_count else PROFILE,
                place.sequence,
                place.span_count,
                place.first_ns,
                place.last_ns,
                None,
                place,
            )
        )
        last_ns = max(last_ns, place.last_ns)
    _skip_to(window, orphan.next_sequence, last_ns)
    window.note_sent()
    window.end(BYE if orphan.ended else CRASH, last_ns, max(last_ns, orphan.last_ns))
    return window


def _skip_to(window: Window, sequence: int, at_ns: int) -> None:
    if sequence > window.next_sequence:
        covered = sequence - window.next_sequence
        window.restore(Entry(TOMBSTONE, window.next_sequence, 0, at_ns, at_ns, covered=covered))
