"""Trace context in and out of carriers: W3C ``traceparent`` and ``tracestate``.

Source: W3C Trace Context, https://www.w3.org/TR/trace-context/.
"""

from collections.abc import Mapping, MutableMapping

from ztrace import diagnostics
from ztrace.context import Context, SpanContext, find_current

#: The names as carriers spell them: as W3C writes them, as HTTP libraries may, as environments do.
_KEYS = (("traceparent", "tracestate"), ("Traceparent", "Tracestate"), ("TRACEPARENT", "TRACESTATE"))
#: Ids that stand for "none".
_NO_TRACE_ID, _NO_SPAN_ID = bytes(16), bytes(8)
#: Minimum that W3C requires to be propagated: list members, and characters in total.
_MAX_MEMBERS, _MAX_STATE = 32, 512
#: Longest traceparent of a future version that is read, and characters that are read of a tracestate.
_MAX_TRACEPARENT, _MAX_STATE_READ = 512, 8192


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
    return f"00-{context.trace_id.hex()}-{context.span_id.hex()}-{context.w3c[0]:02x}"


def parse_traceparent(traceparent: object, tracestate: object = None) -> SpanContext | None:
    """Return the context of a ``traceparent``, None if the header is not valid.

    Of a later version the fields of version 00 are read, and version 00 is sent.
    """
    if isinstance(traceparent, bytes):
        traceparent = traceparent[: _MAX_TRACEPARENT + 1].decode("ascii", "replace")
    if not isinstance(traceparent, str) or len(traceparent) > _MAX_TRACEPARENT:
        return None
    if len(traceparent) != 55 or traceparent[:3] != "00-":
        traceparent = _as_version_00(traceparent.strip())
    try:
        raw = bytes.fromhex(traceparent.replace("-", ""))
    except ValueError:
        return None
    # fromhex skips spaces and takes capitals, which are not valid here.
    if len(raw) != 26 or traceparent[35] + traceparent[52] != "--" or traceparent.lower() != traceparent:
        return None
    trace_id, span_id = raw[1:17], raw[17:25]
    if trace_id == _NO_TRACE_ID or span_id == _NO_SPAN_ID:
        return None
    state = _cut_state(tracestate) if tracestate and isinstance(tracestate, str) else ""
    return SpanContext(trace_id, span_id, (raw[25] & 3, state))


def _as_version_00(text: str) -> str:
    """Return the part of a higher version that version 00 has too, "" if it is not valid."""
    if len(text) < 55 or text[:2] == "ff" or text[2] != "-":
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
