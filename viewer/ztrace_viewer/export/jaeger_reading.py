"""Jaeger's JSON to OTLP: files of `ztrace_viewer.export.jaeger`, and downloads of Jaeger's page.

One idea: each tag that Jaeger makes from a field of OTLP becomes the field again. Where a span or a process
has a tag with its whole self as OTLP, nothing else of it is read. What is invalid costs itself: a value its
type, a tag or a log itself, and a span only its id, its parent or its start.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from ztrace.errors import OtlpError
from ztrace.records import KIND_NUMBERS
from ztrace_collector.otlp.mapping.json_form import parse_request
from ztrace_collector.otlp.mapping.json_mending import excerpt
from ztrace_collector.refusals import ATTRIBUTES, DETAILS, FIELDS, LINKS, Note
from ztrace_viewer.export.foreign_values import (
    NO_ID,
    NO_TIME_NS,
    SPAN_DIGITS,
    TRACE_DIGITS,
    Values,
    read_id,
    read_time,
)
from ztrace_viewer.export.jaeger_fields import (
    CHILD_OF,
    DESCRIPTION_TAG,
    END_TAG,
    ERROR_TAG,
    EVENT_FIELD,
    FOLLOWS_FROM,
    KIND_TAG,
    OTLP_TAG,
    PARENT_TAG,
    SCOPE_TAG,
    SCOPE_VERSION_TAG,
    SERVICE_ATTRIBUTE,
    START_TAG,
    STATUS_NAMES,
    STATUS_TAG,
    TIME_FIELD,
    TRACE_STATE_TAG,
    UNKNOWN_SERVICE,
)
from ztrace_viewer.export.jaeger_values import read_tags

#: Former names of the tags of the scope.
_OLD_SCOPE_TAG, _OLD_SCOPE_VERSION_TAG = "otel.library.name", "otel.library.version"
#: Tag with the host's name in Jaeger's clients, and attribute in OpenTelemetry.
_HOST_TAG, _HOST_ATTRIBUTE = "hostname", "host.name"
#: Attribute of a link that was a second parent, which only Jaeger has.
_REFERENCE_ATTRIBUTE = "opentracing.ref_type"
_STATUS_CODES = {name: code for code, name in STATUS_NAMES.items()}

_T = TypeVar("_T")

#: Values of the tags that are fields of an OTLP span, by name.
_Fields = dict[str, AnyValue]


def read_trace(trace: object, note: Note) -> ExportTraceServiceRequest:
    """Return the spans of one trace.

    Args:
        trace: element of ``data``, as parsed by `json`.
        note: counts spans that cannot be read, and values that are corrected.
    """
    return _Reading(note).trace(trace)


class _Reading:
    """Reading of one trace."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._values = Values(note)

    def trace(self, trace: object) -> ExportTraceServiceRequest:
        if not isinstance(trace, dict) or not isinstance(trace.get("spans"), list):
            self._note(FIELDS, "a trace of Jaeger's has no list of spans")
            return ExportTraceServiceRequest()
        processes = {
            key: self._process(self._values.mapping(process, "a process", DETAILS))
            for key, process in self._values.mapping(trace.get("processes"), "processes", DETAILS).items()
        }
        by_process: dict[str, ResourceSpans] = {}
        for span in trace["spans"]:
            if not isinstance(span, dict):
                self._note(FIELDS, f"a span of Jaeger's is {excerpt(span)}")
                continue
            key = span.get("processID")
            resource = processes.get(key) if isinstance(key, str) else None
            if resource is None:
                if "process" not in span:
                    self._note(DETAILS, f"processID {excerpt(key)} is not in processes")
                resource = self._process(self._values.mapping(span.get("process"), "process", DETAILS))
                key = resource.SerializeToString(deterministic=True).hex()
            self._span(by_process.setdefault(str(key), ResourceSpans(resource=resource)), span)
        return ExportTraceServiceRequest(resource_spans=by_process.values())

    def _process(self, process: Mapping[str, Any]) -> Resource:
        tags = self._tags(process.get("tags"))
        for value in self._kept(tags):
            try:
                kept: Resource = _only(parse_request(value).resource_spans, "resource").resource
                return kept
            except (ValueError, OtlpError) as error:
                self._note(DETAILS, str(error))
        keys = {key for key, _ in tags}
        if _HOST_ATTRIBUTE not in keys:
            tags = [(_HOST_ATTRIBUTE if key == _HOST_TAG else key, value) for key, value in tags]
        name = self._values.name(process.get("serviceName"), "serviceName") or UNKNOWN_SERVICE
        return Resource(attributes=_attributes([(SERVICE_ATTRIBUTE, AnyValue(string_value=name)), *tags]))

    def _span(self, resource_spans: ResourceSpans, span: Mapping[str, Any]) -> None:
        tags = self._tags(span.get("tags"))
        for value in self._kept(tags):
            try:
                kept = _only(parse_request(value).resource_spans, "resource")
                scope_spans = _only(kept.scope_spans, "scope")
                if parent_id := _string(dict(tags), PARENT_TAG):
                    _only(scope_spans.spans, "span").parent_span_id = read_id(parent_id, SPAN_DIGITS)
                resource_spans.scope_spans.append(scope_spans)
                return
            except (ValueError, OtlpError) as error:
                self._note(DETAILS, str(error))
        fields, attributes = _split(tags)
        made = _scope_of(resource_spans, fields).spans.add()
        made.trace_id = read_id(span.get("traceID"), TRACE_DIGITS)
        made.span_id = read_id(span.get("spanID"), SPAN_DIGITS)
        made.name = self._values.name(span.get("operationName"), "operationName")
        made.flags = self._flags(span.get("flags"))
        made.kind = KIND_NUMBERS.get(_string(fields, KIND_TAG), 0)  # pyright: ignore[reportAttributeAccessIssue]
        made.trace_state = _string(fields, TRACE_STATE_TAG)
        made.attributes.extend(_attributes(attributes))
        self._times(made, span, fields)
        _read_status(made.status, fields)
        self._references(made, span, fields)
        for log in self._values.mappings(span.get("logs"), "logs", DETAILS):
            self._event(made, log)

    def _tags(self, tags: object) -> list[tuple[str, AnyValue]]:
        return read_tags(self._values.mappings(tags, "tags", ATTRIBUTES), self._values)

    def _kept(self, tags: Sequence[tuple[str, AnyValue]]) -> list[str]:
        return [value.string_value for key, value in tags if key == OTLP_TAG]

    def _flags(self, flags: object) -> int:
        if flags is None or type(flags) is int:
            return (flags or 0) & 0xFFFFFFFF
        self._note(DETAILS, f"flags are {excerpt(flags)}")
        return 0

    def _times(self, made: Span, span: Mapping[str, Any], fields: _Fields) -> None:
        start_ns = read_time(span.get("startTime"))
        made.end_time_unix_nano = self._values.end_ns(start_ns, span.get("duration"))
        made.start_time_unix_nano = NO_TIME_NS if start_ns is None else start_ns
        if START_TAG in fields:
            made.start_time_unix_nano = max(0, fields[START_TAG].int_value)
        if END_TAG in fields:
            made.end_time_unix_nano = max(0, fields[END_TAG].int_value)

    def _references(self, made: Span, span: Mapping[str, Any], fields: _Fields) -> None:
        """Read the parent from the references or its former field, and the other references as links."""
        references = [
            (
                reference.get("refType"),
                read_id(reference.get("traceID"), TRACE_DIGITS),
                read_id(reference.get("spanID"), SPAN_DIGITS),
            )
            for reference in self._values.mappings(span.get("references"), "references", LINKS)
        ]
        # A parent with an invalid id costs the span: it would be a false root without.
        parent = next(
            (
                reference
                for wanted in (CHILD_OF, FOLLOWS_FROM)
                for reference in references
                if reference[0] == wanted and (reference[1] == made.trace_id or NO_ID in reference[1:])
                if wanted == CHILD_OF or NO_ID not in reference[1:]
            ),
            None,
        )
        if parent is not None:
            made.parent_span_id = NO_ID if NO_ID in parent[1:] else parent[2]
            references.remove(parent)
        elif PARENT_TAG in fields or span.get("parentSpanID"):
            parent_id = _string(fields, PARENT_TAG) or span["parentSpanID"]
            made.parent_span_id = read_id(parent_id, SPAN_DIGITS)
        for kind, trace_id, span_id in references:
            link = made.links.add(trace_id=trace_id, span_id=span_id)
            if kind == CHILD_OF:
                link.attributes.add(key=_REFERENCE_ATTRIBUTE).value.string_value = "child_of"

    def _event(self, made: Span, log: Mapping[str, Any]) -> None:
        event = made.events.add()
        time_ns = read_time(log.get("timestamp"))
        if time_ns is None:
            self._note(DETAILS, f"timestamp of a log is {excerpt(log.get('timestamp'))}")
            time_ns = made.start_time_unix_nano
        attributes = []
        for key, value in self._tags(log.get("fields")):
            if key == EVENT_FIELD and not event.name and value.WhichOneof("value") == "string_value":
                event.name = value.string_value
            elif key == TIME_FIELD and value.int_value >= 0:
                time_ns = value.int_value
            else:
                attributes.append((key, value))
        event.time_unix_nano = time_ns
        event.attributes.extend(_attributes(attributes))


def _split(tags: Sequence[tuple[str, AnyValue]]) -> tuple[_Fields, list[tuple[str, AnyValue]]]:
    """Return the tags that are fields of an OTLP span, and the others."""
    fields: _Fields = {}
    others = []
    for key, value in tags:
        if _is_field(key, value):
            fields[key] = value
        else:
            others.append((key, value))
    return fields, others


def _is_field(key: str, value: AnyValue) -> bool:
    kind = value.WhichOneof("value")
    if key == ERROR_TAG:
        # The value may be text. The tag with another value is an attribute.
        return value.bool_value or value.string_value.lower() == "true"
    if key in (START_TAG, END_TAG):
        return kind == "int_value"
    named = (KIND_TAG, STATUS_TAG, DESCRIPTION_TAG, TRACE_STATE_TAG, SCOPE_TAG, SCOPE_VERSION_TAG, PARENT_TAG)
    return kind == "string_value" and key in (*named, _OLD_SCOPE_TAG, _OLD_SCOPE_VERSION_TAG)


def _scope_of(resource_spans: ResourceSpans, fields: _Fields) -> ScopeSpans:
    name = _string(fields, SCOPE_TAG) or _string(fields, _OLD_SCOPE_TAG)
    version = _string(fields, SCOPE_VERSION_TAG) or _string(fields, _OLD_SCOPE_VERSION_TAG)
    if resource_spans.scope_spans:
        last: ScopeSpans = resource_spans.scope_spans[-1]
        plain = not (last.schema_url or last.scope.attributes)
        if plain and (last.scope.name, last.scope.version) == (name, version):
            return last
    made: ScopeSpans = resource_spans.scope_spans.add()
    if name or version:
        made.scope.name, made.scope.version = name, version
    return made


def _read_status(status: Status, fields: _Fields) -> None:
    if ERROR_TAG in fields:
        status.code = Status.STATUS_CODE_ERROR
    else:
        status.code = _STATUS_CODES.get(_string(fields, STATUS_TAG).upper(), Status.STATUS_CODE_UNSET)
    status.message = _string(fields, DESCRIPTION_TAG)


def _attributes(tags: Sequence[tuple[str, AnyValue]]) -> Iterator[KeyValue]:
    """Yield attributes with each name once, with its last value."""
    return (KeyValue(key=key, value=value) for key, value in dict(tags).items())


def _string(fields: _Fields, key: str) -> str:
    return fields[key].string_value if key in fields else ""


def _only(values: Sequence[_T], what: str) -> _T:
    if len(values) != 1:
        raise ValueError(f"{OTLP_TAG} does not have one {what}")
    return values[0]
