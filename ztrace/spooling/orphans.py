"""Orphans: spools of incarnations that have ended.

One idea: the process that acquires the lock of a page adopts the spool. The owner held the lock until it
ended, when the kernel released it; the adopting process holds it while it delivers, so there is never a
second one.
"""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ztrace.native import unix_ns
from ztrace.process.descriptors import OwnFile
from ztrace.publishing.window import Place
from ztrace.records import INT64_MAX
from ztrace.spooling import files
from ztrace.wire import Identity

#: Age at which segments without a page and incomplete pages are deleted. Younger ones may still be in use,
#: and without a page their spans cannot be counted.
_LEFTOVER_S = 86400.0


def find_orphans(folder: Path) -> Iterator["Orphan"]:
    """Yield the orphans of a folder, each locked; the caller ends each with `delete` or `release`.

    A missing folder has none. Orphans that hold nothing to deliver are deleted.

    Raises:
        OSError: the folder cannot be read, or others could write to it.
    """
    if not folder.is_dir():
        return
    files.check_folder(folder)
    _remove_leftovers(folder)
    for path in sorted(folder.glob(f"*{files.PAGE}")):
        orphan = _take(folder, path)
        if orphan is None:
            continue
        if orphan.delivered or not (orphan.created or orphan.next_sequence):
            orphan.delete()
        else:
            yield orphan


class Orphan:
    """Spool of an ended incarnation, locked by the adopting process.

    Attributes:
        identity: its identity.
        incarnation: its id.
        created: spans it ended.
        dropped: spans among them that found no room.
        sampled: samples it took.
        next_sequence: the first number it never gave out.
        floor: below this everything was acknowledged, as far as it knew.
        retired: spans in the numbers below.
        ended: it was closed, and did not crash.
        delivered: it was closed with everything acknowledged, and only its files are left.
        last_ns: when it was last seen.
    """

    def __init__(self, folder: Path, lock: int, identity: Identity, page: memoryview) -> None:
        self._folder = folder
        self._lock = OwnFile(lock)
        self.identity, self.incarnation = identity, identity.incarnation
        self.created = page[files.CREATED]
        self.dropped = page[files.DROPPED]
        self.sampled = page[files.SAMPLED]
        self.next_sequence = page[files.NEXT]
        self.ended = page[files.ENDED] != files.OPEN
        self.delivered = page[files.ENDED] == files.DELIVERED
        self.last_ns = page[files.ALIVE_NS]
        valid = files.FLOORS + 2 * (page[files.VALID] & 1)
        self.floor, self.retired = page[valid], page[valid + 1]
        self._reading: OwnFile | None = None
        self._reading_number = -1

    @property
    def is_sound(self) -> bool:
        """True if the counts are possible; a collector would refuse impossible ones forever."""
        return (
            max(self.retired, self.dropped) <= self.created <= INT64_MAX
            and self.sampled <= INT64_MAX
            and self.floor <= self.next_sequence <= INT64_MAX
        )

    @property
    def entries(self) -> list[Place]:
        """Batches that are not known to be acknowledged."""
        return list(self.walk(self.floor))

    def walk(self, floor: int) -> Iterator[Place]:
        """Yield the batches from a sequence number on, in order, without keeping all of them in memory.

        The numbers between two of them, and the spans in these, are lost.
        """
        spans = 0
        for number in files.segment_numbers(self._folder, self.incarnation):
            path = files.segment_path(self._folder, self.incarnation, number)
            try:
                descriptor = files.open_file(path, os.O_RDONLY)
            except OSError:
                continue
            try:
                for entry in files.walk_segment(descriptor, number):
                    if entry.sequence >= floor and entry.spans_before >= spans:
                        floor, spans = entry.sequence + 1, entry.spans_before + entry.span_count
                        yield entry
            except OSError:
                continue  # Unreadable segments are lost, as damaged ones are.
            finally:
                os.close(descriptor)

    def read(self, entry: Place) -> bytes:
        """Read the body of a batch.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not what was written.
        """
        return files.read_body(self._open(entry.segment), entry)

    def delete(self) -> None:
        """Delete the files, once everything is acknowledged, the end included."""
        try:
            for number in files.segment_numbers(self._folder, self.incarnation):
                files.segment_path(self._folder, self.incarnation, number).unlink(missing_ok=True)
            (self._folder / f"{self.incarnation.hex()}{files.PAGE}").unlink(missing_ok=True)
        finally:
            self.release()

    def release(self) -> None:
        """Release the lock, and leave the files to the next process that looks."""
        if self._reading is not None:
            self._reading.close()
            self._reading = None
        self._lock.close()

    def _open(self, number: int) -> int:
        if self._reading is None or self._reading_number != number:
            path = files.segment_path(self._folder, self.incarnation, number)
            reading, self._reading = self._reading, OwnFile(files.open_file(path, os.O_RDONLY))
            self._reading_number = number
            if reading is not None:
                reading.close()
        return self._reading.fileno()


def _take(folder: Path, path: Path) -> Orphan | None:
    """Return the orphan of a page; None if its owner runs, it is being adopted, or the page is invalid."""
    try:
        lock = files.open_file(path, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another process may have deleted the file between opening and locking.
        gone = os.fstat(lock).st_ino != path.stat(follow_symlinks=False).st_ino
        page = os.pread(lock, files.PAGE_BYTES + 1, 0)
        identity = files.unpack_page(page)
        if not gone and identity is not None and path.stem == identity.incarnation.hex():
            orphan = Orphan(folder, lock, identity, memoryview(page).cast("Q"))
            if orphan.is_sound:
                lock = -1
                return orphan
    except (OSError, UnicodeError):
        pass
    finally:
        if lock >= 0:
            os.close(lock)
    return None


def _remove_leftovers(folder: Path) -> None:
    """Delete files that cannot be delivered: segments without a page, and incomplete pages."""
    before_s = unix_ns() / 1e9 - _LEFTOVER_S
    pages = {path.stem for path in folder.glob(f"*{files.PAGE}")}
    for path in [*folder.glob(f"*{files.SEGMENT}"), *folder.glob(f"*{files.NEW}")]:
        try:
            if path.name.split(".")[0] not in pages and path.stat(follow_symlinks=False).st_mtime < before_s:
                path.unlink()
        except OSError:
            pass  # Already deleted, or another user's.
