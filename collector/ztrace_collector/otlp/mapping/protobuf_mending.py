"""OTLP as protobuf with texts that are not UTF-8, corrected before it is parsed.

One idea: the parser rejects a whole request for one such text. Only then is the request walked along the
schema, and written again with each bad byte replaced; everything else is copied.

Source: https://protobuf.dev/programming-guides/encoding/.
"""

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ztrace.errors import OtlpError, quote
from ztrace_collector.refusals import UTF8, Note

#: Levels of messages, as the parser's own bound.
MAX_DEPTH = 100
#: Largest varint, in bytes, and wire types.
_MAX_VARINT = 10
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5

_REQUEST: Descriptor = ExportTraceServiceRequest.DESCRIPTOR


def mend_texts(body: bytes, note: Note) -> bytes:
    """Return a request with its texts corrected to UTF-8; each correction is counted.

    Args:
        body: the request.
        note: counts the corrections.

    Raises:
        OtlpError: the body is not protobuf.
    """
    try:
        return _mend(_REQUEST, body, note, MAX_DEPTH)
    except (IndexError, ValueError):
        raise OtlpError("the body is not an ExportTraceServiceRequest in protobuf") from None


def _mend(schema: Descriptor, body: bytes, note: Note, depth: int) -> bytes:
    made = bytearray()
    at = 0
    while at < len(body):
        start = at
        tag, at = _read_varint(body, at)
        wire_type = tag & 7
        if wire_type != _DELIMITED:
            at = _skip(body, at, wire_type)
            made += body[start:at]
            continue
        size, first = _read_varint(body, at)
        at = first + size
        if at > len(body):
            raise ValueError("it ends too early")
        field = schema.fields_by_number.get(tag >> 3)
        content = body[first:at]
        if field is not None and field.message_type is not None and depth:
            content = _mend(field.message_type, content, note, depth - 1)
        elif field is not None and field.type == FieldDescriptor.TYPE_STRING:
            content = _mend_text(content, field.name, note)
        made += _write_varint(tag) + _write_varint(len(content)) + content
    return bytes(made)


def _mend_text(content: bytes, name: str, note: Note) -> bytes:
    try:
        content.decode()
    except UnicodeDecodeError:
        note(UTF8, f"{name}: {quote(content)}")
        return content.decode("utf-8", "replace").encode()
    return content


def _skip(body: bytes, at: int, wire_type: int) -> int:
    if wire_type == _VARINT:
        return _read_varint(body, at)[1]
    at += {_FIXED64: 8, _FIXED32: 4}.get(wire_type, len(body) + 1)
    if at > len(body):
        raise ValueError("it ends too early")
    return at


def _read_varint(body: bytes, at: int) -> tuple[int, int]:
    """Return a number and the place behind it."""
    number = 0
    for place in range(_MAX_VARINT):
        byte = body[at + place]
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return number, at + place + 1
    raise ValueError("a number is too long")


def _write_varint(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)
