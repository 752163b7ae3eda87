"""Tracers used by a maker: ztrace, the OpenTelemetry SDK for comparison, or none.

One idea: all make the same tree, a root with four descendants and one attribute each.
"""

from collections.abc import Callable

#: Spans of one tree.
TREE = 5


class Untraced:
    """Absence of a tracer, for comparison."""

    dropped = 0

    def configure(self, endpoint: str) -> None:
        """Do nothing, as without tracing."""

    def tree(self) -> None:
        """Do nothing, as without tracing."""

    def close(self, timeout_s: float) -> bool:
        """Return True: nothing is pending."""
        return True


class Ztrace:
    """ztrace, the tracer under test."""

    dropped = 0

    def configure(self, endpoint: str) -> None:
        """Start tracing to the endpoint."""
        import ztrace

        self._span = ztrace.span
        ztrace.configure(service="maker", endpoint=endpoint)

    def tree(self) -> None:
        """Make a root with four descendants."""
        span = self._span
        with span("root", number=1):
            with span("first", card="visa"):
                pass
            with span("second", card="visa"):
                with span("third", card="visa"):
                    pass
                with span("fourth", card="visa"):
                    pass

    def close(self, timeout_s: float) -> bool:
        """Deliver the pending spans, and return whether all are stored."""
        import ztrace
        from ztrace import agent

        publisher = agent.current_publisher()
        flushed = ztrace.flush(timeout_s)
        ztrace.shutdown()
        if publisher is not None:
            self.dropped = publisher.dropped
        return flushed


class OpenTelemetry:
    """OpenTelemetry SDK set up as documented, with its defaults, for comparison."""

    dropped = 0

    def configure(self, endpoint: str) -> None:
        """Start tracing to the endpoint."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._provider = TracerProvider(resource=Resource.create({"service.name": "maker"}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._start = self._provider.get_tracer("maker").start_as_current_span

    def tree(self) -> None:
        """Make the same tree as `Ztrace.tree`."""
        start = self._start
        with start("root", attributes={"number": 1}):
            with start("first", attributes={"card": "visa"}):
                pass
            with start("second", attributes={"card": "visa"}):
                with start("third", attributes={"card": "visa"}):
                    pass
                with start("fourth", attributes={"card": "visa"}):
                    pass

    def close(self, timeout_s: float) -> bool:
        """Deliver the pending spans, and return whether the flush succeeded."""
        flushed = self._provider.force_flush(int(1000 * timeout_s))
        self._provider.shutdown()
        return bool(flushed)


TRACERS: dict[str, Callable[[], Ztrace | OpenTelemetry]] = {"ztrace": Ztrace, "opentelemetry": OpenTelemetry}
