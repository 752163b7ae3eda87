"""Stored spans to OTLP requests.

One idea: most spans of a service differ only in ids and times. Their common part is built once, cached as
bytes, and merged into each message by protobuf's C code, so that a span costs some microseconds.

docs/explanation/opentelemetry.md describes the attributes of a span and their reasons.

Source: https://github.com/open-telemetry/opentelemetry-proto, trace.proto; the conventions are those of
`ztrace_collector.otlp.mapping.conventions`, and
https://opentelemetry.io/docs/specs/semconv/exceptions/exceptions-spans/.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

import ztrace
from ztrace.records import ERROR, KIND_NUMBERS, UNFINISHED
from ztrace_collector.checking.attributes import DROPPED
from ztrace_collector.otlp.mapping import conventions, exception_form
from ztrace_collector.otlp.mapping.exception_form import write_record
from ztrace_collector.otlp.mapping.reading import StoredException, StoredProcess, StoredSpan
from ztrace_collector.otlp.mapping.stacktraces import format_stacktrace
from ztrace_collector.otlp.mapping.values import key_values, load_list, load_object
from ztrace_collector.tables.methods import NAME_ATTRIBUTE, OTHER, SERVICE_ATTRIBUTE
from ztrace_collector.tables.thresholds import write_threshold

#: Maximum of processes and of common parts kept in memory: a service has some hundred different common parts,
#: unless it puts data into attributes; then all of them are dropped together.
MAX_INSTANCES, MAX_COMMON = 4096, 4096
#: Maximum of characters of attributes in a cached part; with the number of parts, 8 MB.
MAX_KEPT = 2048

_SCOPE = InstrumentationScope(name=conventions.OURS, version=ztrace.__version__)
_NO_DETAILS: dict[str, Any] = {}
#: Placeholder for a process whose row is missing.
_NOBODY = conventions.Process("", "unknown_service", "", 0, 0, "")
#: Name, kind, attributes; whether the service is a shared one; whether the process is ztrace's own.
_Key = tuple[str, str, str | None, bool, bool]


class _Instance(NamedTuple):
    """Source of spans.

    Attributes:
        is_own: True for one of ztrace's own processes.
    """

    resource: Resource
    is_own: bool


class Builder:
    """Builder of OTLP requests from stored spans, with a cache of their common parts."""

    def __init__(self, read_process: Callable[[int], StoredProcess | None]) -> None:
        """Build from spans of one store.

        Args:
            read_process: function that returns a process by its key, None if it is unknown; the thread that
                calls `request` calls it.
        """
        self._read_process = read_process
        self._instances: dict[int, _Instance] = {}
        self._common: dict[_Key, bytes] = {}

    def request(self, spans: Sequence[StoredSpan]) -> ExportTraceServiceRequest:
        """Return spans as one request, grouped by resource and scope, in their order within each group."""
        request = ExportTraceServiceRequest()
        resources: dict[tuple[int, str], ResourceSpans] = {}
        scopes: dict[tuple[int, str], ScopeSpans] = {}
        for span in spans:
            instance = self._instances.get(span.instance) or self._load(span.instance)
            if span.details is None:
                details, scope_key = _NO_DETAILS, (span.instance, "")
            else:
                details = load_object(span.details)
                of_scope = [details.get("resource"), details.get("scope")]
                scope_key = (span.instance, json.dumps(of_scope) if any(of_scope) else "")
            scope = scopes.get(scope_key)
            if scope is None:
                extras = details.get("resource")
                resource_key = (span.instance, json.dumps(extras) if extras else "")
                resource = resources.get(resource_key)
                if resource is None:
                    resource = resources[resource_key] = _add_resource(request, instance, extras)
                scope = scopes[scope_key] = _add_scope(resource, instance.is_own, details.get("scope"))
            self._add(scope, span, instance.is_own, details)
        return request

    def _add(self, scope: ScopeSpans, span: StoredSpan, is_own: bool, details: dict[str, Any]) -> None:
        end_ns = span.start_ns + span.duration_ns
        made = scope.spans.add(
            trace_id=span.trace_id,
            span_id=span.span_id,
            start_time_unix_nano=span.start_ns,
            end_time_unix_nano=end_ns,
        )
        # Fields are set in place, which costs less than making and copying messages.
        if span.parent_id is not None:
            made.parent_span_id = span.parent_id
        key = (span.name, span.kind, span.attributes, span.service == OTHER, is_own)
        made.MergeFromString(self._common.get(key) or self._make_common(key))
        attributes = made.attributes
        for measure, value in zip(conventions.MEASURES.values(), span.measures, strict=True):
            if value is not None:
                pair = attributes.add()
                pair.key = measure
                pair.value.int_value = value
        if span.status == ERROR:
            made.status.code = Status.STATUS_CODE_ERROR
        elif span.status == UNFINISHED:
            attributes.extend(key_values({conventions.UNFINISHED: True}))
        if span.links is not None:
            _add_links(made, span.links)
        if details:
            _add_details(made, details)
        if span.threshold is not None:
            made.trace_state = write_threshold(made.trace_state, span.threshold)
        if span.exception is not None and not any(map(_is_exception, _mappings(details, "events"))):
            _add_exception(made, span, span.exception, end_ns, is_own)

    def _make_common(self, key: _Key) -> bytes:
        """Return the serialized part of a span that depends on the key alone."""
        name, kind, text, has_shared_service, is_own = key
        attributes = load_object(text)
        if name == OTHER and type(attributes.get(NAME_ATTRIBUTE)) is str:
            name = attributes.pop(NAME_ATTRIBUTE)
        if has_shared_service:
            attributes.pop(SERVICE_ATTRIBUTE, None)
        flags = 0
        if is_own:
            flags = conventions.OUR_FLAGS
            name = conventions.complete(name, KIND_NUMBERS[kind], attributes)
        made = Span(name=name, kind=KIND_NUMBERS[kind], flags=flags, attributes=key_values(attributes))  # type: ignore[arg-type]
        common: bytes = made.SerializeToString()
        if len(text or "") <= MAX_KEPT:
            if len(self._common) >= MAX_COMMON:
                self._common.clear()
            self._common[key] = common
        return common

    def _load(self, instance: int) -> _Instance:
        row = self._read_process(instance)
        process, resource, dropped = _NOBODY, None, 0
        if row is not None:
            *names, resource = row
            process = conventions.Process._make(names)
        if resource is None:
            attributes, is_own = conventions.describe_process(process), True
        else:
            attributes = load_object(resource)
            dropped = _count(attributes, DROPPED)
            attributes.pop(DROPPED, None)
            is_own = conventions.read_process(attributes) is not None
        if len(self._instances) >= MAX_INSTANCES:
            self._instances.clear()
        made = self._instances[instance] = _Instance(
            Resource(attributes=key_values(attributes), dropped_attributes_count=dropped), is_own
        )
        return made


def _add_resource(request: ExportTraceServiceRequest, instance: _Instance, extras: Any) -> ResourceSpans:
    resource: ResourceSpans = request.resource_spans.add()
    resource.resource.CopyFrom(instance.resource)
    if type(extras) is dict:
        resource.schema_url = _text(extras, "schema_url")
        resource.resource.dropped_attributes_count += _count(extras, "dropped_attributes")
    return resource


def _add_scope(resource: ResourceSpans, is_own: bool, fields: Any) -> ScopeSpans:
    scope: ScopeSpans = resource.scope_spans.add()
    if type(fields) is dict:
        scope.schema_url = _text(fields, "schema_url")
        scope.scope.name, scope.scope.version = _text(fields, "name"), _text(fields, "version")
        scope.scope.attributes.extend(key_values(_mapping(fields, "attributes")))
        scope.scope.dropped_attributes_count = _count(fields, "dropped_attributes")
    elif is_own:
        scope.scope.CopyFrom(_SCOPE)
    return scope


def _add_links(made: Span, text: str) -> None:
    for link in load_list(text):
        made.links.add(trace_id=bytes.fromhex(link["trace_id"]), span_id=bytes.fromhex(link["span_id"]))


def _add_details(made: Span, details: dict[str, Any]) -> None:
    """Add the details that only OpenTelemetry has, under the keys of `ztrace.records.Span.details`."""
    if details.get("kind") == 0:
        made.kind = Span.SPAN_KIND_UNSPECIFIED
    if "end_ns" in details:
        made.end_time_unix_nano = conventions.as_count(details["end_ns"]) or 0
    if "trace_state" in details:
        made.trace_state = _text(details, "trace_state")
    if "flags" in details:
        made.flags = _count(details, "flags")
    if details.get("status") == "ok":
        made.status.code = Status.STATUS_CODE_OK
    if "status_message" in details:
        made.status.message = _text(details, "status_message")
    for link, extras in zip(made.links, _list(details, "links"), strict=False):
        if type(extras) is dict:
            link.trace_state, link.flags = _text(extras, "trace_state"), _count(extras, "flags")
            link.attributes.extend(key_values(_mapping(extras, "attributes")))
            link.dropped_attributes_count = _count(extras, "dropped_attributes")
    for event in _mappings(details, "events"):
        made.events.add(
            name=_text(event, "name"),
            time_unix_nano=conventions.as_count(event.get("time_ns")) or 0,
            attributes=key_values(_mapping(event, "attributes")),
            dropped_attributes_count=_count(event, "dropped_attributes"),
        )
    dropped = _mapping(details, "dropped")
    if dropped:
        made.dropped_attributes_count = _count(dropped, "attributes")
        made.dropped_events_count = _count(dropped, "events")
        made.dropped_links_count = _count(dropped, "links")


def _add_exception(
    made: Span, span: StoredSpan, exception: StoredException, end_ns: int, is_own: bool
) -> None:
    """Add an exception: at its origin as an event, elsewhere as a reference to the origin."""
    is_origin = (exception.origin_trace_id, exception.origin_span_id) == (span.trace_id, span.span_id)
    whole: dict[str, Any] = {exception_form.RECORD: write_record(exception)} if is_own else {}
    added: dict[str, Any] = {}
    if is_origin:
        nested = {
            field: load_list(getattr(exception, field)) for field in ("frames", "causes", "notes", "members")
        }
        text = format_stacktrace({"type": exception.type, "message": exception.message, **nested})
        event = {
            "exception.type": exception.type,
            "exception.message": exception.message,
            "exception.stacktrace": text,
            **whole,
        }
        made.events.add(name="exception", time_unix_nano=end_ns, attributes=key_values(event))
    elif is_own:
        added = {
            exception_form.HOW: exception.how,
            exception_form.ORIGIN_TRACE_ID: exception.origin_trace_id.hex(),
            exception_form.ORIGIN_SPAN_ID: exception.origin_span_id.hex(),
            **whole,
        }
    if is_own and exception.group is not None:
        added[exception_form.GROUP] = exception.group
    if all(pair.key != conventions.ERROR_TYPE for pair in made.attributes):
        added[conventions.ERROR_TYPE] = exception.type
    made.attributes.extend(key_values(added))
    if made.status.code == Status.STATUS_CODE_ERROR and not made.status.message:
        made.status.message = conventions.describe_error(exception.type, exception.message)


def _is_exception(event: dict[str, Any]) -> bool:
    """Return whether an event is the source of the span's exception."""
    return event.get(conventions.BECAME_EXCEPTION) is True


def _list(fields: dict[str, Any], name: str) -> list[Any]:
    value = fields.get(name)
    return value if type(value) is list else []


def _mappings(fields: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [item for item in _list(fields, name) if type(item) is dict]


def _mapping(fields: dict[str, Any], name: str) -> dict[str, Any]:
    value = fields.get(name)
    return value if type(value) is dict else {}


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if type(value) is str else ""


def _count(fields: dict[str, Any], name: str) -> int:
    """Return a value as the 32-bit number that OTLP has for counts and flags, 0 if it is none."""
    value = fields.get(name)
    return value if type(value) is int and 0 <= value < 1 << 32 else 0
