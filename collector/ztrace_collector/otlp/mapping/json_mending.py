"""OTLP as JSON with values that protobuf rejects, corrected field by field.

One idea: the schema that the parser uses has the type of each field, so one walk along it finds the invalid
values of all fields. An invalid value costs its field. An attribute keeps the value as text; a
span whose ids or times are left out is refused by the store, which names the reason.

Source: https://protobuf.dev/programming-guides/json/.
"""

import math
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from ztrace.errors import quote
from ztrace.records import INT64_MAX, INT64_MIN
from ztrace_collector.checking import text
from ztrace_collector.refusals import ATTRIBUTES, DETAILS, FIELDS, LINKS, UTF8, Note

#: Characters kept of a value that becomes text; the store bounds all attributes of a span together.
MAX_TEXT = 64 << 10
#: Levels of messages, fewer than the parser's own bound of 100.
MAX_DEPTH = 90

_REQUEST: Descriptor = ExportTraceServiceRequest.DESCRIPTOR
_ANY_VALUE: Descriptor = AnyValue.DESCRIPTOR
#: Fields without which the store refuses a span, so the refusal is counted and not the correction.
_NEEDED = frozenset(
    f"{Span.DESCRIPTOR.full_name}.{name}"
    for name in ("trace_id", "span_id", "parent_span_id", "start_time_unix_nano", "end_time_unix_nano")
)
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: (INT64_MIN, INT64_MAX),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
}
#: Reasons by the field in which a value is: of a span, or of a resource or scope around it.
_REASONS = {"attributes": ATTRIBUTES, "links": LINKS}
#: Reason for lists around the spans of another form, and for items that are no objects: spans are refused.
_LIST_REASONS: dict[str, str] = dict.fromkeys(("resource_spans", "scope_spans", "spans"), FIELDS)


class _Invalid(ValueError):
    """Value without a form that its field accepts."""


def mend_request(content: dict[str, Any], note: Note) -> None:
    """Correct the content of a request in place, ids in base64; each correction is counted.

    Args:
        content: a request, as parsed by `json`.
        note: counts the corrections.
    """
    _Mending(note).message(_REQUEST, content, DETAILS, MAX_DEPTH)


def spell_enum(value: Any, prefix: str) -> Any:
    """Return the name of an enum's value with its prefix, which some programs leave out; others as they are.

    The parser ignores a name that it does not know.
    """
    if type(value) is str and not value.startswith(prefix) and not value.isdigit():
        return prefix + value.upper()
    return value


def is_enum(names: Any, value: Any) -> bool:
    """Return whether a value is a number, or a name of an enum's value."""
    return type(value) is int or (
        # Protobuf's tables raise for a lone surrogate, at some later moment.
        type(value) is str
        and value.isascii()
        and (value in names.DESCRIPTOR.values_by_name or value.isdigit())
    )


class _Mending:
    """Walk along the schema of one request."""

    def __init__(self, note: Note) -> None:
        self._note = note

    def message(self, schema: Descriptor, content: dict[str, Any], reason: str, depth: int) -> None:
        """Correct the fields of a message in place."""
        for key, value in list(content.items()):
            field = _find(schema, key)
            if field is None or value is None:
                continue
            within = _REASONS.get(field.name, reason) if reason == DETAILS else reason
            try:
                content[key] = self._field(field, value, within, depth)
            except _Invalid:
                del content[key]
                if field.full_name not in _NEEDED:
                    self._note(_LIST_REASONS.get(field.name, within), f"{field.name}: {excerpt(value)}")

    def _field(self, field: FieldDescriptor, value: Any, reason: str, depth: int) -> Any:
        if not _is_repeated(field):
            return self._value(field, value, reason, depth)
        if type(value) is not list:
            raise _Invalid
        kept = []
        for item in value:
            try:
                kept.append(self._value(field, item, reason, depth))
            except _Invalid:
                self._note(_LIST_REASONS.get(field.name, reason), f"{field.name}: {excerpt(item)}")
        return kept

    def _value(self, field: FieldDescriptor, value: Any, reason: str, depth: int) -> Any:
        if field.message_type is not None:
            return self._message(field, value, reason, depth)
        if field.enum_type is not None:
            return _enum(field.enum_type, value)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return _only_ascii(value)
        if field.cpp_type != FieldDescriptor.CPPTYPE_STRING:
            read = _SCALARS.get(field.cpp_type)
            return read(value) if read else _whole(value, *_RANGES[field.cpp_type])
        if type(value) in (list, dict):
            raise _Invalid
        if type(value) is not str:
            self._note(reason, f"{field.name}: {excerpt(value)}")
        return self._text(as_text(value), reason)

    def _message(self, field: FieldDescriptor, value: Any, reason: str, depth: int) -> dict[str, Any]:
        if depth and field.message_type is _ANY_VALUE:
            return self._any_value(value, reason, depth - 1)
        if not depth or type(value) is not dict:
            raise _Invalid
        schema = field.message_type
        assert schema is not None
        self.message(schema, value, reason, depth - 1)
        return value

    def _any_value(self, value: Any, reason: str, depth: int) -> dict[str, Any]:
        """Return an attribute's value with one field, as text where the field's type does not fit."""
        found = list(value.items()) if type(value) is dict else [("", value)]
        fields = [(_find(_ANY_VALUE, key), key, item) for key, item in found if item is not None]
        known = [(field, key, item) for field, key, item in fields if field is not None]
        if not known and type(value) is dict:
            return {}
        field, key, item = known[0] if known else (None, "", value)
        kept = None
        if field is not None:
            try:
                kept = {key: self._field(field, item, reason, depth)}
            except _Invalid:
                pass
        if kept is None or len(known) > 1:
            self._note(reason, f"value: {excerpt(item)}")
        return kept if kept is not None else {"stringValue": self._text(as_text(item), reason)}

    def _text(self, value: str, reason: str) -> str:
        if text.is_whole(value):
            return value
        self._note(UTF8, f"in {reason}: {excerpt(value)}")
        return text.mended(value)


def _find(schema: Descriptor, key: str) -> FieldDescriptor | None:
    if not key.isascii():
        return None
    return schema.fields_by_camelcase_name.get(key) or schema.fields_by_name.get(key)


def _is_repeated(field: FieldDescriptor) -> bool:
    # Older versions of protobuf have the label alone, and newer ones do not have it.
    if hasattr(field, "is_repeated"):
        return bool(field.is_repeated)
    return bool(getattr(field, "label") == FieldDescriptor.LABEL_REPEATED)  # noqa: B009


def as_text(value: Any) -> str:
    """Return a value of JSON as text, an object or array by its size."""
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) in (list, dict):
        return f"{'an array' if type(value) is list else 'an object'} of {len(value)}"
    try:
        return str(value)[:MAX_TEXT]
    except ValueError:  # Python prints no integer of more than 4300 digits.
        return "a number of thousands of digits"


def excerpt(value: Any) -> str:
    """Return the beginning of a value for a message, on one line."""
    return quote(as_text(value))


def _whole(value: Any, least: int, most: int) -> int:
    try:
        number = (
            int(value) if type(value) in (int, str) or (type(value) is float and value.is_integer()) else None
        )
    except (ValueError, OverflowError):
        number = None
    if number is None or not least <= number <= most:
        raise _Invalid
    return number


def _double(value: Any) -> float | str:
    if type(value) in (int, float, str):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            raise _Invalid from None
        if math.isfinite(number):
            return number
        return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    raise _Invalid


def _boolean(value: Any) -> bool:
    if type(value) is bool:
        return value
    if type(value) is str and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise _Invalid


def _only_ascii(value: Any) -> str:
    if type(value) is not str or not value.isascii():
        raise _Invalid
    return value


def _enum(schema: EnumDescriptor, value: Any) -> Any:
    if type(value) is str and value.isascii() and value in schema.values_by_name:
        return value
    return _whole(value, *_RANGES[FieldDescriptor.CPPTYPE_INT32])


_SCALARS: dict[int, Callable[[Any], Any]] = {
    FieldDescriptor.CPPTYPE_BOOL: _boolean,
    FieldDescriptor.CPPTYPE_DOUBLE: _double,
    FieldDescriptor.CPPTYPE_FLOAT: _double,
}
