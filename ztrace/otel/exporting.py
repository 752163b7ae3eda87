"""Export of OpenTelemetry's spans to the publisher, as records like those of ztrace's spans.

One idea: data for which ztrace has a field go into the field, all others into ``details``. From the queue
on, no code depends on the source of a span: it is scrubbed, batched, kept until stored, and counted like any
other.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace import export as sdk
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode

from ztrace import agent, diagnostics
from ztrace.errors import quote
from ztrace.exceptions.messages import MAX_MESSAGE
from ztrace.exceptions.ownership import is_in_app
from ztrace.exceptions.texts import read_stack_text
from ztrace.otel.context import HOW, ORIGIN_SPAN_ID, ORIGIN_TRACE_ID
from ztrace.publishing.publisher import Publisher
from ztrace.records import ERROR, KIND_NUMBERS, OK, PASSED, RAISED, ExceptionRecord, Record
from ztrace.settings import Settings

#: Numbers of OpenTelemetry's kinds.
KINDS = {kind: KIND_NUMBERS[kind.name.lower()] for kind in SpanKind}
#: OTLP's flags of a parent or linked span: "is remote" is known, and is true.
_KNOWS_REMOTE, _IS_REMOTE = 0x100, 0x200
#: Key that marks the event from which a span's exception was made: the collector forwards it only once.
BECAME_EXCEPTION = "became_exception"
#: Name that the SDK gives to a service without one.
_UNNAMED = "unknown_service"


class SpanExporter(sdk.SpanExporter):
    """Exporter for a span processor of the SDK: ``BatchSpanProcessor(ztrace.otel.SpanExporter())``.

    Spans go out under the service and instance that ztrace was configured with.
    """

    def __init__(self) -> None:
        self._shut_down = False
        self._warned = False
        #: Settings of the last publisher.
        self._settings: Settings | None = _settings_of(agent.current_publisher())
        #: Publisher for spans exported at exit, after ztrace's own has been closed.
        self._last: Publisher | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> sdk.SpanExportResult:
        """Append spans to the publisher's queue, which counts those without room.

        Returns:
            FAILURE if ztrace is not configured, or this was shut down: nothing was taken.
        """
        try:
            publisher = self._find_publisher()
            if publisher is None:
                return sdk.SpanExportResult.FAILURE
            for span in spans:
                self._hand_over(span, publisher)
            return sdk.SpanExportResult.SUCCESS
        except Exception:
            diagnostics.contain("otel_export")
            return sdk.SpanExportResult.FAILURE

    def take(self, span: ReadableSpan, exception: ExceptionRecord | None) -> None:
        """Append one span, with its exception if that has been recorded as ztrace records them."""
        publisher = self._find_publisher()
        if publisher is not None:
            self._hand_over(span, publisher, exception)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until the spans exported so far are stored; return False at the deadline."""
        return agent.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Wait until the exported spans are stored, and reject later ones; ztrace itself continues."""
        try:
            if self._shut_down:
                return
            self._shut_down = True
            if self._last is None:
                agent.flush(agent.EXIT_TIMEOUT_S)
            else:
                agent.close(self._last, agent.EXIT_TIMEOUT_S)
        except Exception:
            diagnostics.contain("otel_export")

    def _find_publisher(self) -> Publisher | None:
        """Return the publisher, or a new one if the SDK ends after ztrace when the interpreter exits."""
        if self._shut_down:
            return None
        publisher = agent.current_publisher()
        if publisher is not None:
            self._settings = publisher.settings
        elif agent.exiting and self._settings is not None:
            publisher = self._last = self._last or agent.open_publisher(
                self._settings._replace(profile="off")  # Nothing runs any more.
            )
        return publisher

    def _hand_over(
        self, span: ReadableSpan, publisher: Publisher, exception: ExceptionRecord | None = None
    ) -> None:
        try:
            record = record_of(span, exception)
            self._compare_services(span.resource, publisher.settings.service)
        except Exception:
            diagnostics.contain("otel_export")
            publisher.dropped += 1
            return
        if len(publisher.queue) < publisher.room:
            publisher.queue.append(record)
        else:
            publisher.overflow(record)

    def _compare_services(self, resource: Resource, service: str) -> None:
        if self._warned:
            return
        named = str(resource.attributes.get(SERVICE_NAME, _UNNAMED))
        if named != service and not named.startswith(_UNNAMED):
            self._warned = True
            diagnostics.warn(
                f"OpenTelemetry's spans of the service {quote(named)} are published as {quote(service)},"
                " which is what ztrace was configured with; give both the same name"
            )


def _settings_of(publisher: Publisher | None) -> Settings | None:
    return None if publisher is None else publisher.settings


def record_of(span: ReadableSpan, recorded: ExceptionRecord | None = None) -> Record:
    """Return the record of an ended span.

    Args:
        span: of the SDK.
        recorded: the exception that ended it, instead of the text in its last exception event.
    """
    context = span.get_span_context()
    if context is None:
        raise ValueError("a span without ids")
    start_ns = span.start_time or span.end_time or 0
    status, exception = OK, None
    attributes = _plain(span.attributes)
    events = [_event(event) for event in span.events]
    if span.status.status_code is StatusCode.ERROR:
        status, exception = ERROR, _exception(events, context, attributes)
        if recorded is not None:
            exception = recorded
    links = span.links
    return (
        context.trace_id.to_bytes(16),
        context.span_id.to_bytes(8),
        None if span.parent is None else span.parent.span_id.to_bytes(8),
        KINDS[span.kind],
        span.name,
        start_ns,
        max(0, (span.end_time or 0) - start_ns),
        None,
        None,
        status,
        attributes or None,
        [[link.context.trace_id.to_bytes(16), link.context.span_id.to_bytes(8)] for link in links] or None,
        exception,
        _without_nothing(
            events=events,
            status="ok" if span.status.status_code is StatusCode.OK else None,
            status_message=span.status.description,
            trace_state=_state_of(context),
            flags=_flags_of(span.parent),
            scope=_scope_of(span),
            links=[_link(link) for link in links],
            dropped=_without_nothing(
                attributes=span.dropped_attributes, events=span.dropped_events, links=span.dropped_links
            ),
        ),
    )


def _event(event: Event) -> dict[str, Any]:
    return {
        "name": event.name,
        "time_ns": event.timestamp,
        **_without_nothing(attributes=_plain(event.attributes), dropped_attributes=event.dropped_attributes),
    }


def _link(link: Link) -> dict[str, Any]:
    return _without_nothing(
        trace_state=_state_of(link.context),
        attributes=_plain(link.attributes),
        flags=_flags_of(link.context),
        dropped_attributes=link.dropped_attributes,
    )


def _scope_of(span: ReadableSpan) -> dict[str, Any] | None:
    scope = span.instrumentation_scope
    if scope is None:
        return None
    return _without_nothing(
        name=scope.name,
        version=scope.version,
        attributes=_plain(scope.attributes),
        schema_url=scope.schema_url,
    )


def _state_of(context: SpanContext) -> str | None:
    return context.trace_state.to_header() if context.trace_state else None


def _flags_of(context: SpanContext | None) -> int:
    return _KNOWS_REMOTE | (_IS_REMOTE if context is not None and context.is_remote else 0)


def _exception(
    events: Sequence[dict[str, Any]], context: SpanContext, attributes: Mapping[str, Any]
) -> ExceptionRecord | None:
    """Return the exception in the last exception event of a failed span.

    An exception that ztrace saw in a span further in began there, and has only passed this one.
    """
    event = next((event for event in reversed(events) if event["name"] == "exception"), None)
    if event is None:
        return None
    event[BECAME_EXCEPTION] = True
    told = event.get("attributes", {})
    record = read_stack_text(
        str(told.get("exception.stacktrace", "")),
        is_in_app,
        str(told.get("exception.type", "")),
        str(told.get("exception.message", ""))[:MAX_MESSAGE],
    )
    if attributes.get(HOW) == PASSED:  # Set by the connected context.
        trace_id, span_id = (bytes.fromhex(attributes[name]) for name in (ORIGIN_TRACE_ID, ORIGIN_SPAN_ID))
        return record._replace(how=PASSED, causes=[], origin_trace_id=trace_id, origin_span_id=span_id)
    return record._replace(
        how=RAISED,
        origin_trace_id=context.trace_id.to_bytes(16),
        origin_span_id=context.span_id.to_bytes(8),
    )


def _plain(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return attributes with lists in place of the SDK's tuples."""
    return {} if not attributes else {key: _plain_value(value) for key, value in attributes.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain_value(item) for item in value]
    if isinstance(value, Mapping):
        return _plain(value)
    return value


def _without_nothing(**values: Any) -> dict[str, Any]:
    """Return the values that are not empty."""
    return {name: value for name, value in values.items() if value}
