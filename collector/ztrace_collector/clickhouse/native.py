"""Blocks in ClickHouse's format Native, made from columns.

One idea: the format has a block's columns one after the other, so each is made by a few calls that run in C,
and no value is converted twice. A column of any type but String is its values' bytes.

Source: https://clickhouse.com/docs/interfaces/formats/Native
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

_CODES = {
    "Int64": "q",
    "UInt64": "Q",
    "UInt32": "I",
    "UInt16": "H",
    "DateTime": "I",
    "DateTime64(3, 'UTC')": "q",
    "UInt8": "B",
}
#: Bytes of a value of the types for ids.
FIXED = {"FixedString(16)": 16, "FixedString(8)": 8}


def _encode_length(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


#: Lengths of short texts, as they are encoded.
_SHORT = [_encode_length(number) for number in range(4096)]


def make_block(columns: Sequence[tuple[str, str, Iterable[bytes]]], rows: int) -> bytes:
    """Return a block.

    Args:
        columns: name, type and parts of each column, from `encode`.
        rows: number of rows.
    """
    parts = [_encode_length(len(columns)), _encode_length(rows)]
    for name, kind, encoded in columns:
        parts += [*_encode_texts((name, kind)), *encoded]
    return b"".join(parts)


def encode(kind: str, values: Sequence[Any]) -> tuple[bytes, ...]:
    """Return a column's parts; columns are joined part by part, but for those of maps.

    Args:
        kind: the type.
        values: the values; of a String or FixedString one may be None, which is empty or zero.
    """
    if kind == "String":
        return (b"".join(_encode_texts(values)) if any(values) else bytes(len(values)),)
    if kind in FIXED:
        zero = bytes(FIXED[kind])
        return (b"".join([value or zero for value in values] if None in values else values),)
    if kind == "Nullable(Int64)":
        if None not in values:
            return bytes(len(values)), array("q", values).tobytes()
        nulls = bytes([value is None for value in values])
        return nulls, array("q", [value or 0 for value in values]).tobytes()
    if kind.startswith("Array("):
        ends = encode("UInt64", [*accumulate(map(len, values))])
        return *ends, *encode(kind[6:-1], [each for array_ in values for each in array_])
    if kind.startswith("Map("):
        key_kind, kind = kind[4:-1].split(", ")
        return _encode_maps(key_kind, kind, values)
    if kind.startswith("Tuple("):
        kinds = kind[6:-1].split(", ")
        fields = zip(kinds, zip(*values, strict=True), strict=True)
        return tuple(part for each, column in fields for part in encode(each, column))
    return (array(_CODES[kind], values).tobytes(),)


def _encode_maps(key_kind: str, kind: str, maps: Sequence[Mapping[Any, Any]]) -> tuple[bytes, ...]:
    """Return the ends of each map among all entries, their keys, and their values."""
    ends = encode("UInt64", [*accumulate(map(len, maps))])
    keys = [key for each in maps for key in each]
    values = [value for each in maps for value in each.values()]
    return *ends, *encode(key_kind, keys), *encode(kind, values)


def _encode_texts(values: Iterable[str | bytes | None]) -> list[bytes]:
    parts: list[bytes] = []
    add = parts.append
    for value in values:
        if not value:
            add(b"\0")
            continue
        data = value.encode() if isinstance(value, str) else value
        length = len(data)
        add(_SHORT[length] if length < 4096 else _encode_length(length))
        add(data)
    return parts


def transport_type(kind: str) -> str:
    """Return the type in which a column of a table is sent; the engine converts LowCardinality itself."""
    plain = kind.partition(" CODEC")[0]
    return "String" if plain == "LowCardinality(String)" else plain


def empty_row(kinds: Mapping[str, str]) -> dict[str, Any]:
    """Return a row of columns whose values do not matter, by name and type."""
    return {
        name: None if kind == "String" or kind in FIXED or kind.startswith("Nullable") else 0
        for name, kind in kinds.items()
    }
