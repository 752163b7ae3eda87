"""Trace context in and out of carriers: W3C ``traceparent`` and ``tracestate``.

Source: W3C Trace Context, https://www.w3.org/TR/trace-context/.
"""

import re
from collections.abc import Mapping, MutableMapping

from ztrace import diagnostics
from ztrace.spans import SpanContext, current_span

_TRACEPARENT = re.compile(
    r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII | re.DOTALL
)

#: What W3C asks to pass on at least: list members, and characters in all.
_MAX_MEMBERS, _MAX_STATE = 32, 512


def inject(carrier: MutableMapping[str, str], context: SpanContext | None = None) -> None:
    """Write the current span into a carrier, as ``traceparent`` and, if one came in, ``tracestate``.

    Args:
        carrier: any str to str mapping: HTTP headers, a message's header, an environment.
        context: a span to write instead of the current one.
    """
    try:
        context = context or current_span()
        if context is not None and context.trace_id:
            carrier["traceparent"] = format_traceparent(context)
            if context.tracestate:
                carrier["tracestate"] = context.tracestate
    except Exception:
        diagnostics.count_failure("inject")


def extract(carrier: Mapping[str, str]) -> SpanContext | None:
    """Read the caller's span from a carrier: ``ztrace.span("handle", parent=ztrace.extract(headers))``.

    Header names are found in the usual spellings.

    Returns:
        The context, to be given as ``parent`` or in ``links``; None if there is none, or none that is valid.
    """
    try:
        traceparent = _find(carrier, "traceparent")
        return None if traceparent is None else parse_traceparent(traceparent, _find(carrier, "tracestate"))
    except Exception:
        diagnostics.count_failure("extract")
        return None


def format_traceparent(context: SpanContext) -> str:
    """Return the context as version 00 writes it."""
    return f"00-{context.trace_id.hex()}-{context.span_id.hex()}-{context.flags & 3:02x}"


def parse_traceparent(traceparent: object, tracestate: object = None) -> SpanContext | None:
    """Return the context that a ``traceparent`` stands for, None if it is not valid."""
    if isinstance(traceparent, bytes):
        traceparent = traceparent.decode("ascii", "replace")
    if not isinstance(traceparent, str):
        return None
    match = _TRACEPARENT.fullmatch(traceparent.strip())
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    state = _cut_state(tracestate) if isinstance(tracestate, str) else ""
    return SpanContext(bytes.fromhex(trace_id), bytes.fromhex(span_id), int(flags, 16) & 3, state)


def _find(carrier: Mapping[str, str], name: str) -> object:
    for key in (name, name.title(), name.upper()):
        if key in carrier:
            return carrier[key]
    return None


def _cut_state(state: str) -> str:
    """Drop whole members from the right until the rest is within W3C's limits."""
    if len(state) <= _MAX_STATE and state.count(",") < _MAX_MEMBERS:
        return state
    members = [member.strip() for member in state.split(",")][:_MAX_MEMBERS]
    while members and len(",".join(members)) > _MAX_STATE:
        members.pop()
    return ",".join(members)
