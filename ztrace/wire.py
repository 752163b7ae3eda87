"""Wire format between publishers and the collector.

One idea: each message is self-contained. Its header names the publisher, the publisher's totals and the range
of sequence numbers it still holds, so a collector that has just started can compute from any single message
which batches it has missed.

A message has three frames: ``TOPIC``, the header (`pack_header`), and the body (a list of spans, a time
range, a `ztrace.records.Profile`, or nothing). An empty message of a new connection is the publisher's hello.
The collector sends single frames to a connection: `WELCOME`, which answers the hello, acknowledgements
(`pack_acks`) and requests for profiles (`pack_request`).
docs/reference/wire-format.md specifies the format.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgpack

from ztrace.errors import WireError, quote
from ztrace.records import INT64_MAX

#: First frame of a message; other programs' sockets are unlikely to use it.
TOPIC = b"ztrace"
#: Header position 0. It, the version and the incarnation keep their positions in all future versions.
MAGIC = b"ZT"
#: Incremented with every incompatible change; the collector refuses versions it does not know.
VERSION = 1

#: Message kinds. OPEN carries unfinished spans; like BEAT it has no sequence number, and the next one makes
#: up for a lost one.
DATA, TOMBSTONE, BEAT, BYE, CRASH, OPEN, PROFILE = 1, 2, 3, 4, 5, 6, 7

#: The collector's answer to a hello, and the prefixes of an acknowledgement and of a request for a profile.
WELCOME, ACK, REQUEST = b"\x01welcome", b"\x02ack", b"\x03profile"

#: Number in an acknowledgement that refuses an incarnation, which has several collectors.
REFUSED = -1

#: Maximum size of a message body: well below the collector's limit, and large enough to amortize a message.
MAX_BODY_BYTES = 1 << 20
#: Maximum number of incarnations in an acknowledgement, and its maximum size: a bound on the memory that a
#: hostile collector can make a publisher allocate.
MAX_ACKS, MAX_ACK_BYTES = 256, 8 << 10
#: Limits of a request: samples a second, and seconds.
MAX_HZ, MAX_REQUEST_S = 100, 600
#: Maximum size of a frame; libzmq closes the connection of a peer that sends a larger one.
MAX_FRAME_BYTES = 2 << 20


class Header(NamedTuple):
    """Header of every message, in the order of its fields on the wire.

    Attributes:
        kind: DATA, TOMBSTONE, BEAT, BYE, CRASH, OPEN or PROFILE.
        incarnation: 16 bytes, one life of one publisher.
        sequence: number of this batch; in a BEAT or OPEN the next number to be used.
        floor: the lowest sequence number the publisher still holds.
        covered: number of sequence numbers the message stands for: a tombstone's range, 0 in a BEAT or OPEN,
            otherwise 1.
        span_count: spans in the body, 0 in a PROFILE; in a tombstone the spans that are lost.
        created: spans that this incarnation has ended so far.
        dropped: spans of these that found the queue full.
        retired: spans in acknowledged batches: those below ``floor``, unless the publisher has given up.
        mended: values that the publisher truncated or replaced, by reason.
        service: name of the service.
        host: name of the host.
        pid: process id.
        started_ns: start of the incarnation, Unix.
        sampled: samples of stacks that this incarnation has taken so far.
        service_version: version of the service, empty if it is unknown.
        acknowledged_elsewhere: spans of ``retired`` that collectors other than the receiver acknowledged.
        collectors: number of collectors that the publisher may send to.
    """

    kind: int
    incarnation: bytes
    sequence: int
    floor: int
    covered: int
    span_count: int
    created: int
    dropped: int
    retired: int
    mended: dict[str, int]
    service: str
    host: str
    pid: int
    started_ns: int
    sampled: int = 0
    service_version: str = ""
    acknowledged_elsewhere: int = 0
    collectors: int = 1


class Request(NamedTuple):
    """Request of the collector to record the stacks of a service for a time.

    Attributes:
        nonce: 8 random bytes; a request that is repeated has the same ones.
        service: name of the service; empty for all services.
        hz: samples a second, 1 to MAX_HZ.
        seconds: time for which samples are taken, 1 to MAX_REQUEST_S.
    """

    nonce: bytes
    service: str
    hz: int
    seconds: int


class Identity(NamedTuple):
    """Identity of one incarnation of a publisher, as it stands in each header.

    Attributes:
        incarnation: 16 random bytes.
        service: name of the service.
        host: name of the host.
        pid: process id.
        started_ns: start of the incarnation, Unix.
        service_version: version of the service, empty if it is unknown.
    """

    incarnation: bytes
    service: str
    host: str
    pid: int
    started_ns: int
    service_version: str = ""


def pack_header(header: Header) -> bytes:
    """Pack a header into its frame."""
    packed: bytes = msgpack.packb((MAGIC, VERSION, *header))
    return packed


#: Types of the fields of a `Header`, in their order.
_HEADER_TYPES = (
    *(int, bytes, int, int, int, int, int, int, int, dict),
    *(str, str, int, int, int, str, int, int),
)


#: Bytes of a packed header before its kind, which is one byte, and between its kind and its incarnation.
_BEFORE_KIND = bytes(msgpack.packb((MAGIC, VERSION, *[None] * len(_HEADER_TYPES)))).rstrip(b"\xc0")
_BEFORE_ID = b"\xc4\x10"
_GOODBYE = _BEFORE_KIND + bytes([BYE])
_ID_AT = len(_BEFORE_KIND) + 1 + len(_BEFORE_ID)


def unpack_header(frame: bytes) -> Header:
    """Unpack and validate a header frame.

    Raises:
        WireError: with reason ``undecodable``, ``foreign``, ``version`` or ``header``.
    """
    try:
        fields = msgpack.unpackb(frame, max_array_len=64, max_map_len=64, max_str_len=4096, max_bin_len=64)
    except Exception as error:
        raise WireError("undecodable", f"header is not msgpack: {error}") from error
    if not isinstance(fields, list) or len(fields) < 2 or fields[0] != MAGIC:
        raise WireError("foreign", "not a ztrace message")
    if fields[1] != VERSION:
        raise WireError("version", f"wire version {quote(fields[1])}, this collector reads {VERSION}")
    values = fields[2:]
    if tuple(map(type, values)) != _HEADER_TYPES:
        raise WireError("header", "header fields are missing or of the wrong type")
    header = Header(*values)
    counts = (*header[2:9], *header[12:15], *header[16:])
    if (
        len(header.incarnation) != 16
        or not DATA <= header.kind <= PROFILE
        or header.floor > header.sequence
        or min(counts) < 0
        or max(counts) > INT64_MAX
        or any(type(count) is not int or not 0 <= count <= INT64_MAX for count in header.mended.values())
        or any(type(reason) is not str or len(reason) > 64 for reason in header.mended)
    ):
        raise WireError("header", "header fields are out of range")
    return header


def find_incarnation(frame: bytes) -> bytes | None:
    """Return the incarnation in a header frame, None if there is no valid header.

    A header as `pack_header` makes it is not unpacked for that, and its other fields may be invalid.
    """
    if frame.startswith(_BEFORE_KIND) and frame.startswith(_BEFORE_ID, len(_BEFORE_KIND) + 1):
        return frame[_ID_AT : _ID_AT + 16]
    try:
        return unpack_header(frame).incarnation
    except WireError:
        return None


def is_goodbye(frame: bytes) -> bool:
    """Return whether a header frame, as `pack_header` makes it, is that of a BYE."""
    return frame.startswith(_GOODBYE)


def pack_stretch(first_ns: int, last_ns: int) -> bytes:
    """Pack the body of a TOMBSTONE, BYE or CRASH: the time range in which the lost spans ended."""
    packed: bytes = msgpack.packb((first_ns, last_ns))
    return packed


def unpack_stretch(body: bytes) -> tuple[int, int] | None:
    """Unpack the body of a TOMBSTONE, BYE or CRASH.

    Returns:
        None if it is empty or malformed: the count in the header is worth more than the time range.
    """
    try:
        first_ns, last_ns = msgpack.unpackb(body, max_array_len=2)
    except Exception:
        return None
    if type(first_ns) is not int or type(last_ns) is not int or not 0 <= first_ns <= last_ns <= INT64_MAX:
        return None
    return first_ns, last_ns


def pack_acks(next_sequences: Mapping[bytes, int]) -> bytes:
    """Pack an acknowledgement: for each incarnation, everything below the number is stored, or REFUSED."""
    return ACK + bytes(msgpack.packb((VERSION, dict(next_sequences))))


def unpack_acks(frame: bytes) -> dict[bytes, int]:
    """Unpack an acknowledgement.

    Raises:
        WireError: with reason ``undecodable``.
    """
    try:
        if len(frame) > MAX_ACK_BYTES:
            raise ValueError(f"{len(frame)} bytes")
        version, acks = msgpack.unpackb(frame[len(ACK) :], strict_map_key=True, max_map_len=MAX_ACKS)
        if not frame.startswith(ACK) or version != VERSION:
            raise ValueError("not an acknowledgement of this version")
        if any(
            type(incarnation) is not bytes
            or len(incarnation) != 16
            or type(sequence) is not int
            or not REFUSED <= sequence <= INT64_MAX
            for incarnation, sequence in acks.items()
        ):
            raise ValueError("not sequence numbers by incarnation")
        return dict(acks)
    except Exception as error:
        raise WireError("undecodable", f"acknowledgement: {error}") from error


def pack_request(request: Request) -> bytes:
    """Pack a request for a profile."""
    return REQUEST + bytes(msgpack.packb((VERSION, *request)))


def unpack_request(frame: bytes) -> Request:
    """Unpack a request for a profile.

    Raises:
        WireError: with reason ``undecodable``.
    """
    try:
        if len(frame) > MAX_ACK_BYTES or not frame.startswith(REQUEST):
            raise ValueError("not a request")
        version, nonce, service, hz, seconds = msgpack.unpackb(frame[len(REQUEST) :], max_array_len=5)
        if version != VERSION or type(nonce) is not bytes or len(nonce) != 8 or type(service) is not str:
            raise ValueError("not a request of this version")
        if type(hz) is not int or type(seconds) is not int:
            raise ValueError("no whole numbers")
        if not (1 <= hz <= MAX_HZ and 1 <= seconds <= MAX_REQUEST_S):
            raise ValueError("out of range")
        return Request(nonce, service, hz, seconds)
    except Exception as error:
        raise WireError("undecodable", f"request for a profile: {error}") from error
