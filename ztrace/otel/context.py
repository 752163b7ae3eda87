"""Shared context: the innermost span of either tracer is the current one of both.

One idea: ztrace's ContextVar holds the current span, and OpenTelemetry reads its context through an object of
ztrace's. When OpenTelemetry makes a span current, ztrace's variable is set to a `ForeignSpan` for it; when it
reads the current context, ztrace's span is put into the context if it is the inner one. So ztrace's own spans
do nothing for the connection, and cost no more.

Threads, tasks and greenlets each have their own values of both variables, as without the connection.
"""

import sys
from contextvars import Token
from typing import cast

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context.context import Context, _RuntimeContext

from ztrace import diagnostics
from ztrace.context import Context as OwnContext
from ztrace.context import ForeignSpan, find_current, get_current, make_current, take_out
from ztrace.exceptions.origins import mark_of
from ztrace.otel.identity import context_of, span_context_of
from ztrace.records import PASSED

#: Attributes of an OpenTelemetry span passed by an exception that a ztrace span has recorded.
HOW, ORIGIN_TRACE_ID, ORIGIN_SPAN_ID = (
    "ztrace.exception.how",
    "ztrace.exception.origin.trace_id",
    "ztrace.exception.origin.span_id",
)


def connect() -> None:
    """Make ztrace's spans children of OpenTelemetry's current spans, and the other way round.

    This applies to the whole process and cannot be undone; a second call does nothing. Spans that are current
    before the first call are not connected.
    """
    try:
        inner = context_api._RUNTIME_CONTEXT
        if not isinstance(inner, ConnectedContext):
            context_api._RUNTIME_CONTEXT = ConnectedContext(inner)
    except Exception:
        diagnostics.contain("otel_context")


class MirrorSpan(trace.NonRecordingSpan):
    """Non-recording OpenTelemetry span with the ids of a ztrace span.

    Attributes:
        mirrored: the ztrace span.
    """

    def __init__(self, mirrored: OwnContext) -> None:
        super().__init__(span_context_of(mirrored))
        self.mirrored = mirrored


class ConnectedContext(_RuntimeContext):
    """OpenTelemetry's context storage, with ztrace's current span in the current context."""

    def __init__(self, inner: _RuntimeContext) -> None:
        self._inner = inner

    def get_current(self) -> Context:
        """Return the current context with the innermost span of both tracers."""
        context = self._inner.get_current()
        try:
            current = find_current()
            if current is None:
                return context
            if not isinstance(current, ForeignSpan):
                return trace.set_span_in_context(MirrorSpan(current), context)
            span = trace.get_current_span(context)
            if span is current.source or not isinstance(current.source, trace.Span):
                return context
            return trace.set_span_in_context(current.source, context)
        except Exception:
            diagnostics.contain("otel_context")
            return context

    def attach(self, context: Context) -> "Token[Context]":
        """Make a context current, and its span the current one of ztrace."""
        attached = _Attached(self._inner.attach(context))
        try:
            attached.enter(context)
        except Exception:
            diagnostics.contain("otel_context")
        # Opaque to callers, who only pass it to `detach`.
        return cast("Token[Context]", attached)

    def detach(self, token: "Token[Context] | _Attached") -> None:
        """Restore the context that was current before the token's."""
        if not isinstance(token, _Attached):
            self._inner.detach(token)  # Attached before `connect`.
            return
        try:
            self._inner.detach(token.token)
        finally:
            try:
                token.leave()
            except Exception:
                diagnostics.contain("otel_context")


class _Attached:
    """Token of `attach` for `detach`: OpenTelemetry's token, and the change of ztrace's current span."""

    __slots__ = ("_before", "_foreign", "_handled", "_hides", "token")

    def __init__(self, token: "Token[Context]") -> None:
        self.token = token
        self._foreign: ForeignSpan | None = None
        self._before: OwnContext | None = None
        self._hides = False
        self._handled: BaseException | None = None

    def enter(self, context: Context) -> None:
        span = trace.get_current_span(context)
        current = get_current()
        if _subject(span) is _subject(current.source if isinstance(current, ForeignSpan) else current):
            return  # The span is the same; something else in the context has changed.
        foreign = context_of(span.get_span_context(), ForeignSpan)
        if foreign is not None:
            self._handled = sys.exc_info()[1]
            parent = getattr(span, "parent", None)  # An attribute of the SDK's spans.
            is_child = (
                current is not None
                and parent is not None
                and parent.span_id == int.from_bytes(current.span_id)
                and span.is_recording()
            )
            foreign.enter(span, current if is_child else None)
            self._foreign, self._before = foreign, current
        elif current is not None:
            self._before, self._hides = current, True
            make_current(None)

    def leave(self) -> None:
        before = None if self._before is None or self._before.ended else self._before
        foreign = self._foreign
        if foreign is not None:
            self._tell_origin(foreign)
            foreign.leave()
            if get_current() is foreign:  # Detached in another context, without effect.
                make_current(before)
        elif self._hides:
            self._hides = False
            current = get_current()
            if current is None:
                make_current(before)
            elif current is not before:
                take_out(None, before, current)

    def _tell_origin(self, foreign: ForeignSpan) -> None:
        """Set the origin of an exception that leaves a span, if a ztrace span further in has recorded it."""
        exception, handled = sys.exc_info()[1], self._handled
        self._handled = None
        if exception is None or exception is handled or foreign.ended:
            return
        mark, span = mark_of(exception), foreign.source
        if (
            mark is not None
            and mark.trace_id == foreign.trace_id
            and mark.span_id != foreign.span_id
            and isinstance(span, trace.Span)
            and span.is_recording()
        ):
            origin = {ORIGIN_TRACE_ID: mark.trace_id.hex(), ORIGIN_SPAN_ID: mark.span_id.hex()}
            span.set_attributes({HOW: PASSED, **origin})


def _subject(span: object) -> object:
    """Return the ztrace span that a span mirrors, or the span itself."""
    return span.mirrored if isinstance(span, MirrorSpan) else span
