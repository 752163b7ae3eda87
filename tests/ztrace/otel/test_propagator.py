"""OpenTelemetry propagator for W3C trace context, equivalent to ztrace's own."""

import pytest
from opentelemetry import propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import ztrace
import ztrace.otel
from tests.ztrace.recording import Recorder
from ztrace.otel import Propagator

PARENT = {"traceparent": f"00-{1:032x}-{2:016x}-01", "tracestate": "a=b,c=d"}


def carrier_of(context: Context | None = None) -> dict[str, str]:
    """Return the headers injected for a context."""
    carrier: dict[str, str] = {}
    Propagator().inject(carrier, context)
    return carrier


def test_what_is_extracted_is_a_remote_span_and_goes_on_as_it_came() -> None:
    """An extracted context is a remote span that is injected with the same ids, flags and tracestate."""
    context = Propagator().extract(PARENT, Context({"kept": 1}))
    span = trace.get_current_span(context).get_span_context()
    assert (span.trace_id, span.span_id, span.is_remote, span.trace_flags) == (1, 2, True, 1)
    assert context["kept"] == 1
    assert carrier_of(context) == PARENT


@pytest.mark.parametrize(
    "carrier",
    [
        {},
        {"traceparent": ""},
        {"traceparent": f"00-{0:032x}-{2:016x}-01"},
        {"traceparent": f"ff-{1:032x}-{2:016x}-01"},
        {"traceparent": "00-zz"},
        {"traceparent": f"00-{1:032x}-{2:016x}-01-more"},
    ],
)
def test_what_is_not_valid_changes_nothing(carrier: dict[str, str]) -> None:
    """Invalid headers leave the context unchanged."""
    context = Context({"kept": 1})
    assert Propagator().extract(carrier, context) == context
    assert Propagator().extract(carrier) == Context()


def test_opentelemetry_reads_what_is_written_and_the_other_way_round() -> None:
    """Headers are interchangeable with those of OpenTelemetry's own propagator."""
    theirs = TraceContextTextMapPropagator()
    written: dict[str, str] = {}
    theirs.inject(written, Propagator().extract(PARENT))
    assert written == PARENT
    assert carrier_of(theirs.extract(PARENT)) == PARENT


@pytest.mark.usefixtures("connected")
def test_the_innermost_span_is_injected(recorder: Recorder, tracer: trace.Tracer) -> None:
    """The innermost span of either tracer is injected, and by `ztrace.inject` too."""
    with ztrace.span("z1") as ours:
        assert carrier_of()["traceparent"][36:52] == ours.span_id.hex()
        with tracer.start_as_current_span("o1") as theirs:
            header = carrier_of()["traceparent"]
            assert header[36:52] == f"{theirs.get_span_context().span_id:016x}"
            by_ztrace: dict[str, str] = {}
            ztrace.inject(by_ztrace)
            assert by_ztrace["traceparent"] == header
            with ztrace.span("z2") as inner:
                assert carrier_of()["traceparent"][36:52] == inner.span_id.hex()
                assert carrier_of(Context()) == {}
    assert carrier_of() == {}


def test_not_connected_a_span_of_ztraces_is_injected_if_there_is_no_other(
    recorder: Recorder, tracer: trace.Tracer
) -> None:
    """Without `connect`, OpenTelemetry's current span is injected, and ztrace's only if there is none."""
    with ztrace.span("z1") as ours:
        assert carrier_of()["traceparent"][36:52] == ours.span_id.hex()
        with tracer.start_as_current_span("o1") as theirs:
            assert carrier_of()["traceparent"][36:52] == f"{theirs.get_span_context().span_id:016x}"


def test_it_is_one_of_a_composite(monkeypatch: pytest.MonkeyPatch, recorder: Recorder) -> None:
    """The propagator works as part of the process's composite propagator, beside baggage."""
    monkeypatch.setattr(propagate, "propagator", propagate.get_global_textmap())
    propagate.set_global_textmap(CompositePropagator([Propagator(), W3CBaggagePropagator()]))
    assert propagate.get_global_textmap().fields == {"traceparent", "tracestate", "baggage"}
    carrier: dict[str, str] = {}
    propagate.inject(carrier, propagate.extract({**PARENT, "baggage": "user=ada"}))
    assert carrier == {**PARENT, "baggage": "user=ada"}
