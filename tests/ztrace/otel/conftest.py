"""Fixtures with a real OpenTelemetry SDK that exports to memory, connected to ztrace for one test."""

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
    """Return the in-memory exporter of OpenTelemetry's spans."""
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exported: InMemorySpanExporter) -> Iterator[trace.Tracer]:
    """Yield a tracer of the SDK; its provider is shut down after the test."""
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exported))
    yield provider.get_tracer("tests", "1.0")
    provider.shutdown()


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Connect ztrace and OpenTelemetry for this test, and assert that both contexts are empty at its end."""
    monkeypatch.setattr(context_api, "_RUNTIME_CONTEXT", context_api._RUNTIME_CONTEXT)
    ztrace.otel.connect()
    assert context_api.get_current() == Context()
    yield
    assert context_api.get_current() == Context()
