"""Spans that do not come from a publisher: OTLP's, and those of files.

One idea: whoever reads another format makes batches of it, and from here on it is the same way for all. They
are packed as a publisher would pack them, in the thread of whoever brings them: so they wait in little room,
and the store checks them as it checks everything.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import msgpack

from ztrace.records import UNFINISHED, Span
from ztrace_collector.refusals import FIELDS

#: Spans and bytes of a parcel, but for a single span: a part of what a transaction takes from publishers, so
#: that it can take turns.
PARCEL_SPANS, PARCEL_BYTES = 512, 1 << 18


class Resource(NamedTuple):
    """What made the spans: a process, or what another format knows of one.

    Attributes:
        incarnation: 16 bytes; the same for all batches of the same resource.
        service: the service's name.
        host: the host's name, empty if it is unknown.
        pid: the process id, 0 if it is unknown.
        started_ns: when it began, Unix; 0 if it is unknown.
        attributes: as they were sent; None for spans that a publisher of ztrace's made.
    """

    incarnation: bytes
    service: str
    host: str
    pid: int
    started_ns: int
    attributes: dict[str, Any] | None


class ForeignBatch(NamedTuple):
    """Spans of one resource; those that have not ended have the status UNFINISHED and no duration.

    Attributes:
        spans: values as msgpack has them, and nested mappings; floats need not be finite.
        refused: further spans of which none could be made, by reason: one of `refusals.SPAN_REASONS`.
        mended: of the spans, those in which something was changed, by reason: `refusals.MENDED_REASONS`.
    """

    resource: Resource
    spans: Sequence[Span]
    refused: Mapping[str, int] = MappingProxyType({})
    mended: Mapping[str, int] = MappingProxyType({})


class Outcome(NamedTuple):
    """What became of a batch: each of its spans is in one of these.

    Attributes:
        stored: new ones.
        duplicates: stored before, under the same trace and span id.
        refused: not fit to be stored, by reason.
    """

    stored: int
    duplicates: int
    refused: dict[str, int]


def add_up(outcomes: Iterable[Outcome]) -> Outcome:
    """Return what became of all."""
    stored = duplicates = 0
    refused: dict[str, int] = {}
    for outcome in outcomes:
        stored += outcome.stored
        duplicates += outcome.duplicates
        for reason, count in outcome.refused.items():
            refused[reason] = refused.get(reason, 0) + count
    return Outcome(stored, duplicates, refused)


class Parcel(NamedTuple):
    """A part of a batch, packed.

    Attributes:
        body: as that of a `ztrace.wire` message.
        span_count: how many are in it.
        refused: as in the batch.
        finished: whether its spans have ended: all have, or none.
        seen_ns: when what made them was there, of a parcel that does not come right from it; 0 for now.
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
    """Yield a batch in parcels; at least one."""
    refused, mended = dict(batch.refused), batch.mended
    ended = [span for span in batch.spans if span.status != UNFINISHED]
    opened = [span for span in batch.spans if span.status == UNFINISHED]
    # Without any span there is still what was refused.
    parts = [(spans, spans is ended) for spans in (ended, opened) if spans] or [(ended, True)]
    for spans, finished in parts:
        for first in range(0, max(1, len(spans)), PARCEL_SPANS):
            for body, span_count in _pack(spans[first : first + PARCEL_SPANS], refused):
                yield Parcel(batch.resource, body, span_count, refused, finished, mended=mended)
                refused, mended = {}, {}


def _pack(spans: list[Span], refused: dict[str, int]) -> Iterator[tuple[bytes, int]]:
    """Yield bodies and how many spans are in each; those that cannot be packed are counted."""
    try:
        body = _pack_one(spans)
    except (TypeError, ValueError, OverflowError):  # A number beyond 64 bits, or what nobody should send.
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
    except UnicodeEncodeError:  # Lone surrogates, which JSON can bring: they are replaced where all text is.
        return cast("bytes", msgpack.packb(spans, unicode_errors="surrogatepass"))
