"""From a message's frames to columns of values that the tables can hold.

One idea: work in columns. A batch is turned on its side once, and each column is checked by a few passes that
run in C; only when one of them fails is the batch looked at span by span (`mending`), which refuses or mends
each alone, and what is left passes the same column checks.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import compress, repeat
from operator import add
from typing import Any

import msgpack

from ztrace.errors import WireError
from ztrace.records import INT64_MAX, KIND_NAMES, UNFINISHED, Span
from ztrace.wire import BEAT, BYE, CRASH, DATA, MAX_FRAME_BYTES, OPEN, TOPIC, Header, unpack_header
from ztrace_collector.checking import attributes, details, mending
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

#: Spans of one batch: what a publisher sends at most, and what others wait for while it is stored.
MAX_SPANS = 1 << 13
#: Items of anything in a batch: with the size of a frame it bounds what a small hostile message can make of
#: memory.
MAX_ITEMS = 1 << 16
#: Characters kept of a name: it is an index's key and a column on the screen.
MAX_NAME = mending.MAX_NAME

_FIELDS = len(Span._fields)
_NONE_TYPE = type(None)
_KINDS = frozenset(KIND_NAMES)
_OPEN = frozenset({UNFINISHED})
#: How many sequence numbers a message of each kind takes; a tombstone any number.
_COVERED = {DATA: 1, BYE: 1, CRASH: 1, BEAT: 0, OPEN: 0}
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)


@dataclass(slots=True)
class Columns:
    """A batch's accepted spans, on their side: all columns have the same length.

    Attributes:
        kinds: numbers of `ztrace.records.KIND_NAMES`.
        duration_ns: 0 of spans that have not ended.
        end_ns: start and duration added.
        attributes: JSON objects, None where there are none.
        links: pairs of ids.
        exceptions: `ztrace.records.ExceptionRecord`s, not yet looked at.
        details: JSON objects, None where there are none.
    """

    trace_ids: Sequence[bytes]
    span_ids: Sequence[bytes]
    parent_ids: Sequence[bytes | None]
    kinds: Sequence[int]
    names: Sequence[str]
    start_ns: Sequence[int]
    duration_ns: Sequence[int]
    self_ns: Sequence[int | None]
    cpu_ns: Sequence[int | None]
    statuses: Sequence[int]
    end_ns: Sequence[int]
    attributes: Sequence[str | None]
    links: Sequence[Any]
    exceptions: Sequence[Any]
    details: Sequence[str | None]

    def select(self, chosen: Sequence[bool]) -> "Columns":
        """Return some of them."""
        return Columns(*(list(compress(getattr(self, field.name), chosen)) for field in fields(self)))


class _Extension:
    """A value of a type that msgpack leaves to its users: no span of ztrace's has one, and JSON has no form.

    What msgpack makes of it by itself is a tuple, and would pass for a list.
    """

    def __init__(self, code: int, data: bytes) -> None:
        self.code, self.data = code, data

    def __str__(self) -> str:
        return f"extension {self.code}: {self.data[:64]!r}"


def read_message(frames: Sequence[bytes]) -> tuple[Header, bytes]:
    """Return a message's header and its body, which is not looked at yet.

    Raises:
        WireError: the message is refused as a whole, and nothing is known of who sent it.
    """
    if len(frames) != 3:
        raise WireError(FRAMES, f"{len(frames)} frames instead of 3")
    topic, packed, body = frames
    if topic != TOPIC:
        raise WireError(FOREIGN, f"topic {topic[:32]!r}")
    if len(packed) > MAX_FRAME_BYTES or len(body) > MAX_FRAME_BYTES:
        raise WireError(OVERSIZED, f"a frame of {max(len(packed), len(body))} bytes")
    header = unpack_header(packed)
    covered = _COVERED.get(header.kind, header.covered)
    if header.covered != covered:
        raise WireError(HEADER, f"kind {header.kind} covers {header.covered} sequence numbers")
    return header, body


def read_spans(header: Header, body: bytes, refusals: Refusals) -> Columns | None:
    """Return the spans of a batch, which have ended, or of an OPEN; those refused, or mended, are counted.

    Returns:
        None if no span of the batch is left.

    Raises:
        WireError: the body is broken as a whole.
    """
    if header.span_count > MAX_SPANS:
        raise WireError(SPAN_COUNT, f"{header.span_count} spans in a message")
    spans, decoded_whole = _decode(body, MAX_ITEMS)
    if type(spans) is not tuple:
        raise WireError(BODY, f"body is {type(spans).__name__}, not an array")
    if len(spans) != header.span_count:
        raise WireError(SPAN_COUNT, f"{len(spans)} spans where the header says {header.span_count}")
    return _read(spans, refusals, decoded_whole=decoded_whole, finished=header.kind != OPEN)


def read_parcel(parcel: Parcel, refusals: Refusals) -> Columns | None:
    """Return the spans of a parcel; those refused, or mended, are counted.

    Returns:
        None if none is left.
    """
    # It was packed here: what it makes of memory has been there.
    spans, decoded_whole = _decode(parcel.body, len(parcel.body))
    return _read(spans, refusals, decoded_whole=decoded_whole, finished=parcel.finished)


def _read(
    spans: tuple[Any, ...], refusals: Refusals, *, decoded_whole: bool, finished: bool
) -> Columns | None:
    if not spans:
        return None
    try:
        columns = _columns_of(spans, refusals, finished) if decoded_whole else None
    except (TypeError, OverflowError):
        columns = None
    if columns is None:
        mended = (mending.mend(span, refusals, finished=finished) for span in spans)
        kept = [span for span in mended if span is not None]
        columns = _columns_of(kept, refusals, finished) if kept else None
    return columns


def _decode(body: bytes, most_items: int) -> tuple[Any, bool]:
    """Return the body's object, and whether all of it is as it should be for msgpack and UTF-8."""
    limits = {"max_array_len": most_items, "max_map_len": most_items, "ext_hook": _Extension}
    try:
        return msgpack.unpackb(body, use_list=False, **limits), True
    except Exception:  # One name that is not UTF-8 must not cost the batch: msgpack can let it through.
        pass
    try:
        return msgpack.unpackb(
            body, use_list=False, strict_map_key=False, unicode_errors="surrogateescape", **limits
        ), False
    except Exception as error:
        raise WireError(UNDECODABLE, f"body is not msgpack: {error!r}") from error


def _columns_of(spans: Sequence[Any], refusals: Refusals, finished: bool) -> Columns | None:
    """Return the spans as columns, or None if anything at all is wrong with one of them.

    Raises:
        TypeError, OverflowError: likewise. ``join`` takes nothing but bytes or strings, and an array of the
            type Q only integers from 0 to 2**64: each is the cheapest way to ask. True passes for 1.
    """
    if set(map(type, spans)) != {tuple} or set(map(len, spans)) != {_FIELDS}:
        return None
    # fmt: off
    (trace_ids, span_ids, parent_ids, kinds, names, starts, durations, selfs, cpus, statuses,
     attribute_maps, links, exceptions, detail_maps) = zip(*spans, strict=True)
    # fmt: on
    if not (
        _are_ids(trace_ids, _NO_TRACE)
        and _are_ids(span_ids, _NO_SPAN)
        and _are_parents(parent_ids)
        and _KINDS.issuperset(kinds)
        and _are_names(names)
        and (mending.FINISHED if finished else _OPEN).issuperset(statuses)
        and set(map(type, attribute_maps)) <= {dict, _NONE_TYPE}
        and set(map(type, links)) <= {tuple, _NONE_TYPE}
        and set(map(type, exceptions)) <= {tuple, _NONE_TYPE}
    ):
        return None
    array("Q", starts)
    if finished:
        array("Q", durations)
        ends = list(map(add, starts, durations))
    elif set(durations) == {None}:
        durations, ends = (0,) * len(spans), list(starts)
    else:
        return None
    if max(ends) > INT64_MAX or not _are_times_or_none(selfs) or not _are_times_or_none(cpus):
        return None
    if any(links) and not all(map(mending.are_links, links)):
        return None
    texts = attributes.encode_column(attribute_maps, refusals)
    if texts is None:
        return None
    detail_texts: Sequence[str | None] | None = detail_maps
    if detail_maps.count(None) != len(detail_maps):
        detail_texts = details.encode_column(detail_maps, links, refusals)
    if detail_texts is None:
        return None
    # fmt: off
    return Columns(trace_ids, span_ids, parent_ids, kinds, names, starts, durations, selfs, cpus, statuses,
                   ends, texts, links, exceptions, detail_texts)
    # fmt: on


def _are_ids(column: Sequence[Any], zero: bytes) -> bool:
    b"".join(column)
    return set(map(len, column)) == {len(zero)} and zero not in column


def _are_parents(column: Sequence[Any]) -> bool:
    distinct = set(column)
    distinct.discard(None)
    b"".join(distinct)
    return set(map(len, distinct)) <= {8} and _NO_SPAN not in distinct


def _are_names(column: Sequence[Any]) -> bool:
    distinct = set(column)
    "".join(distinct)
    return max(map(len, distinct)) <= MAX_NAME


def _are_times_or_none(column: Sequence[Any]) -> bool:
    if None in column:
        column = [value for value in column if value is not None]
    return not column or max(array("Q", column)) <= INT64_MAX


def link_texts(columns: Columns) -> Sequence[str | None]:
    """Return the column of links as JSON: ``[{"trace_id": hex, "span_id": hex}, ...]``, None for none."""
    if not any(columns.links):
        return list(repeat(None, len(columns.links)))
    return [mending.link_text(links) if links else None for links in columns.links]
