"""W3C Trace Context propagator for OpenTelemetry, with ztrace's parser and writer."""

from collections.abc import Iterable

from opentelemetry import trace
from opentelemetry.context.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)

from ztrace import diagnostics
from ztrace import propagation as w3c
from ztrace.context import SpanContext, find_current
from ztrace.otel.identity import context_of, span_context_of

#: Headers that are read and written.
FIELDS = ("traceparent", "tracestate")


class Propagator(TextMapPropagator):
    """Propagator for ``set_global_textmap``, alone or in a CompositePropagator."""

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        """Return the context with the span named by the carrier, unchanged if the carrier names none."""
        context = Context() if context is None else context
        try:
            found = {name: _join(getter.get(carrier, name)) for name in FIELDS}
            caller = w3c.extract({name: text for name, text in found.items() if text is not None})
            if caller is not None:
                span = trace.NonRecordingSpan(span_context_of(caller))
                return trace.set_span_in_context(span, context)
        except Exception:
            diagnostics.contain("extract")
        return context

    def inject(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        """Write the context's span, or if it has none the innermost current span of either tracer.

        Before `connect` that is OpenTelemetry's span, if there is one.
        """
        try:
            span = context_of(trace.get_current_span(context).get_span_context(), SpanContext)
            current = span or (find_current() if context is None else None)
            if current is not None:
                headers: dict[str, str] = {}
                w3c.inject(headers, current)
                for name, text in headers.items():
                    setter.set(carrier, name, text)
        except Exception:
            diagnostics.contain("inject")

    @property
    def fields(self) -> set[str]:
        """Names of the headers written by `inject`."""
        return set(FIELDS)


def _join(values: Iterable[str] | None) -> str | None:
    """Join the values of a repeated header as RFC 9110 does."""
    return None if not values else ",".join(values)
