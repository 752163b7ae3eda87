"""ztrace: distributed tracing for Python services that talk over zerorpc and ZeroMQ.

    import ztrace
    ztrace.configure(service="billing")
    ztrace.instrument("zerorpc")
    with ztrace.span("charge", card="visa") as span:
        span.set(amount=12)

This package is the agent inside a traced service. It records spans, carries their context through calls, and
publishes them to the collector (`ztrace collect`). It never raises into the program that uses it.
"""

from ztrace.agent import configure, flush, shutdown
from ztrace.context import Context, SpanContext
from ztrace.decorating.decorator import trace
from ztrace.logs import install_log_record_factory, logging_filter
from ztrace.middleware import carry, instrument
from ztrace.propagation import current_span, extract, inject
from ztrace.spans import Span, span

__version__ = "0.1.0"

__all__ = [
    "Context",
    "Span",
    "SpanContext",
    "carry",
    "configure",
    "current_span",
    "extract",
    "flush",
    "inject",
    "install_log_record_factory",
    "instrument",
    "logging_filter",
    "shutdown",
    "span",
    "trace",
]
