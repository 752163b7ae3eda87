"""Trace context of the running code, and in and out of carriers: W3C ``traceparent`` and ``tracestate``.

Source: W3C Trace Context, https://www.w3.org/TR/trace-context/.
"""

from binascii import unhexlify
from collections.abc import Mapping, MutableMapping

from ztrace import diagnostics
from ztrace.context import NEW_TRACE, Context, SpanContext, find_current
from ztrace.spans import span

#: The names as carriers spell them: as W3C writes them, as HTTP libraries may, as environments do.
_KEYS = (("traceparent", "tracestate"), ("Traceparent", "Tracestate"), ("TRACEPARENT", "TRACESTATE"))
#: Identity of a caller's span: trace id, span id, and the flags and state of the trace.
Caller = tuple[bytes, bytes, tuple[int, str]]
#: Length of a traceparent of version 00.
TRACEPARENT_CHARS = 55
#: Numbers of one byte in hexadecimal: flags and versions.
_HEX = [f"{number:02x}" for number in range(256)]
#: Flags that are kept, with an empty tracestate, by the end of a traceparent.
_W3C_OF = {f"-{text}": (number & 3, "") for number, text in enumerate(_HEX)}
#: Ids that stand for "none".
NO_TRACE_ID, NO_SPAN_ID = bytes(16), bytes(8)
#: Minimum that W3C requires to be propagated: list members, and characters in total.
_MAX_MEMBERS, _MAX_STATE = 32, 512
#: Longest traceparent of a future version that is read, and characters that are read of a tracestate.
_MAX_TRACEPARENT, _MAX_STATE_READ = 512, 8192


def current_span() -> Context:
    """Return the current span of this thread, task or greenlet; without one, a span that records nothing."""
    current = find_current()
    if current is None:
        current = span("")
        current.trace_id = current.span_id = b""
        current.w3c = NEW_TRACE
    return current


def inject(carrier: MutableMapping[str, str], context: Context | None = None) -> None:
    """Write the current span into a carrier, as ``traceparent`` and, if one came in, ``tracestate``.

    Args:
        carrier: any str to str mapping: HTTP headers, a message's header, an environment.
        context: a span to write instead of the current one.
    """
    try:
        context = context or find_current()
        if context is not None and context.trace_id:
            carrier["traceparent"] = format_traceparent(context)
            if context.w3c[1]:
                carrier["tracestate"] = context.w3c[1]
    except Exception:
        diagnostics.contain("inject")


def extract(carrier: Mapping[str, str]) -> SpanContext | None:
    """Read the caller's span from a carrier: ``ztrace.span("handle", parent=ztrace.extract(headers))``.

    Returns:
        The context, to be given as ``parent`` or in ``links``; None if there is none, or none that is valid.
    """
    try:
        for parent_key, state_key in _KEYS:
            traceparent = carrier.get(parent_key)
            if traceparent is not None:
                return parse_traceparent(traceparent, carrier.get(state_key))
    except Exception:
        diagnostics.contain("extract")
    return None


def format_traceparent(context: Context) -> str:
    """Return the context as version 00 writes it."""
    return f"00-{context.trace_id.hex()}-{context.span_id.hex()}-{_HEX[context.w3c[0] & 255]}"


def parse_traceparent(traceparent: object, tracestate: object = None) -> SpanContext | None:
    """Return the context of a ``traceparent``, None if the header is not valid.

    Of a later version the fields of version 00 are read, and version 00 is sent.
    """
    caller = parse_caller(traceparent, tracestate)
    return None if caller is None else SpanContext(*caller)


def parse_caller(traceparent: object, tracestate: object = None) -> Caller | None:
    """Return what `parse_traceparent` does, as a tuple."""
    if type(traceparent) is str and len(traceparent) == TRACEPARENT_CHARS:
        text = traceparent
    else:
        if isinstance(traceparent, bytes):
            traceparent = traceparent[: _MAX_TRACEPARENT + 1].decode("ascii", "replace")
        if not isinstance(traceparent, str) or len(traceparent) > _MAX_TRACEPARENT:
            return None
        text = traceparent.strip()
    if text[:3] != "00-":
        text = _as_version_00(text)
    try:
        # Unlike `bytes.fromhex`, `unhexlify` takes no spaces. Both take capitals, which are not valid here.
        trace_id, span_id, w3c = unhexlify(text[3:35]), unhexlify(text[36:52]), _W3C_OF[text[52:]]
    except (ValueError, KeyError):
        return None
    if text[35] != "-" or text.lower() != text or trace_id == NO_TRACE_ID or span_id == NO_SPAN_ID:
        return None
    if tracestate and isinstance(tracestate, str):
        w3c = w3c[0], cut_state(tracestate)
    return trace_id, span_id, w3c


def _as_version_00(text: str) -> str:
    """Return the part of a higher version that version 00 has too, "" if it is not valid."""
    if len(text) < 55 or text[:2] == "ff" or text[:2] not in _HEX or text[2] != "-":
        return ""
    if len(text) > 55 and (text[:2] == "00" or text[55] != "-"):
        return ""
    return text[:55]


def cut_state(state: str) -> str:
    """Drop whole members from the right until the rest is within W3C's limits.

    A state with characters that W3C does not allow is dropped: a line break would reach the next request's
    headers.
    """
    if len(state) > _MAX_STATE_READ:
        state = state[:_MAX_STATE_READ].rpartition(",")[0]
    state = state.replace("\t", " ")
    if not (state.isascii() and state.isprintable()):
        return ""
    if len(state) <= _MAX_STATE and state.count(",") < _MAX_MEMBERS:
        return state
    members = [member.strip() for member in state.split(",")][:_MAX_MEMBERS]
    while members and len(",".join(members)) > _MAX_STATE:
        members.pop()
    return ",".join(members)
