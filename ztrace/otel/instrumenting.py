"""Every installed instrumentation of OpenTelemetry, with its spans in ztrace's trees.

One idea: OpenTelemetry's packages register their instrumentations as entry points, so no library is named but
the HTTP servers and clients whose responses carry origins back.
"""

import os
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ztrace import diagnostics
from ztrace.errors import quote
from ztrace.otel.context import connect
from ztrace.otel.exporting import SpanExporter
from ztrace.otel.handover import Handover
from ztrace.otel.propagating import Propagator

#: Group of the entry points, and OpenTelemetry's own variable with the names of those to leave out.
_GROUP = "opentelemetry_instrumentor"
_DISABLED = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"


def instrument() -> None:
    """Trace through every OpenTelemetry instrumentation that is installed, into the same call trees.

    This connects both tracers as `connect` does, sends OpenTelemetry's spans to the collector unless the
    program has set a tracer provider, and switches on each installed instrumentation, HTTP, gRPC, databases
    and others. Origins of exceptions are passed back in HTTP responses. An instrumentation that fails is a
    warning. May be called before or after `ztrace.configure`, and repeatedly.
    """
    try:
        connect()
        _hand_over()
        _propagate()
        _instrument_all()
    except Exception:
        diagnostics.contain("otel_instrument")


def _hand_over() -> None:
    """Set a provider whose spans go to ztrace; one that the program has set keeps its own exporters."""
    global _provider
    provider = trace.get_tracer_provider()
    if provider is _provider:
        return
    if isinstance(provider, trace.ProxyTracerProvider):
        provider = TracerProvider()
        provider.add_span_processor(Handover(SpanExporter()))
        trace.set_tracer_provider(provider)
    elif isinstance(provider, TracerProvider):
        provider.add_span_processor(Handover(None))
    _provider = provider


#: Provider that has ztrace's processor.
_provider: trace.TracerProvider | None = None


def _propagate() -> None:
    """Replace OpenTelemetry's own propagator of the same headers by ztrace's."""
    present = propagate.get_global_textmap()
    members = present._propagators if type(present) is CompositePropagator else [present]
    if any(type(member) is TraceContextTextMapPropagator for member in members):
        propagate.set_global_textmap(
            CompositePropagator(
                [
                    Propagator() if type(member) is TraceContextTextMapPropagator else member
                    for member in members
                ]
            )
        )


def _instrument_all() -> None:
    from importlib.metadata import entry_points

    points = sorted(entry_points(group=_GROUP), key=lambda point: point.name)
    if not points:
        diagnostics.warn(
            "no instrumentation of OpenTelemetry is installed; install those of your libraries, as"
            " opentelemetry-instrumentation-requests"
        )
        return
    from ztrace.otel import clients, servers  # Need opentelemetry-instrumentation, as instrumentations do.

    servers.install()
    clients.install()
    hooks = servers.HOOKS | clients.HOOKS
    disabled = {name.strip() for name in os.environ.get(_DISABLED, "").split(",")}
    for point in points:
        if point.name not in disabled and "*" not in disabled:
            _instrument(point, hooks.get(point.name, {}))


def _instrument(point: Any, hooks: dict[str, Any]) -> None:
    """Switch one instrumentation on, unless its library is not installed."""
    from opentelemetry.instrumentation.dependencies import get_dist_dependency_conflicts

    try:
        if point.dist is not None and get_dist_dependency_conflicts(point.dist) is not None:
            return
        instrumentor = point.load()()
        if not instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.instrument(skip_dep_check=True, **hooks)
    except ModuleNotFoundError:
        return  # Of an optional library that the distribution's dependencies do not name.
    except Exception as error:
        diagnostics.warn(
            f"OpenTelemetry's instrumentation {quote(point.name)} failed, and is off: {quote(error)}"
        )
