"""Conversion of span identities between OpenTelemetry's numbers and ztrace's bytes."""

from typing import TypeVar

from opentelemetry.trace import SpanContext as OtelContext
from opentelemetry.trace import TraceFlags, TraceState

from ztrace.context import Context, ForeignSpan, SpanContext

C = TypeVar("C", SpanContext, ForeignSpan)


def span_context_of(context: Context) -> OtelContext:
    """Return a context in OpenTelemetry's form."""
    flags, state = context.w3c
    return OtelContext(
        int.from_bytes(context.trace_id),
        int.from_bytes(context.span_id),
        is_remote=type(context) is SpanContext,
        trace_flags=TraceFlags(flags),
        trace_state=TraceState.from_header([state]) if state else None,
    )


def context_of(context: OtelContext, form: type[C]) -> C | None:
    """Return OpenTelemetry's context in ztrace's form, None if it is invalid."""
    if not context.is_valid:
        return None
    state = context.trace_state.to_header() if context.trace_state else ""
    return form(
        context.trace_id.to_bytes(16), context.span_id.to_bytes(8), (int(context.trace_flags) & 3, state)
    )
