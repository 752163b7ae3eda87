"""Spans of one trace as bytes, and back.

One idea: a trace is too small to compress by itself, but like others of its file, so a dictionary is made of
some of these. Columns compress better than rows: most have one value throughout, or differ little. Span ids
are random and stand uncompressed behind the rest.
"""

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple


class SealDamaged(ValueError):
    """Sealed trace that cannot be read."""


class Row(NamedTuple):
    """Row of ``spans``, without its trace id."""

    id: int
    span_id: bytes
    parent_id: bytes | None
    method: int
    instance: int
    start_ns: int
    duration_ns: int | None
    self_ns: int | None
    cpu_ns: int | None
    lane: int | None
    status: int
    attributes: str | None
    links: str | None
    details: str | None


#: Bytes of a dictionary, and the window and memory of the compressor: larger ones take longer to set up for
#: each trace than they gain.
DICTIONARY_BYTES, _WINDOW_BITS, _MEMORY = 16_384, 14, 4
#: Level 6 saves half a byte a span, and takes a third more CPU time.
_LEVEL = 4
#: Bytes of a span id.
_ID_BYTES = 8


class Compressor:
    """Compressor of traces with one dictionary."""

    def __init__(self, dictionary: bytes) -> None:
        # Copied for each trace: its tables then have the dictionary already.
        self._empty = zlib.compressobj(
            _LEVEL, zlib.DEFLATED, _WINDOW_BITS, _MEMORY, zlib.Z_DEFAULT_STRATEGY, dictionary
        )

    def compress(self, packed: bytes) -> bytes:
        """Return what `pack` returned, compressed."""
        stream = self._empty.copy()
        return stream.compress(packed) + stream.flush()


def pack(rows: Sequence[tuple[Any, ...]]) -> tuple[bytes, bytes]:
    """Return a trace's spans for a compressor, and their ids, to be put behind what it returns.

    Args:
        rows: the spans as `Row`s, at least one.

    Raises:
        OverflowError: two numbers are so far apart that the trace cannot be sealed.
        ValueError: an id does not have the length that ids have.
    """
    import msgpack  # Which no query of a file without sealed traces needs.

    ids, span_ids, parent_ids, methods, instances, starts_ns, *others = zip(*rows, strict=True)
    if {*map(len, span_ids)} != {_ID_BYTES}:
        raise ValueError("a span id has another length")
    places = {span_id: place for place, span_id in enumerate(span_ids)}
    first, start_ns = ids[0], starts_ns[0]
    columns = [
        [each - first for each in ids],
        [places.get(each, each) for each in parent_ids],
        methods,
        instances,
        [each - start_ns for each in starts_ns],
        # A column with one value throughout is that value.
        *[each[0] if each.count(each[0]) == len(each) else each for each in others],
    ]
    packed: bytes = msgpack.packb([start_ns, *columns])
    return packed, b"".join(span_ids)


def decompress(data: bytes, dictionary: bytes) -> tuple[bytes, bytes]:
    """Return what `pack` returned: the packed columns of a sealed trace, and the ids of its spans.

    Args:
        data: what a `Compressor` returned, with the ids behind.
        dictionary: that of the compressor.

    Raises:
        SealDamaged: the data are damaged.
    """
    stream = zlib.decompressobj(_WINDOW_BITS, dictionary)
    try:
        packed = stream.decompress(data)
    except (zlib.error, TypeError) as error:
        raise SealDamaged(str(error)) from error
    if not stream.eof:
        raise SealDamaged("it ends too early")
    return packed, stream.unused_data


def unpack(data: bytes, dictionary: bytes, first: int) -> list[Sequence[Any]]:
    """Return the columns of a trace's spans, in the order of `Row`.

    Args:
        data: as for `decompress`.
        dictionary: likewise.
        first: id of the first span.

    Raises:
        SealDamaged: the data are damaged.
    """
    packed, joined = decompress(data, dictionary)
    try:
        start_ns, ids, parents, *columns = _unpack(packed)
        count = len(ids)
        if len(joined) != count * _ID_BYTES:
            raise SealDamaged("ids are missing")
        span_ids = [joined[at : at + _ID_BYTES] for at in range(0, len(joined), _ID_BYTES)]
        methods, instances, starts_ns, *others = [
            each if type(each) is list else [each] * count for each in columns
        ]
        found: list[Sequence[Any]] = [
            [first + each for each in ids],
            span_ids,
            [span_ids[each] if type(each) is int else each for each in parents],
            methods,
            instances,
            [start_ns + each for each in starts_ns],
            *others,
        ]
    except (ValueError, TypeError, LookupError) as error:
        raise SealDamaged(str(error)) from error
    if [len(each) for each in found] != [count] * len(Row._fields):
        raise SealDamaged("columns are missing")
    return found


class Peeked(NamedTuple):
    """Some columns of a sealed trace; a column with one value throughout may have it once."""

    methods: Sequence[int]
    instances: Sequence[int]
    durations_ns: Sequence[int | None]
    statuses: Sequence[int]


def peek(packed: bytes) -> Peeked:
    """Return some columns of what `pack` returned.

    Raises:
        SealDamaged: the data are damaged.
    """
    try:
        _, _, _, methods, instances, _, durations_ns, _, _, _, statuses, *_ = _unpack(packed)
        return Peeked(
            *[each if type(each) is list else [each] for each in (methods, instances, durations_ns, statuses)]
        )
    except (ValueError, TypeError, LookupError) as error:
        raise SealDamaged(str(error)) from error


def _unpack(packed: bytes) -> list[Any]:
    """Return what `pack` packed.

    Raises:
        ValueError: it is no such thing.
    """
    import msgpack

    try:
        columns: list[Any] = msgpack.unpackb(packed)
    except msgpack.UnpackException as error:
        raise SealDamaged(str(error)) from error
    return columns
