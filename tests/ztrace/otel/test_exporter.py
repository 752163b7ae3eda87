"""OpenTelemetry spans exported over ztrace's transport: all delivered, or counted as dropped."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExportResult
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from opentelemetry.util.types import AttributeValue

import ztrace
from tests.collector.otlp.exporting import KEEPS_BYTES
from tests.ztrace.programs import ALONE, run_program
from tests.ztrace.receiving import Receiver
from tests.ztrace.waiting import wait_for
from ztrace import agent
from ztrace.otel import SpanExporter
from ztrace.otel.exporting import record_of
from ztrace.publishing import delivery
from ztrace.records import ERROR, OK, PASSED, RAISED, ExceptionRecord, FrameRecord, Span
from ztrace.wire import DATA
from ztrace_collector.otlp.mapping import conventions

VALUES: dict[str, AttributeValue] = {
    "text": "visa",
    "number": 12,
    "share": 12.0,
    "yes": True,
    **({"bytes": b"\0\xff"} if KEEPS_BYTES else {}),
    "texts": ("a", "b"),
    "numbers": (1, 2),
}
SENT: dict[str, object] = {**VALUES, "texts": ["a", "b"], "numbers": [1, 2]}


#: Python 3.12.0 and 3.12.1 start no thread at exit, so spans exported after ztrace's exit are reported lost.
STARTS_NO_THREAD_AT_EXIT = (3, 12, 0) <= sys.version_info[:3] <= (3, 12, 1)


class Service:
    """Tracer provider whose spans are exported to ztrace."""

    def __init__(self, limits: SpanLimits | None = None, name: str = "shop") -> None:
        self.exporter = SpanExporter()
        resource = Resource({"service.name": name, "deployment.environment.name": "test"})
        self.provider = TracerProvider(resource=resource, span_limits=limits, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("tests", "1.2", "https://example.org/1", {"a": 1})


@pytest.fixture
def service(receiver: Receiver) -> Iterator[Service]:
    """Yield a provider in a process that publishes to the receiver."""
    ztrace.configure("shop", receiver.endpoint)
    service = Service()
    yield service
    service.provider.shutdown()


def stored(receiver: Receiver, name: str = "o1") -> Span:
    """Flush, and return the only stored span of this name."""
    assert ztrace.flush(10)
    (span,) = (span for span in receiver.spans if span.name == name)
    return span


def test_everything_that_a_span_has_arrives(receiver: Receiver, service: Service) -> None:
    """Every field of an OpenTelemetry span arrives, in a column or in the details, with its type."""
    linked = SpanContext(5, 6, True, TraceFlags(1), TraceState([("k", "v")]))
    parent = SpanContext(1, 2, True, TraceFlags(1), TraceState([("a", "b")]))
    span = service.tracer.start_span(
        "o1",
        trace.set_span_in_context(trace.NonRecordingSpan(parent)),
        SpanKind.CONSUMER,
        VALUES,
        [Link(linked, VALUES), Link(parent)],
        start_time=1_000,
    )
    span.add_event("first", VALUES, 1_500)
    span.add_event("second", timestamp=1_600)
    span.set_status(StatusCode.OK)
    span.end(3_000)
    got = stored(receiver)
    assert got == Span(
        trace_id=(1).to_bytes(16),
        span_id=span.get_span_context().span_id.to_bytes(8),
        parent_id=(2).to_bytes(8),
        kind=5,
        name="o1",
        start_ns=1_000,
        duration_ns=2_000,
        self_ns=None,
        cpu_ns=None,
        status=OK,
        attributes=SENT,
        links=[[(5).to_bytes(16), (6).to_bytes(8)], [(1).to_bytes(16), (2).to_bytes(8)]],
        exception=None,
        details={
            "events": [
                {"name": "first", "time_ns": 1_500, "attributes": SENT},
                {"name": "second", "time_ns": 1_600},
            ],
            "status": "ok",
            "trace_state": "a=b",
            "flags": 0x300,
            "scope": {
                "name": "tests",
                "version": "1.2",
                "attributes": {"a": 1},
                "schema_url": "https://example.org/1",
            },
            "links": [
                {"trace_state": "k=v", "attributes": SENT, "flags": 0x300},
                {"trace_state": "a=b", "flags": 0x300},
            ],
        },
    )
    assert got.attributes is not None
    assert type(got.attributes["number"]) is int
    assert type(got.attributes["share"]) is float


@pytest.mark.parametrize("kind", list(SpanKind))
def test_kinds(receiver: Receiver, service: Service, kind: SpanKind) -> None:
    """Each kind of span arrives as the same kind."""
    service.tracer.start_span("o1", kind=kind).end()
    assert stored(receiver).kind == kind.value + 1


def test_what_the_sdk_dropped_is_told(receiver: Receiver, service: Service) -> None:
    """The numbers of attributes, events and links dropped by the SDK's limits arrive."""
    limits = SpanLimits(max_span_attributes=1, max_events=1, max_links=1, max_event_attributes=1)
    small = Service(limits)
    links = [Link(SpanContext(5, 6, True)), Link(SpanContext(7, 8, True))]
    span = small.tracer.start_span("o1", attributes={"a": 1, "b": 2}, links=links)
    for _ in range(3):
        span.add_event("e", {"a": 1, "b": 2})
    span.end()
    small.provider.shutdown()
    details = stored(receiver).details
    assert details is not None
    assert details["dropped"] == {"attributes": 1, "events": 2, "links": 1}
    assert details["events"][0]["dropped_attributes"] == 1


def fail() -> None:
    """Raise an error from another."""
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise ValueError("no such card") from error


def test_an_exception_is_the_spans_and_its_event_stays(receiver: Receiver, service: Service) -> None:
    """An exception event becomes the span's exception, and the event is kept and marked as converted."""
    with pytest.raises(ValueError, match="card"), service.tracer.start_as_current_span("o1"):
        fail()
    span = stored(receiver)
    assert span.status == ERROR
    assert span.exception is not None
    record = ExceptionRecord(*span.exception)
    assert (record.type, record.message, record.how) == ("ValueError", "no such card", RAISED)
    assert (record.origin_trace_id, record.origin_span_id) == (span.trace_id, span.span_id)
    frame = FrameRecord(*record.frames[-1])
    assert (frame.file, frame.function, frame.in_app) == (__file__, "fail", True)
    assert frame.code == 'raise ValueError("no such card") from error'
    (cause,) = (ExceptionRecord(*cause) for cause in record.causes)
    assert (cause.type, cause.how) == ("KeyError", "wrapped")
    details = span.details or {}
    (event,) = details["events"]
    assert event["attributes"]["exception.type"] == "ValueError"
    assert event[conventions.BECAME_EXCEPTION] is True
    assert details["status_message"] == "ValueError: no such card"


def test_an_exception_that_did_not_end_the_span_stays_an_event(receiver: Receiver, service: Service) -> None:
    """A handled exception stays an event, and an error status without an event has no exception."""
    with service.tracer.start_as_current_span("o1") as span:
        span.record_exception(ValueError("handled"))
    with service.tracer.start_as_current_span("o2") as span:
        span.set_status(Status(StatusCode.ERROR, "refused"))
    assert stored(receiver).exception is None
    refused = stored(receiver, "o2")
    assert (refused.status, refused.exception) == (ERROR, None)
    assert (refused.details or {})["status_message"] == "refused"


@pytest.mark.usefixtures("connected")
def test_an_exception_that_ztrace_saw_further_in_has_passed(receiver: Receiver, service: Service) -> None:
    """An exception that ztrace recorded further in passes the span, which keeps the origin's ids."""
    with (
        pytest.raises(ValueError, match="card"),
        service.tracer.start_as_current_span("o1"),
        ztrace.span("z1"),
    ):
        fail()
    passed, origin = stored(receiver), stored(receiver, "z1")
    assert passed.exception is not None
    record = ExceptionRecord(*passed.exception)
    assert (record.how, list(record.causes)) == (PASSED, [])
    assert (record.origin_trace_id, record.origin_span_id) == (origin.trace_id, origin.span_id)
    assert passed.attributes == {
        "ztrace.exception.how": PASSED,
        "ztrace.exception.origin.trace_id": origin.trace_id.hex(),
        "ztrace.exception.origin.span_id": origin.span_id.hex(),
    }
    assert passed.parent_id is None
    assert origin.parent_id == passed.span_id


def test_secrets_stay_here(receiver: Receiver, service: Service) -> None:
    """Secrets in attributes, events and messages are scrubbed."""
    secret = "hunter2"
    span = service.tracer.start_span("o1", attributes={"api_key": secret})
    span.add_event("login", {"password": secret})
    span.record_exception(ValueError(f"password={secret}"))
    span.set_status(Status(StatusCode.ERROR, f"password={secret}"))
    span.end()
    kept = repr(stored(receiver))
    assert "'login'" in kept
    assert "hunter2" not in kept


def test_what_finds_no_room_is_counted(receiver: Receiver, counts: dict[str, int]) -> None:
    """Spans that exceed the queue are counted as dropped."""
    receiver.acknowledging = False
    ztrace.configure("shop", receiver.endpoint, queue_spans=10, linger_ms=60_000)
    service = Service()
    for number in range(1_000):
        service.tracer.start_span(f"o{number}").end()
    publisher = agent.current_publisher()
    assert publisher is not None
    receiver.acknowledging = True
    assert ztrace.flush(10)
    assert publisher.dropped > 0
    assert len(receiver.spans) + publisher.dropped == 1_000
    ztrace.shutdown()
    last = receiver.messages[-1][0]
    assert (last.created, last.dropped) == (1_000, publisher.dropped)
    service.provider.shutdown()


def test_a_span_that_cannot_be_made_a_record_is_counted(
    receiver: Receiver, service: Service, caplog: pytest.LogCaptureFixture, counts: dict[str, int]
) -> None:
    """A span that cannot be converted is counted as dropped, and the other spans arrive."""
    good = service.tracer.start_span("o1")
    good.end()
    with caplog.at_level(logging.CRITICAL, "ztrace"):
        assert service.exporter.export([ReadableSpan("no ids")]) is SpanExportResult.SUCCESS
    assert stored(receiver)
    publisher = agent.current_publisher()
    assert publisher is not None
    assert publisher.dropped == 1
    assert counts.pop("otel_export") == 1


def test_flushing_has_a_deadline(
    receiver: Receiver, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`force_flush` returns True once all is stored, and False at its deadline otherwise."""
    monkeypatch.setattr(delivery, "RESEND_S", 0.1)
    service.tracer.start_span("o1").end()
    assert service.exporter.force_flush(10_000)
    assert receiver.names() == ["o1"]
    receiver.acknowledging = False
    service.tracer.start_span("o2").end()
    assert not service.exporter.force_flush(50)
    receiver.acknowledging = True


def test_after_a_shutdown_nothing_is_taken_and_ztrace_goes_on(receiver: Receiver, service: Service) -> None:
    """After a shutdown the exporter rejects spans, and ztrace continues to record."""
    service.tracer.start_span("o1").end()
    service.exporter.shutdown()
    assert receiver.names() == ["o1"]
    assert service.exporter.export([]) is SpanExportResult.FAILURE
    with ztrace.span("z1"):
        pass
    assert stored(receiver, "z1")
    service.exporter.shutdown()


def test_unconfigured_nothing_is_taken(counts: dict[str, int]) -> None:
    """Without a configuration the exporter rejects spans."""
    assert SpanExporter().export([]) is SpanExportResult.FAILURE
    SpanExporter().shutdown()
    assert SpanExporter().force_flush(0)


def test_another_name_of_the_service_is_told_once(
    receiver: Receiver, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """A provider with another service name is logged once, and ztrace's name is used."""
    other = Service(name="checkout")
    for _ in range(3):
        other.tracer.start_span("o1").end()
    other.provider.shutdown()
    (line,) = [record.getMessage() for record in caplog.records if record.name == "ztrace"]
    assert "'checkout'" in line
    assert "'shop'" in line
    caplog.clear()
    Service(name="unknown_service").tracer.start_span("o2").end()
    service.tracer.start_span("o3").end()
    assert caplog.records == []


@pytest.mark.process
def test_a_fork_publishes_for_itself(receiver: Receiver) -> None:
    """Parent and forked child export under separate incarnations, and no span is sent twice."""
    run_program(
        "import os, sys, ztrace\n"
        "from ztrace.otel import SpanExporter\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import BatchSpanProcessor\n"
        "ztrace.configure('shop', sys.argv[1])\n"
        "provider = TracerProvider()\n"
        "provider.add_span_processor(BatchSpanProcessor(SpanExporter()))\n"
        "tracer = provider.get_tracer('t')\n"
        "tracer.start_span('before').end()\n"
        "assert provider.force_flush()\n"
        "child = os.fork()\n"
        "tracer.start_span('child' if child == 0 else 'parent').end()\n"
        "assert provider.force_flush()\n"
        "if child: os.waitpid(child, 0)\n",
        receiver.endpoint,
    )
    wait_for(lambda: len(receiver.spans) == 3)
    assert sorted(receiver.names()) == ["before", "child", "parent"]
    assert len({header.incarnation for header in receiver.headers(DATA)}) == 2


@pytest.mark.process
@pytest.mark.parametrize("first", ["configure", "provider"])
def test_what_is_left_at_exit_is_delivered(receiver: Receiver, first: str) -> None:
    """Spans left in the SDK's processor at exit are delivered, whether ztrace or the SDK is closed first."""
    setups = {
        "configure": "ztrace.configure('shop', sys.argv[1])\n",
        "provider": "provider = TracerProvider()\n",
    }
    second = setups[{"configure": "provider", "provider": "configure"}[first]]
    done = run_program(
        "import sys, ztrace\n"
        "from ztrace.otel import SpanExporter\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import BatchSpanProcessor\n"
        f"{setups[first]}{second}"
        "provider.add_span_processor(BatchSpanProcessor(SpanExporter()))\n"
        "for number in range(100):\n"
        "    provider.get_tracer('t').start_span(f'o{number}').end()\n"
        "with ztrace.span('z'):\n"
        "    pass\n",
        receiver.endpoint,
    )
    if first == "provider" and STARTS_NO_THREAD_AT_EXIT:
        assert f"ztrace: 100 spans not delivered to {receiver.endpoint}\n" in done.stderr
        assert receiver.names() == ["z"]
    else:
        assert done.stderr == ""
        wait_for(lambda: len(receiver.spans) == 101)


@pytest.mark.process
def test_what_is_left_at_exit_and_cannot_be_delivered_is_said(tmp_path: Path) -> None:
    """Spans that cannot be delivered at exit are reported on stderr."""
    done = run_program(
        ALONE + "import sys, ztrace\n"
        "from ztrace.otel import SpanExporter\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import BatchSpanProcessor\n"
        "provider = TracerProvider()\n"
        "ztrace.configure('shop', sys.argv[1])\n"
        "provider.add_span_processor(BatchSpanProcessor(SpanExporter()))\n"
        "provider.get_tracer('t').start_span('o').end()\n",
        f"ipc://{tmp_path}/nobody",
    )
    assert done.stderr.endswith(f"ztrace: 1 span not delivered to ipc://{tmp_path}/nobody\n")


@pytest.mark.process
def test_without_opentelemetry_one_line_says_what_to_install() -> None:
    """Importing `ztrace.otel` without the SDK raises one line that names the extra to install."""
    done = run_program(
        "import sys\n"
        "sys.modules['opentelemetry'] = None\n"
        "import ztrace\n"
        "try:\n"
        "    import ztrace.otel\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error)\n"
    )
    assert done.stdout == "ztrace.otel needs the OpenTelemetry SDK; pip install 'ztrace[otel]'\n"


def test_a_batch_processor_empties_its_queue_in_its_own_thread(receiver: Receiver) -> None:
    """Spans exported by a batch processor in its own thread all arrive, each once."""
    ztrace.configure("shop", receiver.endpoint)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(SpanExporter(), max_queue_size=10_000))
    tracer = provider.get_tracer("tests")
    for number in range(3_000):
        tracer.start_span(f"o{number}").end()
    provider.shutdown()
    assert sorted(receiver.names()) == sorted(f"o{number}" for number in range(3_000))


@pytest.mark.parametrize(
    ("times", "kept"),
    [((None, None), (0, 0)), ((5, None), (5, 0)), ((None, 5), (5, 0)), ((9, 5), (9, 0)), ((5, 9), (5, 4))],
)
def test_a_duration_is_never_negative(
    times: tuple[int | None, int | None], kept: tuple[int | None, int | None]
) -> None:
    """Missing or reversed times never give a negative duration."""
    span = ReadableSpan("o", SpanContext(1, 2, False), start_time=times[0], end_time=times[1])
    record = Span(*record_of(span))
    assert (record.start_ns, record.duration_ns) == kept
