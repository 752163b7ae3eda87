"""The spool: what a process has not delivered yet, in files that outlive it.

One idea: the kernel keeps what is written to a file or to shared memory, whatever becomes of the process. So
after a kill, a later incarnation, or the collector, finds the batches here, and in the page how many spans
there were: it delivers the ones and counts the others (`orphans`, `adoption`). A crash of the machine is
another matter: nothing is forced to the disk.

The hot path only ever counts, in one call that is written in C: it is not interrupted, needs no lock, and
costs some 60 ns. Everything else is called by one thread, the publisher's.
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

#: Bytes of all files of a folder, unless told otherwise: a quarter of an hour of a busy service.
SPOOL_BYTES = 256 << 20
#: Batches of one incarnation: for each it, and later its heir, keeps some 500 bytes in memory.
MAX_BATCHES = 100_000
#: How old a look at the folder's size may be: fifty processes share it, and each look costs them all.
_LOOK_S = 1.0
#: The share of the limit that may be written between two looks.
_UNSEEN = 1024
#: A delivered segment that has grown beyond this is emptied: not each time, but before it counts.
_STALE_BYTES = 1 << 16


@dataclass(slots=True)
class _Segment:
    number: int
    size: int
    last_sequence: int


class Spool:
    """One incarnation's files, in the process that they belong to.

    As long as it is open it holds a lock, which the kernel gives back however the process ends.

    Attributes:
        count: to be called once for each span that has ended, before it is queued, by any thread.
    """

    def __init__(
        self,
        folder: Path,
        identity: Identity,
        limit_bytes: int = SPOOL_BYTES,
    ) -> None:
        """Make the folder if there is none, and the page.

        Raises:
            OSError: one of them cannot be made, or others could write to the folder.
        """
        self._folder = folder
        self._incarnation = identity.incarnation
        self._limit_bytes = limit_bytes
        self._segments: deque[_Segment] = deque()
        self._segment_count = 0
        self._floor = 0
        #: The last segment's file, and another segment's that is read from, with its number.
        self._writing: OwnFile | None = None
        self._reading: OwnFile | None = None
        self._reading_number = -1
        self._folder_bytes = self._unseen_bytes = 0
        self._looked_s = float("-inf")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.check_folder(folder)
        self._page_path = folder / f"{identity.incarnation.hex()}{files.PAGE}"
        new = self._page_path.with_suffix(files.NEW)
        self._lock = OwnFile(files.open_file(new, os.O_RDWR | os.O_CREAT | os.O_EXCL))
        try:
            # Locked and complete before it has the name that others look for.
            fcntl.flock(self._lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Written, not only made long enough: a page in a hole could not be touched when the disk is full.
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
        """Another process can find the spool: its page is where it was, and still this one's."""
        try:
            status = self._page_path.stat(follow_symlinks=False)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._page_identity

    @property
    def created(self) -> int:
        """How often `count` has been called."""
        return self._page[files.CREATED]

    @property
    def size_bytes(self) -> int:
        """What the files of this incarnation take."""
        return files.PAGE_BYTES + sum(segment.size for segment in self._segments)

    def note_dropped(self, dropped: int) -> None:
        """Keep how many spans were dropped so far for want of room; called now and then, it tells of life."""
        self._page[files.DROPPED] = dropped
        self._page[files.ALIVE_NS] = unix_ns()

    def append(
        self, sequence: int, spans_before: int, span_count: int, first_ns: int, last_ns: int, body: bytes
    ) -> Place:
        """Write a batch, in one system call; every batch has to come by here before it is sent.

        Args:
            sequence: its number, the next after the one before.
            spans_before: spans of all batches with lower numbers.
            span_count: its own.
            first_ns: when the first of its spans ended, Unix.
            last_ns: when the last one did.
            body: the spans, encoded.

        Raises:
            OSError: the disk or the spool is full; the number is known to be given out nevertheless.
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
            # Afterwards: whoever is killed before has not sent it, and its number is still free.
            self._page[files.NEXT] = sequence + 1

    def read(self, place: Place) -> bytes:
        """Return the body of a batch.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not what was written.
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
        """Give up what is acknowledged.

        Args:
            floor: the lowest sequence number that is not.
            retired: spans in the numbers below.
        """
        self._floor = floor
        # Two numbers that belong together: written where they are not valid yet, then made so.
        # The end has a number as well, and no batch.
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
        """End well; what is left belongs to whoever finds it.

        Args:
            delivered: everything is acknowledged, the end too: no file is left.
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
                self._page_path.unlink(missing_ok=True)  # Last: what is left without a page is lost.
        finally:
            # The page stays mapped as long as there is somebody to count in it.
            self._close_files()

    def abandon(self) -> None:
        """Let go of the parent's files in a forked child; they are as they were."""
        self._close_files()
        self.count = _count_nothing
        self._page.release()
        try:
            self._map.close()
        except BufferError:
            pass  # Somebody looks at it.

    def _find_room(self, size: int) -> None:
        """See that the folder does not grow beyond its limit, whoever else writes to it."""
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
                self._stop_writing()  # Without its header it is of no use.
            raise
        segment.size += size
        self._folder_bytes += size
        self._unseen_bytes += size

    def _cut(self, segment: _Segment, size: int) -> None:
        """Cut the segment that is being written to a size, or else write no more to it."""
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
        self._lock.close()  # Gives the lock back, unless it is the parent's.


def _map_page(path: Path) -> mmap.mmap:
    """Map a page, through a file of its own: the mapping keeps it open, in forked children too."""
    descriptor = files.open_file(path, os.O_RDWR)
    try:
        return mmap.mmap(descriptor, files.PAGE_BYTES)
    finally:
        os.close(descriptor)


def _count_nothing() -> None:
    """Stand in for `Spool.count` in a forked child."""
