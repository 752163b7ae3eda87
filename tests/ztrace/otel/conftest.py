"""A real SDK beside ztrace: its spans in memory, and its context connected for one test."""

from collections.abc import Iterator

import pytest
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import ztrace.otel


@pytest.fixture
def exported() -> InMemorySpanExporter:
    """Return what OpenTelemetry's own spans are handed to."""
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exported: InMemorySpanExporter) -> Iterator[trace.Tracer]:
    """Yield a tracer of the SDK."""
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exported))
    yield provider.get_tracer("tests", "1.0")
    provider.shutdown()


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Connect the two for this test; at the end OpenTelemetry's context is as empty as ztrace's."""
    monkeypatch.setattr(context_api, "_RUNTIME_CONTEXT", context_api._RUNTIME_CONTEXT)
    ztrace.otel.connect()
    assert context_api.get_current() == Context()
    yield
    assert context_api.get_current() == Context()
