"""Large protobuf requests in pieces, cut from the bytes before any message is built.

One idea: two bytes of protobuf become an object of 175 bytes, so the memory that a body takes is bounded by
the size of what is parsed at a time. The walk reads tags and lengths of resources, scopes and spans, and
nothing inside spans; each piece is a complete request, with the resource and the scope of its spans. Requests
of ordinary size are one piece and are not walked.

Source: https://protobuf.dev/programming-guides/encoding/.
"""

from collections.abc import Callable, Iterator

from ztrace.errors import OtlpError

#: Bytes of a piece, and one span beyond: 45 MB of objects if each has two bytes, and some 1,500 usual spans.
PIECE_BYTES = 512 << 10
#: Largest span, as the largest message of a publisher; a larger one is left out and counted.
MAX_SPAN_BYTES = 1 << 20
#: Bytes of a resource or a scope, which are repeated in each piece of its spans.
MAX_HEAD_BYTES = 128 << 10
#: Resources, scopes and spans of a request: more than can be stored before its sender gives up.
MAX_ENTRIES = 1 << 17

#: Tags of length-delimited fields: the request's resources; a resource's scopes, and a scope's spans.
_RESOURCES, _PARTS = 0x0A, 0x12
#: Bytes of the wire types of fixed size.
_FIXED = {1: 8, 5: 4}
#: Maximum of bytes in a varint.
_MAX_VARINT = 10


class LargeRequest(OtlpError):
    """Request with more spans, or a larger resource, than allowed."""


def divide_bytes(content: bytes | bytearray, leave_out: Callable[[], None]) -> Iterator[bytes]:
    """Yield a request in pieces of `PIECE_BYTES`, or itself if it is small.

    Args:
        content: the request.
        leave_out: called for each oversized span.

    Raises:
        OtlpError: the bytes are not a request.
        LargeRequest: it has too many entries, or too large a resource; earlier pieces may have been yielded.
    """
    if len(content) <= PIECE_BYTES:
        yield bytes(content)
        return
    entries = 0
    piece = bytearray()
    for tag, _, first, end in _walk(content, 0, len(content)):
        entries = _count(entries)
        if tag != _RESOURCES:
            continue
        resource = _head(content, first, end)
        for part, _, begin, close in _walk(content, first, end):
            if part != _PARTS:
                continue
            entries = _count(entries)
            scope, spans = _head(content, begin, close), bytearray()
            for each, start, value, over in _walk(content, begin, close):
                if each != _PARTS:
                    continue
                entries = _count(entries)
                if over - value > MAX_SPAN_BYTES:
                    leave_out()
                    continue
                if (piece or spans) and len(piece) + len(spans) + over - start > PIECE_BYTES:
                    piece += _wrap(resource, scope, spans)
                    yield bytes(piece)
                    piece.clear()
                    spans.clear()
                spans += content[start:over]
            if spans:
                piece += _wrap(resource, scope, spans)
    if piece:
        yield bytes(piece)


def _count(entries: int) -> int:
    if entries >= MAX_ENTRIES:
        raise LargeRequest(f"a request may have {MAX_ENTRIES:,} spans; send fewer at a time")
    return entries + 1


def _head(content: bytes | bytearray, first: int, end: int) -> bytes:
    """Return the fields of a resource or a scope without its scopes or spans, wherever they stand."""
    head = bytearray()
    for tag, start, _, over in _walk(content, first, end):
        if tag != _PARTS:
            head += content[start:over]
            if len(head) > MAX_HEAD_BYTES:
                raise LargeRequest(f"a resource may have {MAX_HEAD_BYTES >> 10} KiB")
    return bytes(head)


def _wrap(resource: bytes, scope: bytes, spans: bytearray) -> bytes:
    """Return spans as an entry of a request."""
    if not spans:
        return b""
    return _field(_RESOURCES, resource + _field(_PARTS, scope + bytes(spans)))


def _field(tag: int, value: bytes) -> bytes:
    size, length = len(value), bytearray((tag,))
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes(length) + value


def _walk(content: bytes | bytearray, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield the fields of a message: the tag, and the positions of the field, its value and the next field.

    Raises:
        OtlpError: the bytes are not a message, or contain groups, which OTLP does not have.
    """
    try:
        while at < end:
            start = at
            tag = content[at]
            at += 1
            if tag >= 0x80:
                tag, at = _varint(content, start)
            kind = tag & 7
            if kind == 2:
                size = content[at]
                at += 1
                if size >= 0x80:
                    size, at = _varint(content, at - 1)
                first = at
                at += size
            elif kind == 0:
                first = at
                _, at = _varint(content, at)
            else:
                first = at
                at += _FIXED[kind]
            if at > end:
                raise IndexError
            yield tag, start, first, at
    except (IndexError, KeyError):
        raise OtlpError("the body is not an ExportTraceServiceRequest in protobuf") from None


def _varint(content: bytes | bytearray, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 7 * _MAX_VARINT, 7):
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise IndexError
