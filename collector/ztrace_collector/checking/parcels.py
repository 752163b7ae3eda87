"""Spans that do not come from a publisher: those of OTLP, and those of files.

One idea: a reader of another format makes batches, and everything after that is shared. Batches are packed as
a publisher would pack them, in the thread of their reader; so they take little memory while they wait, and
the store validates them as it validates everything.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import msgpack

from ztrace.records import UNFINISHED, Span
from ztrace_collector.refusals import FIELDS

#: Maximum of spans and bytes in a parcel, unless a single span is larger: a part of what a transaction takes
#: from publishers, so that parcels can take turns.
PARCEL_SPANS, PARCEL_BYTES = 512, 1 << 18


class Resource(NamedTuple):
    """Source of spans: a process, or the corresponding notion of another format.

    Attributes:
        incarnation: 16 bytes; the same for all batches of the same resource.
        service: the service's name.
        host: the host's name, empty if unknown.
        pid: the process id, 0 if unknown.
        started_ns: the start of the process, Unix; 0 if unknown.
        attributes: as sent; None for spans of a ztrace publisher.
        version: version of the service, empty if unknown.
    """

    incarnation: bytes
    service: str
    host: str
    pid: int
    started_ns: int
    attributes: dict[str, Any] | None
    version: str = ""


class ForeignBatch(NamedTuple):
    """Spans of one resource; unfinished ones have the status UNFINISHED and no duration.

    Attributes:
        spans: with values as in msgpack, and nested mappings; floats need not be finite.
        refused: number of further spans that could not be read, by reason of `refusals.SPAN_REASONS`.
        mended: number of spans in which something was changed, by reason of `refusals.MENDED_REASONS`.
    """

    resource: Resource
    spans: Sequence[Span]
    refused: Mapping[str, int] = MappingProxyType({})
    mended: Mapping[str, int] = MappingProxyType({})


class Outcome(NamedTuple):
    """Outcome of a batch, in which each of its spans is counted once.

    Attributes:
        stored: new spans.
        duplicates: spans stored before, under the same trace and span id.
        refused: refused spans, by reason.
    """

    stored: int
    duplicates: int
    refused: dict[str, int]


def add_up(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the sum of outcomes."""
    stored = duplicates = 0
    refused: dict[str, int] = {}
    for outcome in outcomes:
        stored += outcome.stored
        duplicates += outcome.duplicates
        for reason, count in outcome.refused.items():
            refused[reason] = refused.get(reason, 0) + count
    return Outcome(stored, duplicates, refused)


class Parcel(NamedTuple):
    """Packed part of a batch.

    Attributes:
        body: spans as in the body of a `ztrace.wire` message.
        span_count: number of spans in the body.
        refused: as in the batch.
        finished: True if its spans have ended, False if they are unfinished.
        seen_ns: time at which the source was alive, for spans that do not come straight from it; 0 for now.
        mended: as in the batch.
    """

    resource: Resource
    body: bytes
    span_count: int
    refused: Mapping[str, int]
    finished: bool = True
    seen_ns: int = 0
    mended: Mapping[str, int] = MappingProxyType({})


def pack(batch: ForeignBatch) -> Iterator[Parcel]:
    """Yield a batch as parcels, at least one."""
    refused, mended = dict(batch.refused), batch.mended
    ended = [span for span in batch.spans if span.status != UNFINISHED]
    opened = [span for span in batch.spans if span.status == UNFINISHED]
    # Without any span, refusals still need a parcel.
    parts = [(spans, spans is ended) for spans in (ended, opened) if spans] or [(ended, True)]
    for spans, finished in parts:
        for first in range(0, max(1, len(spans)), PARCEL_SPANS):
            for body, span_count in _pack(spans[first : first + PARCEL_SPANS], refused):
                yield Parcel(batch.resource, body, span_count, refused, finished, mended=mended)
                refused, mended = {}, {}


def _pack(spans: list[Span], refused: dict[str, int]) -> Iterator[tuple[bytes, int]]:
    """Yield bodies with their numbers of spans; spans that cannot be packed are counted."""
    try:
        body = _pack_one(spans)
    except (TypeError, ValueError, OverflowError):  # A number beyond 64 bits, or a value of an odd type.
        if len(spans) == 1:
            refused[FIELDS] = refused.get(FIELDS, 0) + 1
            body, spans = _pack_one([]), []
        else:
            body = b""
    if len(spans) > 1 and not 0 < len(body) <= PARCEL_BYTES:
        middle = len(spans) // 2
        yield from _pack(spans[:middle], refused)
        yield from _pack(spans[middle:], refused)
    else:
        yield body, len(spans)


def _pack_one(spans: list[Span]) -> bytes:
    try:
        return cast("bytes", msgpack.packb(spans))
    except UnicodeEncodeError:  # Lone surrogates, which JSON can contain; the store replaces them.
        return cast("bytes", msgpack.packb(spans, unicode_errors="surrogatepass"))
