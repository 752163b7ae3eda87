"""Trace context as one text, for wires that have no headers: annotations, frames and trailers.

The text is a ``traceparent``, and behind ``;`` the ``tracestate`` if there is one.
"""

from typing import Final

from ztrace import diagnostics
from ztrace.context import Context, SpanContext
from ztrace.propagation import TRACEPARENT_CHARS, format_traceparent, parse_traceparent

#: Longest text that is read: a tracestate has 512 characters as ztrace sends it.
MAX_CONTEXT = 1024
#: Reason under which contexts of peers are counted that cannot be read.
UNREADABLE: Final = "peer_context"


def context_text(span: Context) -> bytes:
    """Return the context of a span that has started, for the request or message that it sends."""
    text = format_traceparent(span)
    if span.w3c[1]:
        text = f"{text};{span.w3c[1]}"
    return text.encode("ascii", "replace")


def read_context_text(text: str | bytes | memoryview | None) -> SpanContext | None:
    """Return the sender's context, None if there is none or none that can be read."""
    if not text:
        return None
    context = None
    if len(text) <= MAX_CONTEXT:
        if not isinstance(text, str):
            text = str(text, "ascii", "replace")
        if len(text) == TRACEPARENT_CHARS:  # As most are.
            context = parse_traceparent(text)
        else:
            traceparent, _, tracestate = text.partition(";")
            context = parse_traceparent(traceparent, tracestate or None)
    if context is None:
        diagnostics.count(UNREADABLE)
    return context
