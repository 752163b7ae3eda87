"""Trace context of the running code, and in and out of carriers: W3C ``traceparent`` and ``tracestate``.

Source: W3C Trace Context, https://www.w3.org/TR/trace-context/.
"""

from collections.abc import Mapping, MutableMapping

from ztrace import diagnostics
from ztrace.context import NEW_TRACE, RUNNING, Context, SpanContext, find_current
from ztrace.spans import span

#: The names as carriers spell them: as W3C writes them, as HTTP libraries may, as environments do.
_KEYS = (("traceparent", "tracestate"), ("Traceparent", "Tracestate"), ("TRACEPARENT", "TRACESTATE"))
#: Length of a traceparent of version 00.
TRACEPARENT_CHARS = 55
#: Numbers of one byte in hexadecimal: flags and versions.
_HEX = [f"{number:02x}" for number in range(256)]
#: Flags that are kept, with an empty tracestate, by the end of a traceparent.
_W3C_OF = {f"-{text}": (number & 3, "") for number, text in enumerate(_HEX)}
_from_hex, _new_context = bytes.fromhex, SpanContext.__new__
#: Ids that stand for "none".
_NO_TRACE_ID, _NO_SPAN_ID = bytes(16), bytes(8)
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
    if type(traceparent) is str and len(traceparent) == TRACEPARENT_CHARS and traceparent[:3] == "00-":
        context = _parse_fields(traceparent)  # As most are.
    else:
        if isinstance(traceparent, bytes):
            traceparent = traceparent[: _MAX_TRACEPARENT + 1].decode("ascii", "replace")
        if not isinstance(traceparent, str) or len(traceparent) > _MAX_TRACEPARENT:
            return None
        context = _parse_fields(_as_version_00(traceparent.strip()))
    if context is not None and tracestate and isinstance(tracestate, str):
        context.w3c = context.w3c[0], _cut_state(tracestate)
    return context


def _parse_fields(traceparent: str) -> SpanContext | None:
    """Return the context in the 55 characters of version 00, None if a field is not valid."""
    w3c = _W3C_OF.get(traceparent[52:])
    try:
        trace_id, span_id = _from_hex(traceparent[3:35]), _from_hex(traceparent[36:52])
    except ValueError:
        return None
    # fromhex skips spaces and takes capitals, which are not valid here.
    if (
        w3c is None
        or len(trace_id) != 16
        or len(span_id) != 8
        or traceparent[35] != "-"
        or traceparent.lower() != traceparent
        or trace_id == _NO_TRACE_ID
        or span_id == _NO_SPAN_ID
    ):
        return None
    context = _new_context(SpanContext)  # As its __init__, without the call: each served request has one.
    context.trace_id = trace_id
    context.span_id = span_id
    context.w3c = w3c
    context._state = RUNNING
    context.open_children = context.covered_ns = context.mark_ns = 0
    context._beside = False
    return context


def _as_version_00(text: str) -> str:
    """Return the part of a higher version that version 00 has too, "" if it is not valid."""
    if len(text) < 55 or text[:2] == "ff" or text[:2] not in _HEX or text[2] != "-":
        return ""
    if len(text) > 55 and (text[:2] == "00" or text[55] != "-"):
        return ""
    return text[:55]


def _cut_state(state: str) -> str:
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
