"""Connection to OpenTelemetry: its spans over ztrace's transport, and one context for both tracers.

    import ztrace.otel
    ztrace.otel.instrument()

does all of it for every instrumentation that is installed. Or by hand:

    ztrace.otel.connect()
    provider.add_span_processor(BatchSpanProcessor(ztrace.otel.SpanExporter()))
    set_global_textmap(ztrace.otel.Propagator())

Each of the three can be used without the others. Importing ztrace imports nothing of this.
"""

try:
    from ztrace.otel.context import connect
    from ztrace.otel.exporting import SpanExporter
    from ztrace.otel.instrumenting import instrument
    from ztrace.otel.propagating import Propagator
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "opentelemetry":
        raise
    raise ModuleNotFoundError(
        "ztrace.otel needs the OpenTelemetry SDK; pip install 'ztrace[otel]'", name=error.name
    ) from None

__all__ = ["Propagator", "SpanExporter", "connect", "instrument"]
