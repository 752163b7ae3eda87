"""Attribute values: from OTLP's ``AnyValue``, and from stored JSON text to ``AnyValue``.

One idea: types that JSON lacks are tagged, ``{"$bytes": base64}`` and ``{"$double": "NaN"}``, and a mapping
that looks like a tag is tagged itself, ``{"$map": {…}}``. So values leave as they came in.

Source: https://opentelemetry.io/docs/specs/otel/common/#anyvalue.
"""

import binascii
import json
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from ztrace.records import INT64_MAX, INT64_MIN
from ztrace_collector.checking.messages import MAX_ITEMS

#: Tags of bytes, of numbers that JSON lacks, and of mappings that look like a tag.
BYTES, DOUBLE, MAP = "$bytes", "$double", "$map"

_TAGS = frozenset((BYTES, DOUBLE, MAP))
_DOUBLES = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def read_attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    """Return attributes as a mapping; of a duplicate key, which is forbidden, the last value."""
    return {pair.key: read_value(pair.value) for pair in islice(pairs, MAX_ITEMS)}


def read_value(value: AnyValue) -> Any:
    """Return a value: None, bool, int, float, str, bytes, or a list or mapping of these.

    The parsers of messages bound the depth, at a hundred levels. Of a list, only as many items are read as a
    batch may have; that is more than is stored, so a longer list is left out, and counted, as a whole.
    """
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [read_value(item) for item in islice(value.array_value.values, MAX_ITEMS)]
    if kind == "kvlist_value":
        mapping = read_attributes(value.kvlist_value.values)
        return {MAP: mapping} if len(mapping) == 1 and not _TAGS.isdisjoint(mapping) else mapping
    # An index into a table of strings is meaningful in profiles only.
    return None if kind is None or kind == "string_value_strindex" else getattr(value, kind)


def key_values(attributes: Mapping[str, Any]) -> list[KeyValue]:
    """Return attributes, as parsed from JSON, for a message."""
    pairs = []
    for key, value in attributes.items():
        pair = KeyValue(key=key)
        write_value(pair.value, value)
        pairs.append(pair)
    return pairs


def write_value(into: AnyValue, value: Any) -> None:
    """Set a value, as parsed from JSON, in a message; None is an empty value."""
    if type(value) is str:
        into.string_value = value
    elif type(value) is bool:
        into.bool_value = value
    elif type(value) is int:
        if INT64_MIN <= value <= INT64_MAX:
            into.int_value = value
        else:
            into.string_value = str(value)
    elif type(value) is float:
        into.double_value = value
    elif type(value) is list:
        into.array_value.SetInParent()
        for item in value:
            write_value(into.array_value.values.add(), item)
    elif type(value) is dict:
        _write_mapping(into, value)
    else:
        into.SetInParent()


def _write_mapping(into: AnyValue, mapping: dict[str, Any]) -> None:
    if len(mapping) == 1:
        ((tag, tagged),) = mapping.items()
        if tag == DOUBLE and type(tagged) is str and tagged in _DOUBLES:
            into.double_value = _DOUBLES[tagged]
            return
        if tag == BYTES and type(tagged) is str and (content := _decode(tagged)) is not None:
            into.bytes_value = content
            return
        if tag == MAP and type(tagged) is dict:
            mapping = tagged
    into.kvlist_value.SetInParent()
    into.kvlist_value.values.extend(key_values(mapping))


def _decode(text: str) -> bytes | None:
    try:
        return binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except ValueError:
        return None


def load_object(text: str | None) -> dict[str, Any]:
    """Return the JSON object in a column, an empty one if the column has none."""
    if not text:
        return {}
    value = _load(text)
    return value if type(value) is dict else {}


def load_list(text: str) -> list[Any]:
    """Return the JSON array in a column, an empty one if the column has none."""
    value = _load(text)
    return value if type(value) is list else []


def _load(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # Another program has written the file.
        return None
