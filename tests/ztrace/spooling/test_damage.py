"""Spool files with random damage: no failure, and no batch or count that was not written."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ztrace.spooling.adoption import Adoption
from ztrace.spooling.orphans import find_orphans
from ztrace.spooling.spool import Spool
from ztrace.wire import DATA, TOMBSTONE, Header, Identity, unpack_header

INCARNATION = bytes(range(16))
#: Distinct numbers of spans per batch, so a mixed-up batch is detected.
COUNTS = (1, 2, 4, 8, 16, 32)
BODIES = tuple(os.urandom(100 * count) for count in COUNTS)
#: Batches below this sequence number were acknowledged.
FLOOR = 2

#: Position as a share of the file, with the bits to flip, None to truncate, or bytes to insert.
damages = st.lists(
    st.tuples(st.floats(0, 1), st.integers(1, 255) | st.none() | st.binary(min_size=1, max_size=300)),
    max_size=4,
)


@contextmanager
def left_spool() -> Iterator[Path]:
    """Yield a spool folder as left by a killed process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "spool"
        spool = Spool(folder, Identity(INCARNATION, "billing", "host", 77, 1_000))
        for _ in range(sum(COUNTS) + 3):
            spool.count()
        for number, (count, body) in enumerate(zip(COUNTS, BODIES, strict=True)):
            spool.append(number, sum(COUNTS[:number]), count, 10, 20, body)
        spool.release(FLOOR, sum(COUNTS[:FLOOR]))
        spool.abandon()
        yield folder


def damage(path: Path, changes: list[tuple[float, int | bytes | None]]) -> None:
    """Apply the changes to a file."""
    data = bytearray(path.read_bytes())
    for share, change in changes:
        place = int(share * max(0, len(data) - 1))
        if change is None:
            del data[place:]
        elif isinstance(change, bytes):
            data[place:place] = change
        elif data:
            data[place] ^= change
    path.write_bytes(data)


@given(changes=damages)
def test_a_damaged_segment_gives_nothing_that_was_not_written(
    changes: list[tuple[float, int | bytes | None]],
) -> None:
    """A damaged segment yields only batches that were written, with correct counts from the page."""
    with left_spool() as folder:
        (segment,) = folder.glob("*.spans")
        damage(segment, changes)
        (orphan,) = find_orphans(folder)
        assert (orphan.created, orphan.floor, orphan.next_sequence) == (sum(COUNTS) + 3, FLOOR, len(COUNTS))
        entries = orphan.entries
        assert [entry.sequence for entry in entries] == sorted({entry.sequence for entry in entries})
        for entry in entries:
            assert entry.span_count == COUNTS[entry.sequence]
            try:
                assert orphan.read(entry) == BODIES[entry.sequence]
            except ValueError:
                assert changes
        orphan.release()


@given(changes=damages, of_segment=damages)
def test_whatever_is_left_is_delivered_or_left_alone(
    changes: list[tuple[float, int | bytes | None]], of_segment: list[tuple[float, int | bytes | None]]
) -> None:
    """Adopting damaged files sends valid messages only, each sequence number once, and terminates."""
    with left_spool() as folder:
        (page,), (segment,) = folder.glob("*.page"), folder.glob("*.spans")
        damage(page, changes)
        damage(segment, of_segment)
        adoption = Adoption(folder, 0.0)
        sent: list[Header] = []

        def send(frames: object) -> bool:
            assert isinstance(frames, tuple)
            sent.append(unpack_header(frames[1]))
            return True

        while adoption.step(send, 0.0):
            last = sent[-1]
            adoption.acknowledge({last.incarnation: last.sequence + last.covered}, 0.0)
        adoption.close()
        for header in sent:
            assert header.incarnation == INCARNATION
            assert header.kind != DATA or header.span_count == COUNTS[header.sequence]
        numbers = [header.sequence for header in sent if header.kind in (DATA, TOMBSTONE)]
        assert numbers == sorted(set(numbers))
        if sent:
            assert list(folder.iterdir()) == []
