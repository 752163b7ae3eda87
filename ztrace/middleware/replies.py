"""Text of replies: the duration of the served call, and the origin of the exception that it failed with.

One idea: one printable text fits every wire. It is an HTTP header of XML-RPC, an annotation of Pyro5, a frame
of ZeroMQ, and follows the message of rpyc and of managers as a trailer:

    d=<duration in ns>;o=<trace id>-<span id>;m=<message, percent-encoded>

``m`` is there only where the caller's exception has another text than the callee's. Most replies are a
duration alone: where the wire is ztrace's own, it is sent as eight bytes, and by zerorpc as a number. A peer
may send anything in place of a reply, so reading is bounded, and what cannot be read is counted and ignored.
"""

from collections.abc import Sequence
from typing import Any, Final

from ztrace import diagnostics
from ztrace.context import Context
from ztrace.exceptions import messages, origins
from ztrace.spans import Span

#: Longest text that is read; one that is written is shorter.
MAX_REPLY = 8192
#: Characters, and then UTF-8 bytes, sent of a message: three times as many are below MAX_REPLY.
_MAX_MESSAGE, _MAX_BYTES = 1000, 2000
#: Digits of the longest duration that is read: 31 years.
_MAX_DIGITS = 18
MAX_NS: Final = 10**_MAX_DIGITS
#: Bytes of a duration that is sent alone: no text of a reply looks like a valid one.
DURATION_BYTES: Final = 8
#: Longest text that has a duration alone.
_MAX_PLAIN = 2 + _MAX_DIGITS
_from_bytes = int.from_bytes  # Big-endian by default.
#: Reason under which texts are counted that cannot be read.
UNREADABLE: Final = "peer_reply"

#: Bytes of a message that are sent as they are: no spaces and separators, which some wires strip or split at.
_PLAIN = frozenset(b"-_.~:,/()[]'!?@*+<>0123456789" + bytes(range(65, 91)) + bytes(range(97, 123)))
#: Each byte of a message as it is sent.
_QUOTED = [chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in range(256)]


def reply_text(span: Span, exception: BaseException | None = None, message: str | None = None) -> str:
    """Return the reply of a served call, and mark the moment as the one in which the reply was ready.

    Args:
        span: of the served call; it has ended if there is an exception.
        exception: as it left the method.
        message: of the exception, if the caller's exception will have another text.
    """
    text = f"d={span.reply()}"
    if exception is not None:
        origin = origins.origin_of(exception)
        if origin is not None:
            text += f";o={origin[0].hex()}-{origin[1].hex()}"
        if message is not None:
            text += f";m={_quote(message)}"
    return text


def reply_bytes(span: Span, exception: BaseException | None = None) -> bytes:
    """Return what `reply_text` does, in bytes; a duration alone in eight."""
    if exception is not None:
        text = reply_text(span, exception)
        if ";" in text:
            return text.encode("ascii")
    return span.reply().to_bytes(DURATION_BYTES, "big")


def take_reply(
    span: Context, text: str | bytes | memoryview | dict[str, Any] | int | None, exception: object = None
) -> bool:
    """Read a reply: subtract the callee's duration from the caller's own time, and mark the exception.

    Args:
        span: of the call.
        text: as it arrived; None and an empty text are no reply. A map with the same keys is one too: it was
            the form of zerorpc's replies.
        exception: that is about to be raised for the call, if any.

    Returns:
        Whether the exception was marked. If not, its origin is this process or an untraced one.
    """
    if not text:
        return False
    try:
        # As most replies are.
        if type(text) is str:
            if text[:2] == "d=" and len(text) <= _MAX_PLAIN and text[2:].isdigit():
                span.covered_ns += int(text[2:])
                return False
        elif (type(text) is bytes or type(text) is memoryview) and len(text) == DURATION_BYTES:
            text = _from_bytes(text)
        if type(text) is int:
            if 0 <= text < MAX_NS:
                span.covered_ns += text
                return False
            raise ValueError("not a duration")
        if len(text) > MAX_REPLY:  # type: ignore[arg-type]
            raise ValueError("too long")
        if isinstance(text, dict):
            return _take_map(span, text, exception)
        if not isinstance(text, str):
            text = str(text, "ascii")  # type: ignore[arg-type]
        fields = dict(field.split("=", 1) for field in text.split(";"))
        duration = fields.get("d", "0")
        if len(duration) > _MAX_DIGITS or not duration.isdigit():
            raise ValueError("not a duration")
        origin = _parse_origin(fields["o"]) if "o" in fields else None
        message = _unquote(fields["m"]) if "m" in fields else None
    except (ValueError, UnicodeError):
        diagnostics.count(UNREADABLE)
        return False
    span.covered_ns += int(duration)
    return _mark(span, exception, origin, message)


def _take_map(span: Context, reply: dict[str, Any], exception: object) -> bool:
    duration, origin, message = reply.get("d", 0), reply.get("o"), reply.get("m")
    if type(duration) is not int or duration < 0 or not (origin is None or _is_origin(origin)):
        diagnostics.count(UNREADABLE)
        return False
    span.covered_ns += duration
    return _mark(span, exception, origin, message if type(message) is str else None)


def _is_origin(value: Any) -> bool:
    return (
        isinstance(value, list)
        and [type(part) for part in value] == [bytes, bytes]
        and [len(part) for part in value] == [16, 8]
    )


def _mark(span: Context, exception: object, origin: Sequence[bytes] | None, message: str | None) -> bool:
    if origin is None or not isinstance(exception, BaseException):
        return False
    if message is not None:
        messages.describe(exception, message)
    origins.mark_origin(exception, origin[0], origin[1], span)
    return True


def _parse_origin(text: str) -> tuple[bytes, bytes]:
    trace_id, span_id = bytes.fromhex(text[:32]), bytes.fromhex(text[33:])
    if len(text) != 49 or text[32] != "-" or len(trace_id) != 16 or len(span_id) != 8:
        raise ValueError("not an origin")
    if not any(trace_id) or not any(span_id):
        raise ValueError("not an id")
    return trace_id, span_id


def _quote(message: str) -> str:
    raw = message[:_MAX_MESSAGE].encode("utf-8", "replace")[:_MAX_BYTES]
    return "".join([_QUOTED[byte] for byte in raw])


def _unquote(text: str) -> str:
    first, *rest = text.split("%")
    raw = first.encode("ascii")
    for part in rest:
        if len(part) < 2:
            raise ValueError("not percent-encoded")
        raw += bytes.fromhex(part[:2]) + part[2:].encode("ascii")
    return raw.decode("utf-8", "replace")
