"""Jaeger's tags to attributes of OTLP.

One idea: a value that does not fit the type of its tag is kept as text and counted. Text loses no digit of a
number that is too large, and no letter of bytes that are not base64.
"""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from ztrace.records import INT64_MAX, INT64_MIN
from ztrace_collector.otlp.mapping.json_mending import as_text, excerpt
from ztrace_collector.refusals import ATTRIBUTES
from ztrace_viewer.export.foreign_values import Values


def read_tags(tags: Iterable[Mapping[str, Any]], values: Values) -> list[tuple[str, AnyValue]]:
    """Return tags of a span or a process, or fields of a log, as pairs of key and value."""
    return [_read_tag(tag, values) for tag in tags]


def _read_tag(tag: Mapping[str, Any], values: Values) -> tuple[str, AnyValue]:
    key = values.plain_text(tag.get("key"), "key of a tag")
    kind, value = tag.get("type", "string"), tag.get("value")
    try:
        made = _read_value(kind, value)
    except ValueError:
        # Includes the error of binascii.
        values.note(ATTRIBUTES, f"tag {excerpt(key)} is no {excerpt(kind)}: {excerpt(value)}")
        made = None
    if made is None:
        made = AnyValue(string_value="" if value is None else values.text(as_text(value)))
    return key, made


def _read_value(kind: object, value: Any) -> AnyValue | None:
    """Return a value of a type, None for text and unknown types; raises ValueError if it does not fit."""
    match kind:
        case "bool":
            if str(value).lower() not in ("true", "false"):
                raise ValueError
            return AnyValue(bool_value=str(value).lower() == "true")
        case "int64":
            is_whole = type(value) is float and value.is_integer()
            number = int(value) if is_whole else int(as_text(value))
            if not INT64_MIN <= number <= INT64_MAX:
                raise ValueError
            return AnyValue(int_value=number)
        case "float64":
            return AnyValue(double_value=float(as_text(value)))
        case "binary":
            return AnyValue(bytes_value=base64.b64decode(as_text(value), validate=True))
    return None
