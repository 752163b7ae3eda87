"""Spool of one incarnation: its undelivered batches, in files that outlive the process.

One idea: the kernel keeps whatever a process has written to a file or to shared memory, however the process
ends. After a kill, a later incarnation or the collector finds the batches in the segments, and the number of
spans in the page; it delivers the former and counts the rest as lost (`orphans`, `adoption`). A crash of the
machine can lose both, since nothing is forced to disk.

The hot path only increments a counter, by one call into C, which is not interrupted, takes no lock and costs
some 60 ns. Only the publisher's thread calls everything else.
"""

import errno
import fcntl
import mmap
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, repeat
from operator import setitem
from pathlib import Path
from typing import Any, cast

from ztrace.native import monotonic, unix_ns
from ztrace.process.descriptors import OwnFile
from ztrace.publishing.window import Place
from ztrace.spooling import files
from ztrace.wire import Identity

#: Default limit of the folder in bytes: a quarter of an hour of a busy service.
SPOOL_BYTES = 256 << 20
#: Maximum number of batches of an incarnation; each takes some 500 bytes of memory, here and when adopted.
MAX_BATCHES = 100_000
#: Maximum age of the folder's measured size; measuring costs all processes that share the folder.
_LOOK_S = 1.0
#: Fraction of the limit that may be written between two measurements.
_UNSEEN = 1024
#: Size beyond which a delivered segment is truncated; truncating after each batch would cost too much.
_STALE_BYTES = 1 << 16


@dataclass(slots=True)
class _Segment:
    number: int
    size: int
    last_sequence: int


class Spool:
    """Files of one incarnation, opened by its own process.

    The spool holds a lock while it is open, which the kernel releases however the process ends.

    Attributes:
        count: called by any thread, once for each ended span, before the span is queued.
    """

    def __init__(
        self,
        folder: Path,
        identity: Identity,
        limit_bytes: int = SPOOL_BYTES,
    ) -> None:
        """Create the page, and the folder if it does not exist.

        Raises:
            OSError: either cannot be created, or other users can write to the folder.
        """
        self._folder = folder
        self._incarnation = identity.incarnation
        self._limit_bytes = limit_bytes
        self._segments: deque[_Segment] = deque()
        self._segment_count = 0
        self._floor = 0
        #: File of the last segment, and of another segment that is read from, with its number.
        self._writing: OwnFile | None = None
        self._reading: OwnFile | None = None
        self._reading_number = -1
        self._folder_bytes = self._unseen_bytes = 0
        self._looked_s = float("-inf")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.check_folder(folder)
        self._page_path = folder / f"{identity.incarnation.hex()}{files.PAGE}"
        new = self._page_path.with_suffix(files.NEW)
        new.unlink(missing_ok=True)  # Of an attempt that a signal handler's exception has interrupted.
        self._lock = OwnFile(files.open_file(new, os.O_RDWR | os.O_CREAT | os.O_EXCL))
        try:
            # Locked and complete before it gets the name that other processes look for.
            fcntl.flock(self._lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Written and not only extended: touching a page in a hole fails once the disk is full.
            page = files.pack_page(identity)
            if os.write(self._lock.fileno(), page) != len(page):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(new))
            self._map = _map_page(new)
            new.rename(self._page_path)
        except BaseException:
            self._lock.close()
            new.unlink(missing_ok=True)
            raise
        self._closed = False
        self._page_identity = self._lock.identity
        self._page = memoryview(self._map).cast("Q")
        self._page[files.ALIVE_NS] = unix_ns()
        put: Callable[[object, int, int], None] = cast(Any, setitem)
        self.count: Callable[[], None] = map(
            put, repeat(self._page), repeat(files.CREATED), count(1)
        ).__next__

    @property
    def is_there(self) -> bool:
        """True while the page is still in its place, so that other processes can find the spool."""
        try:
            status = self._page_path.stat(follow_symlinks=False)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._page_identity

    @property
    def created(self) -> int:
        """Number of calls of `count` so far."""
        return self._page[files.CREATED]

    @property
    def size_bytes(self) -> int:
        """Size of the files of this incarnation."""
        return files.PAGE_BYTES + sum(segment.size for segment in self._segments)

    def note_counts(self, dropped: int, sampled: int) -> None:
        """Record the spans dropped and the samples taken so far, and that the process is alive."""
        self._page[files.DROPPED] = dropped
        self._page[files.SAMPLED] = sampled
        self._page[files.ALIVE_NS] = unix_ns()

    def append(
        self, sequence: int, spans_before: int, span_count: int, first_ns: int, last_ns: int, body: bytes
    ) -> Place:
        """Write a batch with one system call; each batch is written before it is sent.

        Args:
            sequence: sequence number of the batch, consecutive.
            spans_before: spans in all batches with lower numbers.
            span_count: spans in the batch.
            first_ns: end of the first of these spans, Unix.
            last_ns: end of the last one.
            body: encoded spans.

        Raises:
            OSError: the disk or the spool is full; the number is recorded as used nevertheless.
        """
        try:
            size = files.RECORD_BYTES + len(body)
            self._find_room(size)
            if sequence - self._floor >= MAX_BATCHES:
                raise OSError(errno.EDQUOT, "too many batches", str(self._folder))
            if (
                self._writing is None
                or not self._writing.is_open
                or self._segments[-1].size + size > files.SEGMENT_BYTES
            ):
                self._begin_segment()
            segment = self._segments[-1]
            place = Place(
                sequence, spans_before, span_count, first_ns, last_ns, segment.number, segment.size, len(body)
            )
            self._write(segment, [files.pack_record(place, body), body], size)
            segment.last_sequence = sequence
            return place
        finally:
            # Last: a process killed before has not sent the batch, and its number is still unused.
            self._page[files.NEXT] = sequence + 1

    def read(self, place: Place) -> bytes:
        """Read the body of a batch.

        Raises:
            OSError: the segment cannot be read.
            ValueError: the body is not the one that was written.
        """
        if self._segments and self._segments[-1].number == place.segment and self._writing is not None:
            return files.read_body(self._writing.fileno(), place)
        if self._reading is None or self._reading_number != place.segment:
            self._stop_reading()
            path = files.segment_path(self._folder, self._incarnation, place.segment)
            self._reading = OwnFile(files.open_file(path, os.O_RDONLY))
            self._reading_number = place.segment
        return files.read_body(self._reading.fileno(), place)

    def release(self, floor: int, retired: int) -> None:
        """Discard acknowledged batches.

        Args:
            floor: lowest sequence number that is not acknowledged.
            retired: spans in all batches below.
        """
        self._floor = floor
        # The pair is written to the invalid slot, which then becomes the valid one. The BYE has a number as
        # well, and no batch.
        self._page[files.NEXT] = max(floor, self._page[files.NEXT])
        valid = 1 - self._page[files.VALID]
        self._page[files.FLOORS + 2 * valid] = floor
        self._page[files.FLOORS + 2 * valid + 1] = retired
        self._page[files.VALID] = valid
        while self._segments and self._segments[0].last_sequence < floor:
            segment = self._segments[0]
            if len(self._segments) == 1 and self._writing is not None:
                if segment.size > _STALE_BYTES:
                    self._cut(segment, files.SEGMENT_HEADER_BYTES)
                return
            if segment.number == self._reading_number:
                self._stop_reading()
            files.segment_path(self._folder, self._incarnation, segment.number).unlink(missing_ok=True)
            self._folder_bytes -= segment.size
            self._segments.popleft()

    def close(self, *, delivered: bool) -> None:
        """Close the files; an adopting process delivers the batches that are left.

        Args:
            delivered: everything is acknowledged, the BYE included, so the files are deleted.
        """
        if self._closed:
            return
        self._closed = True
        delivered = delivered or not self.created
        self._page[files.ALIVE_NS] = unix_ns()
        self._page[files.ENDED] = files.DELIVERED if delivered else files.LEFT
        try:
            if delivered:
                for segment in self._segments:
                    files.segment_path(self._folder, self._incarnation, segment.number).unlink(
                        missing_ok=True
                    )
                self._page_path.unlink(missing_ok=True)  # Last: segments without a page are lost.
        finally:
            # The page stays mapped, since threads may still count spans in it.
            self._close_files()

    def abandon(self) -> None:
        """Close the parent's files in a forked child, unchanged."""
        self._close_files()
        self.count = _count_nothing
        self._page.release()
        try:
            self._map.close()
        except BufferError:
            pass  # A view of the page exists elsewhere.

    def _find_room(self, size: int) -> None:
        """Raise OSError if the folder, which other processes share, would exceed its limit."""
        now_s = monotonic()
        if now_s - self._looked_s >= _LOOK_S or self._unseen_bytes > self._limit_bytes // _UNSEEN:
            self._folder_bytes = files.folder_bytes(self._folder)
            self._looked_s, self._unseen_bytes = now_s, 0
        if self._folder_bytes + size > self._limit_bytes:
            raise OSError(errno.EDQUOT, "the spool is full", str(self._folder))

    def _begin_segment(self) -> None:
        self._stop_writing()
        number = self._segment_count
        self._segment_count += 1
        path = files.segment_path(self._folder, self._incarnation, number)
        self._writing = OwnFile(files.open_file(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))
        self._segments.append(_Segment(number, 0, -1))
        self._write(self._segments[-1], [files.pack_segment_header()], files.SEGMENT_HEADER_BYTES)

    def _write(self, segment: _Segment, parts: list[bytes], size: int) -> None:
        try:
            if self._writing is None or os.writev(self._writing.fileno(), parts) != size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            self._cut(segment, segment.size)
            if not segment.size:
                self._stop_writing()  # A segment without its header is useless.
            raise
        segment.size += size
        self._folder_bytes += size
        self._unseen_bytes += size

    def _cut(self, segment: _Segment, size: int) -> None:
        """Truncate the current segment, or stop writing to it if that fails."""
        try:
            if self._writing is None:
                return
            descriptor = self._writing.fileno()
            os.ftruncate(descriptor, size)
            os.lseek(descriptor, size, os.SEEK_SET)
        except OSError:
            self._stop_writing()
        else:
            self._folder_bytes -= segment.size - size
            segment.size = size

    def _stop_writing(self) -> None:
        if self._writing is not None:
            self._writing.close()
            self._writing = None

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.close()
            self._reading = None

    def _close_files(self) -> None:
        self._stop_writing()
        self._stop_reading()
        self._lock.close()  # Releases the lock, unless the parent holds it.


def _map_page(path: Path) -> mmap.mmap:
    """Map a page through a descriptor of its own, which the mapping keeps open in forked children too."""
    descriptor = files.open_file(path, os.O_RDWR)
    try:
        return mmap.mmap(descriptor, files.PAGE_BYTES)
    finally:
        os.close(descriptor)


def _count_nothing() -> None:
    """Replace `Spool.count` in a forked child, and count nothing."""
