"""Files of the spool: names, layout, checksums and permissions.

One idea: every part is verified when it is read, since its writer may have been killed at any moment. An
incarnation has one page, ``HEX.page``, and segments, ``HEX.NUMBER.spans``. The page starts with the identity
of its owner, and ends with counters that the owner keeps in shared memory, which outlives the process but not
the machine. A segment is a sequence of records, one for each batch.

Pages of other versions are ignored.
"""

import os
import stat
import struct
import zlib
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

from ztrace.process.owners import is_trusted, name_user
from ztrace.publishing.window import Place
from ztrace.wire import Identity

#: First bytes of a page and of a segment; they and the version keep their position in all future versions.
PAGE_MAGIC, SEGMENT_MAGIC = b"ZTSPOOL\n", b"ZTSPANS\n"
#: Incremented with every incompatible change of either.
VERSION = 1
#: Size of a page: the smallest part of a file that can be mapped.
PAGE_BYTES = 4096
#: Size at which a segment is full: small, so that it can be deleted soon after its delivery.
SEGMENT_BYTES = 4 << 20
#: Suffixes of the files; a page is NEW until it is complete and locked.
PAGE, SEGMENT, NEW = ".page", ".spans", ".new"

#: Positions of the counters in a page, as an array of 512 integers of eight bytes: spans created and dropped,
#: next sequence number, how it ended, last sign of life, two pairs of floor and retired with the index of the
#: valid pair, and samples taken.
CREATED, DROPPED, NEXT, ENDED, ALIVE_NS, VALID, FLOORS, SAMPLED = 384, 385, 386, 387, 388, 389, 390, 394
#: Values of ENDED: running or killed, closed with batches left, closed with everything delivered.
OPEN, LEFT, DELIVERED = 0, 1, 2

#: First bytes of a record, by which the next one is found after a damaged record.
_MARK = b"ZTB\x01"
#: Mark, CRC of the body, sequence, spans before, spans, first and last end, size of the body; then the CRC of
#: all these.
_FIELDS = struct.Struct("=4sIQQQQQI")
_CRC = struct.Struct("=I")
RECORD_BYTES = _FIELDS.size + _CRC.size
_SEGMENT_HEADER = struct.Struct("=8sI4x")
SEGMENT_HEADER_BYTES = _SEGMENT_HEADER.size
#: Magic, version, incarnation, process id, start, sizes of the service's and the host's name and of the
#: service's version.
_IDENTITY = struct.Struct("=8sI16sQQHHH")
#: Bytes read at a time when searching for a mark.
_SEARCH_BYTES = 1 << 16


def check_folder(folder: Path) -> None:
    """Check that no other user can put files into a folder.

    Raises:
        OSError: another user owns the folder or may write to it.
    """
    status = folder.stat()
    if not is_trusted(status.st_uid):
        raise PermissionError(f"{folder} belongs to another user, {name_user(status.st_uid)}")
    if status.st_mode & 0o022:
        raise PermissionError(f"others may write to {folder}: chmod go-w")


def open_file(path: Path, flags: int) -> int:
    """Open a regular file without following links; a created file has mode 0600. The caller closes it.

    Raises:
        OSError: the file does not exist, is not a regular file, or belongs to another user.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        os.close(descriptor)
        raise PermissionError(f"{path} is not a regular file, or belongs to another user")
    return descriptor


def folder_bytes(folder: Path) -> int:
    """Return the size of all files in a spool folder, of all processes."""
    total = 0
    with os.scandir(folder) as files:
        for file in files:
            try:
                total += file.stat(follow_symlinks=False).st_size
            except OSError:
                pass  # Gone in this moment.
    return total


def segment_path(folder: Path, incarnation: bytes, number: int) -> Path:
    """Return the path of a segment by its number."""
    return folder / f"{incarnation.hex()}.{number:08d}{SEGMENT}"


def segment_numbers(folder: Path, incarnation: bytes) -> list[int]:
    """Return the numbers of the existing segments, in order."""
    numbers = [path.name.split(".")[1] for path in folder.glob(f"{incarnation.hex()}.*{SEGMENT}")]
    return sorted(int(number) for number in numbers if number.isdecimal())


def pack_page(identity: Identity) -> bytes:
    """Return the bytes of a new page."""
    names = identity.service[:256], identity.host[:256], identity.service_version[:100]
    service, host, service_version = (name.encode("utf-8", "replace") for name in names)
    head = _IDENTITY.pack(
        PAGE_MAGIC,
        VERSION,
        identity.incarnation,
        identity.pid,
        identity.started_ns,
        len(service),
        len(host),
        len(service_version),
    )
    head += service + host + service_version
    return (head + _CRC.pack(zlib.crc32(head))).ljust(PAGE_BYTES, b"\0")


def unpack_page(page: bytes) -> Identity | None:
    """Return the identity of a page's owner; None if the page is damaged or of another version."""
    if len(page) != PAGE_BYTES:
        return None
    magic, version, incarnation, pid, started_ns, *sizes = _IDENTITY.unpack_from(page)
    end = _IDENTITY.size + sum(sizes)
    if magic != PAGE_MAGIC or version != VERSION or end + _CRC.size > 8 * CREATED:
        return None
    if _CRC.unpack_from(page, end)[0] != zlib.crc32(page[:end]):
        return None
    *starts, _ = accumulate(sizes, initial=_IDENTITY.size)
    service, host, service_version = (
        page[start : start + size].decode() for start, size in zip(starts, sizes, strict=True)
    )
    return Identity(incarnation, service, host, pid, started_ns, service_version)


def pack_segment_header() -> bytes:
    """Return the header of a segment."""
    return _SEGMENT_HEADER.pack(SEGMENT_MAGIC, VERSION)


def pack_record(entry: Place, body: bytes) -> bytes:
    """Return the bytes that precede a record's body."""
    fields = _FIELDS.pack(_MARK, zlib.crc32(body), *entry[:5], len(body))
    return fields + _CRC.pack(zlib.crc32(fields))


def read_body(descriptor: int, entry: Place) -> bytes:
    """Read the body of a batch.

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
    """Yield the batches of a segment, skipping damaged and incomplete records.

    Bodies are not read; `read_body` verifies them.
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
    """Return the offset of the next possible record, or of the end."""
    while offset < end:
        piece = os.pread(descriptor, _SEARCH_BYTES, offset)
        found = piece.find(_MARK)
        if found >= 0:
            return offset + found
        if len(piece) < len(_MARK):
            break
        offset += len(piece) - len(_MARK) + 1  # The mark may lie across two pieces.
    return end
