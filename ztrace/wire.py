"""The wire format: what a publisher and the collector say to each other.

One idea: a batch is complete in itself. Every message names its publisher, that publisher's totals and the
range of sequence numbers it still holds, so that a collector that has just started, or has just lost its
memory, can tell from any single message what it has missed.

A message has three frames: ``TOPIC``, the header (`pack_header`), the body (a list of spans, a stretch of
time, or empty).
An acknowledgement is one frame (`pack_acks`), sent from the collector's XSUB to every publisher's XPUB.
The format is written out in docs/reference/wire-format.md.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgpack

from ztrace.errors import WireError
from ztrace.records import INT64_MAX

#: The first frame, and what the collector subscribes to: a foreign PUB socket rarely hits it by chance.
TOPIC = b"ztrace"
#: Header position 0; with the version and the incarnation it keeps its place in every future version.
MAGIC = b"ZT"
#: Raised when a header or span no longer reads as before; the collector refuses what it does not know.
VERSION = 1

#: Message kinds. OPEN has spans that have not ended; like a BEAT it has no number of its own, and a lost one
#: is made good by the next.
DATA, TOMBSTONE, BEAT, BYE, CRASH, OPEN = 1, 2, 3, 4, 5, 6

#: First bytes of an acknowledgement; 0 and 1 would read as an unsubscription and a subscription.
ACK = b"\x02ack"

#: Bytes of spans in one message at most: far under the collector's limit, big enough to cost nothing.
MAX_BODY_BYTES = 1 << 20
#: Incarnations in one acknowledgement: far over the messages of a transaction, and it bounds what a hostile
#: collector can make of a publisher's memory.
MAX_ACKS = 4096
#: What the collector accepts as one frame; libzmq cuts the connection of a peer that sends more.
MAX_FRAME_BYTES = 2 << 20


class Header(NamedTuple):
    """The header of every message, in the order it is packed in.

    Attributes:
        kind: DATA, TOMBSTONE, BEAT, BYE, CRASH or OPEN.
        incarnation: 16 bytes, one life of one publisher.
        sequence: of this batch; in a BEAT or OPEN the next one to be used.
        floor: the lowest sequence number the publisher still holds.
        covered: sequence numbers this message stands for: a tombstone's range, 0 in a BEAT or OPEN, else 1.
        span_count: spans in the body, or for a tombstone the spans that are gone.
        created: spans this incarnation has ended so far.
        dropped: spans it dropped so far because its queue was full.
        retired: spans in the sequence numbers that were acknowledged: all below ``floor``, unless the
            publisher has given up.
        mended: what the publisher had to cut or replace, by reason.
        service: the service's name.
        host: the host's name.
        pid: the process id.
        started_ns: when the incarnation began, Unix.
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


class Identity(NamedTuple):
    """Identity of one incarnation of a publisher, as it stands in each header.

    Attributes:
        incarnation: 16 random bytes.
        service: name of the service.
        host: name of the host.
        pid: process id.
        started_ns: start of the incarnation, Unix.
    """

    incarnation: bytes
    service: str
    host: str
    pid: int
    started_ns: int


def pack_header(header: Header) -> bytes:
    """Return the header's frame."""
    packed: bytes = msgpack.packb((MAGIC, VERSION, *header))
    return packed


#: One type per Header field.
_HEADER_TYPES = (int, bytes, int, int, int, int, int, int, int, dict, str, str, int, int)


def unpack_header(frame: bytes) -> Header:
    """Read and check a header's frame.

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
        raise WireError("version", f"wire version {fields[1]!r}, this collector reads {VERSION}")
    values = fields[2:]
    if len(values) != len(_HEADER_TYPES) or any(
        type(value) is not wanted for value, wanted in zip(values, _HEADER_TYPES, strict=True)
    ):
        raise WireError("header", "header fields are missing or of the wrong type")
    header = Header(*values)
    counts = (*header[2:9], header.pid, header.started_ns, *header.mended.values())
    if (
        len(header.incarnation) != 16
        or not DATA <= header.kind <= OPEN
        or header.floor > header.sequence
        or any(type(count) is not int or not 0 <= count <= INT64_MAX for count in counts)
        or any(type(reason) is not str or len(reason) > 64 for reason in header.mended)
    ):
        raise WireError("header", "header fields are out of range")
    return header


def pack_stretch(first_ns: int, last_ns: int) -> bytes:
    """Return the body of a TOMBSTONE, BYE or CRASH: between which times the spans ended that are gone."""
    packed: bytes = msgpack.packb((first_ns, last_ns))
    return packed


def unpack_stretch(body: bytes) -> tuple[int, int] | None:
    """Read such a body; None if it is empty, or broken: what it tells is not worth refusing a count for."""
    try:
        first_ns, last_ns = msgpack.unpackb(body, max_array_len=2)
    except Exception:
        return None
    if type(first_ns) is not int or type(last_ns) is not int or not 0 <= first_ns <= last_ns <= INT64_MAX:
        return None
    return first_ns, last_ns


def pack_acks(next_sequences: Mapping[bytes, int]) -> bytes:
    """Return the frame that says: of each incarnation, everything below this sequence number is stored."""
    return ACK + bytes(msgpack.packb((VERSION, dict(next_sequences))))


def unpack_acks(frame: bytes) -> dict[bytes, int]:
    """Read an acknowledgement.

    Raises:
        WireError: with reason ``undecodable``.
    """
    try:
        if len(frame) > MAX_FRAME_BYTES:
            raise ValueError(f"{len(frame)} bytes")
        version, acks = msgpack.unpackb(frame[len(ACK) :], strict_map_key=True, max_map_len=MAX_ACKS)
        if not frame.startswith(ACK) or version != VERSION:
            raise ValueError("not an acknowledgement of this version")
        return {bytes(incarnation): int(sequence) for incarnation, sequence in acks.items()}
    except Exception as error:
        raise WireError("undecodable", f"acknowledgement: {error}") from error
