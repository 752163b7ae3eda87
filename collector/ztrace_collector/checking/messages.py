"""Decoding of messages and parcels to columns of spans.

One idea: a batch is validated column by column (`columns`). Only if a check fails is the batch examined span
by span (`mending`), which refuses or corrects each span, and the rest passes the same column checks.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgpack

from ztrace.errors import WireError, quote
from ztrace.wire import (
    BEAT,
    BYE,
    CRASH,
    DATA,
    MAX_FRAME_BYTES,
    OPEN,
    PROFILE,
    TOPIC,
    Header,
    unpack_header,
)
from ztrace_collector.checking import mending
from ztrace_collector.checking.columns import Columns, make_columns
from ztrace_collector.checking.parcels import Parcel
from ztrace_collector.refusals import (
    BODY,
    FOREIGN,
    FRAMES,
    HEADER,
    OVERSIZED,
    SPAN_COUNT,
    UNDECODABLE,
    Refusals,
)

#: Maximum of spans in one batch, for which other publishers wait while it is stored.
MAX_SPANS = 1 << 13
#: Maximum of items in any container of a batch: with the size of a frame, it bounds the memory that a small
#: hostile message can take.
MAX_ITEMS = 1 << 16

#: Sequence numbers that a message of each kind covers; a tombstone covers any number.
_COVERED = {DATA: 1, PROFILE: 1, BYE: 1, CRASH: 1, BEAT: 0, OPEN: 0}


def read_message(frames: Sequence[bytes]) -> tuple[Header, bytes]:
    """Return a message's header and its body, which is not decoded yet.

    Raises:
        WireError: the message is refused as a whole, and its sender is unknown.
    """
    if len(frames) != 3:
        raise WireError(FRAMES, f"{len(frames)} frames instead of 3")
    topic, packed, body = frames
    if topic != TOPIC:
        raise WireError(FOREIGN, f"topic {quote(topic)}")
    if len(packed) > MAX_FRAME_BYTES or len(body) > MAX_FRAME_BYTES:
        raise WireError(OVERSIZED, f"a frame of {max(len(packed), len(body))} bytes")
    header = unpack_header(packed)
    covered = _COVERED.get(header.kind, header.covered)
    if header.covered != covered:
        raise WireError(HEADER, f"kind {header.kind} covers {header.covered} sequence numbers")
    return header, body


class Decoded(NamedTuple):
    """Decoded spans of a message, not validated yet.

    Attributes:
        spans: values of any type.
        is_whole: the body was valid msgpack and UTF-8 throughout.
    """

    spans: tuple[Any, ...]
    is_whole: bool

    @property
    def width(self) -> int:
        """Number of fields of the first span, 0 if there is no first span with fields."""
        return len(self.spans[0]) if self.spans and type(self.spans[0]) is tuple else 0


def decode_spans(header: Header, body: bytes) -> Decoded:
    """Return the spans of a DATA or OPEN message.

    Raises:
        WireError: the body is refused as a whole.
    """
    if header.span_count > MAX_SPANS:
        raise WireError(SPAN_COUNT, f"{header.span_count} spans in a message")
    spans, decoded_whole = _decode(body, MAX_ITEMS)
    if type(spans) is not tuple:
        raise WireError(BODY, f"body is {type(spans).__name__}, not an array")
    if len(spans) != header.span_count:
        raise WireError(SPAN_COUNT, f"{len(spans)} spans where the header says {header.span_count}")
    return Decoded(spans, decoded_whole)


def read_spans(decoded: Decoded, refusals: Refusals, *, finished: bool) -> Columns | None:
    """Return the spans of a message; refused and corrected ones are counted.

    Returns:
        None if no span is left.
    """
    return _read(decoded.spans, refusals, decoded_whole=decoded.is_whole, finished=finished)


def read_together(messages: Iterable[Decoded], refusals: Refusals) -> Columns | None:
    """Return the ended spans of several messages as one batch, or None if any span needs correction."""
    noted = Refusals()
    try:
        columns = make_columns([span for each in messages for span in each.spans], noted, True)
    except (TypeError, OverflowError):
        return None
    if columns is not None:
        refusals.add(noted)
    return columns


def read_parcel(parcel: Parcel, refusals: Refusals) -> Columns | None:
    """Return the spans of a parcel; refused and corrected ones are counted.

    Returns:
        None if no span is left.
    """
    # No limit is needed: the parcel was packed in this process, from objects of the same size.
    spans, decoded_whole = _decode(parcel.body, len(parcel.body))
    return _read(spans, refusals, decoded_whole=decoded_whole, finished=parcel.finished)


def _read(
    spans: tuple[Any, ...], refusals: Refusals, *, decoded_whole: bool, finished: bool
) -> Columns | None:
    if not spans:
        return None
    try:
        columns = make_columns(spans, refusals, finished) if decoded_whole else None
    except (TypeError, OverflowError):
        columns = None
    if columns is None:
        mended = (mending.mend(span, refusals, finished=finished) for span in spans)
        kept = [span for span in mended if span is not None]
        columns = make_columns(kept, refusals, finished) if kept else None
    return columns


def _decode(body: bytes, most_items: int) -> tuple[Any, bool]:
    """Return the decoded body, and whether it was valid msgpack and UTF-8 throughout."""
    limits = {"max_array_len": most_items, "max_map_len": most_items, "ext_hook": _Extension}
    try:
        return msgpack.unpackb(body, use_list=False, **limits), True
    except Exception:  # A text that is not UTF-8 must not cost the batch: decode again, with surrogates.
        pass
    try:
        return msgpack.unpackb(
            body, use_list=False, strict_map_key=False, unicode_errors="surrogateescape", **limits
        ), False
    except Exception as error:
        raise WireError(UNDECODABLE, f"body is not msgpack: {quote(error)}") from error


class _Extension:
    """Value of a msgpack extension type, which no span of ztrace has and JSON has no form for.

    By default msgpack returns a tuple, which would pass for a list.
    """

    def __init__(self, code: int, data: bytes) -> None:
        self.code, self.data = code, data

    def __str__(self) -> str:
        return f"extension {self.code}: {quote(self.data)}"
