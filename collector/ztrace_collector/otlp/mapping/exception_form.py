"""Stored exceptions as JSON text, in an attribute from which ztrace can restore them.

One idea: the text has the form that causes have in the table ``exceptions``, so writing it is joining
columns. A text that is received is no more trusted than other input: the store validates and truncates it.
"""

import json
from typing import Any

from ztrace.records import PASSED, ExceptionRecord, FrameRecord
from ztrace_collector.checking.failures import MAX_DEPTH
from ztrace_collector.otlp.mapping.reading import StoredException

#: ztrace's attributes of an exception: the whole record, how it came to the span, its origin, and its group.
RECORD, HOW = "ztrace.exception", "ztrace.exception.how"
ORIGIN_TRACE_ID, ORIGIN_SPAN_ID = "ztrace.exception.origin.trace_id", "ztrace.exception.origin.span_id"
GROUP = "ztrace.exception.group"
#: Attributes that are removed on the way in.
ALL = (RECORD, HOW, ORIGIN_TRACE_ID, ORIGIN_SPAN_ID, GROUP)

_encode = json.JSONEncoder(ensure_ascii=False).encode


def write_record(exception: StoredException) -> str:
    """Return the exception as JSON."""
    fields = {
        "type": _encode(exception.type),
        "message": _encode(exception.message),
        "how": _encode(exception.how),
        "origin_trace_id": _encode(exception.origin_trace_id.hex()),
        "origin_span_id": _encode(exception.origin_span_id.hex()),
        "frames": exception.frames,
        "causes": exception.causes,
        "notes": exception.notes,
        "members": exception.members,
    }
    return f"{{{','.join(f'{_encode(name)}:{value}' for name, value in fields.items())}}}"


def read_record(text: object) -> ExceptionRecord | None:
    """Return the record that `write_record` made, in the form of the wire, None if the text is invalid."""
    if type(text) is not str:
        return None
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return _record(fields, MAX_DEPTH)


def read_origin(attributes: dict[str, Any]) -> tuple[bytes, bytes] | None:
    """Return the origin of an exception that passed a span, as `ztrace.otel` records it on such spans."""
    trace_id, span_id = _id(attributes.get(ORIGIN_TRACE_ID)), _id(attributes.get(ORIGIN_SPAN_ID))
    if attributes.get(HOW) != PASSED or trace_id is None or span_id is None:
        return None
    return (trace_id, span_id) if (len(trace_id), len(span_id)) == (16, 8) else None


def _record(fields: Any, depth: int) -> ExceptionRecord | None:
    type_, message = (fields.get("type"), fields.get("message", "")) if type(fields) is dict else (None, None)
    if type(type_) is not str or type(message) is not str:
        return None
    return ExceptionRecord(
        type_,
        message,
        [_frame(frame) for frame in _list(fields, "frames")],
        _records(fields, "causes", depth),
        fields.get("how", ""),
        _id(fields.get("origin_trace_id")),
        _id(fields.get("origin_span_id")),
        _list(fields, "notes"),
        _records(fields, "members", depth),
    )


def _records(fields: dict[str, Any], name: str, depth: int) -> list[Any]:
    return [_record(nested, depth - 1) for nested in _list(fields, name)] if depth else []


def _frame(fields: Any) -> FrameRecord:
    fields = fields if type(fields) is dict else {"line": None}
    return FrameRecord(
        fields.get("file", ""),
        fields.get("line", 0),
        fields.get("function", ""),
        fields.get("module", ""),
        fields.get("code", ""),
        fields.get("in_app", False),
        fields.get("repeats", 0),
        fields.get("omitted", 0),
        fields.get("locals"),
    )


def _list(fields: dict[str, Any], name: str) -> list[Any]:
    items = fields.get(name)
    return items if type(items) is list else []


def _id(value: Any) -> bytes | None:
    try:
        return bytes.fromhex(value) if type(value) is str else None
    except ValueError:
        return None
