"""OTLP as JSON, in both directions: ``application/json``, and the lines of a file of OTLP JSON.

One idea: the format is protobuf's own JSON, but with ids in hex instead of base64. So protobuf's
`json_format` does the work, and only the ids are converted, in the four places that have them. Variants that
other programs write are converted in the same walk: ids in base64, enums without their prefix, and former
names of the lists. Values that `json_format` rejects are corrected by `json_mending`, and it parses again.

Source: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding.
"""

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from ztrace.errors import OtlpError
from ztrace_collector.otlp.mapping.json_mending import is_enum, mend_request, spell_enum
from ztrace_collector.refusals import Note, drop_note

#: Fields with the ids of a span and of a link, in both spellings that protobuf accepts.
_OF_SPAN = ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id")
_OF_LINK = ("traceId", "spanId", "trace_id", "span_id")
#: The lists around the spans, likewise.
_RESOURCES, _SCOPES = ("resourceSpans", "resource_spans"), ("scopeSpans", "scope_spans")
#: Other names of the list of resources: Tempo's.
_OTHER_RESOURCES = ("batches",)
#: Names of the list of scopes, and of a scope, before version 0.15 of OTLP.
_OLD_SCOPES = ("instrumentationLibrarySpans", "instrumentation_library_spans")
_OLD_SCOPE = ("instrumentationLibrary", "instrumentation_library")
#: Fields of a content with spans.
REQUEST_FIELDS = (*_RESOURCES, *_OTHER_RESOURCES)
_EMPTY: dict[str, Any] = {}
#: Digits of an integer beyond which it is no number of OTLP; Python reads 4300.
_MAX_DIGITS = 100
#: Lengths of ids in base64, with their padding or without, and the bytes that they have.
_BASE64_LENGTHS = {24: 16, 22: 16, 12: 8, 11: 8}
#: Placeholder for an id that is not hex: an invalid id, so that only this span is refused.
_NO_ID = base64.b64encode(b"?").decode()

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def parse_request(text: bytes | bytearray | str, note: Note = drop_note) -> ExportTraceServiceRequest:
    """Parse a request, as sent or as a line of a file of OTLP JSON.

    Args:
        text: the request.
        note: counts the values that were corrected.

    Raises:
        OtlpError: the text is not OTLP JSON.
    """
    return read_request(_load(text), note)


def parse_pieces(
    text: bytes | bytearray | str, span_count: int, note: Note = drop_note
) -> Iterator[ExportTraceServiceRequest]:
    """Yield a large request in pieces of so many spans, without a message of the whole.

    Args:
        text: the request.
        span_count: number of spans of a piece.
        note: counts the values that were corrected.

    Raises:
        OtlpError: it is not OTLP JSON; earlier pieces may have been yielded.
    """
    content = _load(text)
    _rename(content)
    taken_out = [
        (resource, scope, scope.pop("spans"))
        for resource in _items(content, *_RESOURCES)
        for scope in _items(resource, *_SCOPES)
        if type(scope.get("spans")) is list
    ]
    # What is around the spans is corrected once, before it is repeated.
    _read_request(content, note, has_spans=bool(taken_out))
    parts = [
        ({key: value for key, value in resource.items() if key not in _SCOPES}, scope, spans)
        for resource, scope, spans in taken_out
    ]
    piece: list[dict[str, Any]] = []
    room = span_count
    for resource, scope, spans in parts:
        at = 0
        while at < len(spans):
            piece.append({**resource, "scopeSpans": [{**scope, "spans": spans[at : at + room]}]})
            taken = min(room, len(spans) - at)
            at, room = at + taken, room - taken
            if not room:
                yield read_request({"resourceSpans": piece}, note)
                piece, room = [], span_count
    if piece:
        yield read_request({"resourceSpans": piece}, note)


def load_json(text: bytes | bytearray | str) -> Any:
    """Return a JSON value; bytes that are not UTF-8 become lone surrogates, and endless integers texts.

    Raises:
        ValueError, RecursionError: the text is not JSON.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        if not isinstance(text, str):
            text = text.decode("utf-8", "surrogateescape")
        return json.loads(text, parse_int=read_integer)


def read_integer(digits: str) -> int | str:
    """Return an integer of JSON, as text if it has more digits than Python reads."""
    return int(digits) if len(digits) <= _MAX_DIGITS else digits


def _load(text: bytes | bytearray | str) -> dict[str, Any]:
    try:
        content = load_json(text)
    except (ValueError, RecursionError) as error:
        raise _not_otlp(error) from None
    if type(content) is not dict:
        raise _not_otlp(ValueError("it has to be an object"))  # A list would parse as an empty message.
    return content


def read_request(content: dict[str, Any], note: Note) -> ExportTraceServiceRequest:
    """Return a request from its JSON object, which is changed.

    Args:
        content: the object, as parsed by `json`.
        note: counts the values that were corrected.

    Raises:
        OtlpError: the object is no request, even with the values corrected.
    """
    return _read_request(content, note, has_spans=False)


def _read_request(content: dict[str, Any], note: Note, *, has_spans: bool) -> ExportTraceServiceRequest:
    """Return a request; with ``has_spans``, spans were taken out of it."""
    _rename(content)
    _change_ids(content, _to_base64)
    try:
        if not _loses_values(content):
            return _parse(content)
    except Exception:  # The class depends on what is wrong where.
        pass
    wrong, span_count = _find_wrong(content, _RESOURCES, _SCOPES, ("spans",))
    if wrong and not (span_count or has_spans):
        raise _not_otlp(ValueError(f"{wrong} has to be a list of objects"))
    mend_request(content, note)
    try:
        return _parse(content)
    except Exception as error:
        raise _not_otlp(error) from None


def _find_wrong(content: dict[str, Any], names: Sequence[str], *inner: Sequence[str]) -> tuple[str, int]:
    """Return the name of a list around the spans that has another form, if any, and the number of spans."""
    wrong, count = "", 0
    for name in names:
        items = content.get(name) or []
        if type(items) is not list:
            wrong = name
        elif not inner:
            count += len(items)
        for item in items if type(items) is list and inner else ():
            found, spans = _find_wrong(item, *inner) if type(item) is dict else (name, 0)
            wrong, count = wrong or found, count + spans
    return wrong, count


def _loses_values(content: dict[str, Any]) -> bool:
    """Return whether the parser would ignore a value of the wrong type, instead of rejecting it."""
    return any(
        not is_enum(Span.SpanKind, span.get("kind", 0))
        or type(status := span.get("status", _EMPTY)) is not dict
        or not is_enum(Status.StatusCode, status.get("code", 0))
        or any(type(pair.get("value", _EMPTY)) is not dict for pair in _items(span, "attributes"))
        for resource in _items(content, *_RESOURCES)
        for scope in _items(resource, *_SCOPES)
        for span in _items(scope, "spans")
    )


def _parse(content: dict[str, Any]) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    json_format.ParseDict(content, request, ignore_unknown_fields=True)
    return request


def _rename(content: dict[str, Any]) -> None:
    """Give lists with other names those of OTLP."""
    _rename_one(content, _OTHER_RESOURCES, _RESOURCES)
    for resource in _items(content, *_RESOURCES):
        _rename_one(resource, _OLD_SCOPES, _SCOPES)
        for scope in _items(resource, *_SCOPES):
            _rename_one(scope, _OLD_SCOPE, ("scope",))


def _rename_one(content: dict[str, Any], old: Sequence[str], new: Sequence[str]) -> None:
    for name in old:
        if name in content and not any(content.get(other) for other in new):
            for other in new:
                content.pop(other, None)
            content[new[0]] = content.pop(name)


def format_request(request: ExportTraceServiceRequest) -> str:
    """Return a request as JSON on one line, without a line end."""
    return _encode(read_content(request))


def read_content(request: ExportTraceServiceRequest) -> dict[str, Any]:
    """Return a request as JSON values."""
    content: dict[str, Any] = json_format.MessageToDict(request, use_integers_for_enums=True)
    _change_ids(content, _to_hex)
    return content


def _change_ids(content: Any, change: Callable[[Any], str]) -> None:
    for resource in _items(content, *_RESOURCES):
        for scope in _items(resource, *_SCOPES):
            for span in _items(scope, "spans"):
                for field in _OF_SPAN:
                    if span.get(field) is not None:
                        span[field] = change(span[field])
                if "kind" in span:
                    span["kind"] = spell_enum(span["kind"], "SPAN_KIND_")
                status = span.get("status")
                if type(status) is dict and "code" in status:
                    status["code"] = spell_enum(status["code"], "STATUS_CODE_")
                for link in _items(span, "links"):
                    for field in _OF_LINK:
                        if link.get(field) is not None:
                            link[field] = change(link[field])


def _items(content: Any, *names: str) -> Iterator[dict[str, Any]]:
    for name in names:
        items = content.get(name) if type(content) is dict else None
        if type(items) is list:
            yield from (item for item in items if type(item) is dict)


def _to_base64(value: Any) -> str:
    if type(value) is str and (length := _BASE64_LENGTHS.get(len(value))) is not None:
        return _check_base64(value, length)
    try:
        return binascii.b2a_base64(binascii.a2b_hex(value), newline=False).decode()
    except (ValueError, TypeError):
        return _NO_ID


def _check_base64(value: str, length: int) -> str:
    """Return an id that a program has left in protobuf's own form, with its padding and usual letters."""
    whole = value.rstrip("=").replace("-", "+").replace("_", "/")
    whole += "=" * (-len(whole) % 4)
    try:
        return whole if len(binascii.a2b_base64(whole, strict_mode=True)) == length else _NO_ID
    except ValueError:
        return _NO_ID


def _to_hex(value: str) -> str:
    return binascii.a2b_base64(value).hex()


def _not_otlp(error: Exception) -> OtlpError:
    first_line = (str(error) or type(error).__name__).partition("\n")[0]
    return OtlpError(f"the body is not OTLP JSON: {first_line[:200]}")
