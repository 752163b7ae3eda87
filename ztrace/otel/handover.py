"""Span processor that hands OpenTelemetry's spans to ztrace in the moment in which they end.

One idea: a span ends in the frame that an exception is leaving, so the exception can be recorded here as one
that leaves a ztrace span: once, at its origin, with frames and causes. An exporter sees its text alone, and
too late for the ztrace spans further out.
"""

import sys
from types import TracebackType

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import SpanContext as OtelContext
from opentelemetry.trace import StatusCode

from ztrace import diagnostics, spans
from ztrace.context import SpanContext, find_current
from ztrace.exceptions.locals import name_class
from ztrace.exceptions.recording import record_exception
from ztrace.exceptions.tracebacks import set_traceback, traceback_of
from ztrace.otel.exporting import KINDS, SpanExporter
from ztrace.records import ExceptionRecord

#: Modules whose frames enter and leave a span: ``with`` removes them from the traceback on the way out.
_ENTERING = frozenset(
    ("contextlib", "opentelemetry.sdk.trace", "opentelemetry.trace", "opentelemetry.util._decorators")
)


class Handover(SpanProcessor):
    """Processor that records the exceptions of spans, and exports the spans at once.

    Appending to the publisher's queue takes microseconds, so a batch would only add spans that a killed
    process loses without a count.

    Args:
        exporter: None where other processors export the spans.
    """

    def __init__(self, exporter: SpanExporter | None) -> None:
        self._exporter = exporter

    def on_end(self, span: ReadableSpan) -> None:
        """Record the exception that ends a span, and export the span."""
        try:
            context = span.get_span_context()
            if context is None or not context.trace_flags.sampled:
                return
            exception = None
            if span.status.status_code is StatusCode.ERROR and spans.publisher is not None:
                exception = _record(span, context)
            if self._exporter is not None:
                self._exporter.take(span, exception)
        except Exception:
            diagnostics.contain("otel_export")

    def shutdown(self) -> None:
        """Shut the exporter down, which waits until the spans are stored."""
        if self._exporter is not None:
            self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until the spans are stored; return False at the deadline."""
        return self._exporter is None or self._exporter.force_flush(timeout_millis)


class _Ended(SpanContext):
    """An ended span of OpenTelemetry, as the recording of exceptions needs it."""

    __slots__ = ("kind",)

    kind: int


def _record(span: ReadableSpan, context: OtelContext) -> ExceptionRecord | None:
    """Return the record of the exception that is leaving a span, None if none is or it is not an event."""
    exception = sys.exception()
    event = next((event for event in reversed(span.events) if event.name == "exception"), None)
    if exception is None or event is None:
        return None
    if (event.attributes or {}).get("exception.type") != name_class(type(exception)):
        return None  # The span has ended in a handler of another exception.
    ended = _Ended(context.trace_id.to_bytes(16), context.span_id.to_bytes(8))
    ended.kind = KINDS[span.kind]
    traceback = traceback_of(exception)
    set_traceback(exception, _skip_entering(traceback))
    try:
        return record_exception(exception, ended, find_current())
    finally:
        set_traceback(exception, traceback)


def _skip_entering(traceback: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the frame with the span's ``with`` statement on."""
    step = traceback
    while step is not None and step.tb_frame.f_globals.get("__name__") in _ENTERING:
        step = step.tb_next
    return step or traceback
