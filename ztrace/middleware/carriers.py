"""Trace context in bytes, for wires that have no headers: annotations, frames and trailers.

The bytes are the trace id, the span id and the flags, and the tracestate behind them if there is one.
"""

from struct import Struct
from typing import Final

from ztrace import diagnostics
from ztrace.context import Context
from ztrace.fused.calls import FLAGS, add_state
from ztrace.propagation import NO_SPAN_ID, NO_TRACE_ID, Caller, cut_state

#: Most bytes that are read: a tracestate has 512 characters as ztrace sends it.
MAX_CONTEXT: Final = 1024
#: Bytes of a context without a tracestate.
CONTEXT_BYTES: Final = 25
#: Reason under which contexts of peers are counted that cannot be read.
UNREADABLE: Final = "peer_context"

_split: Final = Struct("16s8sB").unpack
#: Flags and state of a trace by the flags that are kept.
_W3C: Final = [(flags, "") for flags in range(4)]


def write_bytes(span: Context) -> bytes:
    """Return the context of a span that has started, for the request or message that it sends."""
    flags, state = span.w3c
    context = span.trace_id + span.span_id + FLAGS[flags & 255]
    return add_state(context, state) if state else context


def read_bytes(data: bytes | memoryview | None) -> Caller | None:
    """Return the sender's span, None if there is none or none that can be read."""
    if not data:
        return None
    if len(data) == CONTEXT_BYTES:  # As most are.
        trace_id, span_id, flags = _split(data)
        if trace_id != NO_TRACE_ID and span_id != NO_SPAN_ID:
            return trace_id, span_id, _W3C[flags & 3]
    elif CONTEXT_BYTES < len(data) <= MAX_CONTEXT:
        caller = read_bytes(data[:CONTEXT_BYTES])
        if caller is None:
            return None
        trace_id, span_id, (flags, _) = caller
        return trace_id, span_id, (flags, cut_state(str(data[CONTEXT_BYTES:], "ascii", "replace")))
    diagnostics.count(UNREADABLE)
    return None
