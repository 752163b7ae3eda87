"""The spool's files: what they are called, what is in them, and whose they may be.

One idea: every piece of them is checked when it is read, because its writer may have been killed at any
moment. An incarnation has one page, ``HEX.page``, and segments, ``HEX.NUMBER.spans``. The page begins with
who it belongs to, and ends with counters that its owner keeps in shared memory: they outlive the process,
not the machine. A segment is a row of records, one for each batch.

A page of another version is left alone by whoever finds it.
"""

import os
import stat
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from ztrace.publishing.window import Place
from ztrace.wire import Identity

#: First bytes of a page and of a segment; with the version they keep their place in every future version.
PAGE_MAGIC, SEGMENT_MAGIC = b"ZTSPOOL\n", b"ZTSPANS\n"
#: Raised when one of them no longer reads as before.
VERSION = 1
#: Bytes of a page: the smallest piece of a file that can be mapped.
PAGE_BYTES = 4096
#: A segment takes no further batch beyond this: small enough to be deleted soon, when it is delivered.
SEGMENT_BYTES = 4 << 20
#: The endings of the files' names. A page is NEW until it is complete and locked.
PAGE, SEGMENT, NEW = ".page", ".spans", ".new"

#: The counters of a page, as positions in it seen as 512 numbers of eight bytes: spans created and dropped,
#: the next sequence number, how it ended, when the owner was last seen, and two pairs of floor and retired
#: with the number of the valid one.
CREATED, DROPPED, NEXT, ENDED, ALIVE_NS, VALID, FLOORS = 384, 385, 386, 387, 388, 389, 390
#: What ENDED has: not yet (or killed), closed with batches left, closed with everything delivered.
OPEN, LEFT, DELIVERED = 0, 1, 2

#: What each record begins with: where a damaged one has to be passed over, the next is found by it.
_MARK = b"ZTB\x01"
#: Mark, CRC of the body, sequence, spans before, spans, first and last end, bytes of the body; then the CRC
#: of all these.
_FIELDS = struct.Struct("=4sIQQQQQI")
_CRC = struct.Struct("=I")
RECORD_BYTES = _FIELDS.size + _CRC.size
_SEGMENT_HEADER = struct.Struct("=8sI4x")
SEGMENT_HEADER_BYTES = _SEGMENT_HEADER.size
#: Magic, version, incarnation, process id, start, bytes of the service's and of the host's name.
_IDENTITY = struct.Struct("=8sI16sQQHH")
#: Bytes read at once in search of a mark.
_SEARCH_BYTES = 1 << 16


def check_folder(folder: Path) -> None:
    """Refuse a folder that others could put files into.

    Raises:
        OSError: it is somebody else's, or others may write to it.
    """
    status = folder.stat()
    if status.st_uid not in (os.geteuid(), 0) and os.geteuid():
        raise PermissionError(f"{folder} belongs to another user")
    if status.st_mode & 0o022:
        raise PermissionError(f"others may write to {folder}: chmod go-w")


def open_file(path: Path, flags: int) -> int:
    """Open a regular file, not through a link; what is made is for its owner alone.

    Raises:
        OSError: it is not there, or something else.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PermissionError(f"{path} is not a regular file")
    return descriptor


def folder_bytes(folder: Path) -> int:
    """Return how much all files of a spool take, whoever they belong to."""
    total = 0
    with os.scandir(folder) as files:
        for file in files:
            try:
                total += file.stat(follow_symlinks=False).st_size
            except OSError:
                pass  # Gone in this moment.
    return total


def segment_path(folder: Path, incarnation: bytes, number: int) -> Path:
    """Return the path of a segment."""
    return folder / f"{incarnation.hex()}.{number:08d}{SEGMENT}"


def segment_numbers(folder: Path, incarnation: bytes) -> list[int]:
    """Return the numbers of the segments that are there, in their order."""
    numbers = [path.name.split(".")[1] for path in folder.glob(f"{incarnation.hex()}.*{SEGMENT}")]
    return sorted(int(number) for number in numbers if number.isdecimal())


def pack_page(identity: Identity) -> bytes:
    """Return a new page."""
    service, host = (name[:256].encode("utf-8", "replace") for name in (identity.service, identity.host))
    head = _IDENTITY.pack(
        PAGE_MAGIC,
        VERSION,
        identity.incarnation,
        identity.pid,
        identity.started_ns,
        len(service),
        len(host),
    )
    head += service + host
    return (head + _CRC.pack(zlib.crc32(head))).ljust(PAGE_BYTES, b"\0")


def unpack_page(page: bytes) -> Identity | None:
    """Return whose page it is; None if it is damaged, of another version, or none at all."""
    if len(page) != PAGE_BYTES:
        return None
    magic, version, incarnation, pid, started_ns, service, host = _IDENTITY.unpack_from(page)
    end = _IDENTITY.size + service + host
    if magic != PAGE_MAGIC or version != VERSION or end + _CRC.size > 8 * CREATED:
        return None
    if _CRC.unpack_from(page, end)[0] != zlib.crc32(page[:end]):
        return None
    names = page[_IDENTITY.size : end]
    return Identity(incarnation, names[:service].decode(), names[service:].decode(), pid, started_ns)


def pack_segment_header() -> bytes:
    """Return what a segment begins with."""
    return _SEGMENT_HEADER.pack(SEGMENT_MAGIC, VERSION)


def pack_record(entry: Place, body: bytes) -> bytes:
    """Return what goes before the body."""
    fields = _FIELDS.pack(_MARK, zlib.crc32(body), *entry[:5], len(body))
    return fields + _CRC.pack(zlib.crc32(fields))


def read_body(descriptor: int, entry: Place) -> bytes:
    """Read a batch.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not what was written.
    """
    record = os.pread(descriptor, RECORD_BYTES + entry.size, entry.offset)
    body = record[RECORD_BYTES:]
    if record[:RECORD_BYTES] != pack_record(entry, body):
        raise ValueError("damaged batch")
    return body


def walk_segment(descriptor: int, number: int) -> Iterator[Place]:
    """Yield the batches of a segment; what is damaged or incomplete is passed over.

    The bodies are not read: `read_body` tells whether one is sound.
    """
    end = os.fstat(descriptor).st_size
    if os.pread(descriptor, SEGMENT_HEADER_BYTES, 0) != pack_segment_header():
        return
    offset = SEGMENT_HEADER_BYTES
    while offset + RECORD_BYTES <= end:
        entry = _read_entry(descriptor, number, offset)
        if entry is None:
            offset = _find_mark(descriptor, offset + 1, end)
        elif offset + RECORD_BYTES + entry.size > end:
            offset = _find_mark(descriptor, offset + 1, end)  # Cut off: its writer was killed.
        else:
            yield entry
            offset += RECORD_BYTES + entry.size


def _read_entry(descriptor: int, number: int, offset: int) -> Place | None:
    record = os.pread(descriptor, RECORD_BYTES, offset)
    if len(record) < RECORD_BYTES or not record.startswith(_MARK):
        return None
    fields = record[: _FIELDS.size]
    if _CRC.unpack_from(record, _FIELDS.size)[0] != zlib.crc32(fields):
        return None
    _, _, sequence, spans_before, span_count, first_ns, last_ns, size = _FIELDS.unpack(fields)
    return Place(sequence, spans_before, span_count, first_ns, last_ns, number, offset, size)


def _find_mark(descriptor: int, offset: int, end: int) -> int:
    """Return where the next record may begin, or the end."""
    while offset < end:
        piece = os.pread(descriptor, _SEARCH_BYTES, offset)
        found = piece.find(_MARK)
        if found >= 0:
            return offset + found
        if len(piece) < len(_MARK):
            break
        offset += len(piece) - len(_MARK) + 1  # The mark may lie across two pieces.
    return end
