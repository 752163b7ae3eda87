"""Jaeger's JSON to OTLP: files of `ztrace_viewer.export.jaeger`, and downloads of Jaeger's page.

One idea: each tag that Jaeger makes from a field of OTLP becomes the field again. Where a span or a process
has a tag with its whole self as OTLP, nothing else of it is read.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from ztrace.errors import OtlpError
from ztrace.records import INT64_MAX, INT64_MIN, KIND_NUMBERS
from ztrace_collector.otlp.mapping.json_form import parse_request
from ztrace_viewer.export.jaeger_fields import (
    CHILD_OF,
    DESCRIPTION_TAG,
    END_TAG,
    ERROR_TAG,
    EVENT_FIELD,
    FOLLOWS_FROM,
    KIND_TAG,
    OTLP_TAG,
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

#: Former names of the tags of the scope.
_OLD_SCOPE_TAG, _OLD_SCOPE_VERSION_TAG = "otel.library.name", "otel.library.version"
#: Tag with the host's name in Jaeger's clients, and attribute in OpenTelemetry.
_HOST_TAG, _HOST_ATTRIBUTE = "hostname", "host.name"
#: Attribute of a link that was a second parent, which only Jaeger has.
_REFERENCE_ATTRIBUTE = "opentracing.ref_type"
_STATUS_CODES = {name: code for code, name in STATUS_NAMES.items()}
#: Digits of ids; Jaeger omits leading zeros.
_TRACE_DIGITS, _SPAN_DIGITS = 32, 16
_TIME_END = 1 << 64

_T = TypeVar("_T")

#: Values of the tags that are fields of an OTLP span, by name.
_Fields = dict[str, AnyValue]


def read_trace(trace: object) -> ExportTraceServiceRequest:
    """Return the spans of one trace.

    Args:
        trace: element of ``data``, as parsed by `json`.

    Raises:
        ValueError: the value is not a trace of Jaeger's; the message says what is wrong and where.
    """
    processes = _read_processes(_mapping(_mapping(trace, "a trace").get("processes") or {}, "processes"))
    by_process: dict[str, ResourceSpans] = {}
    for number, span in enumerate(_list(_mapping(trace, "a trace").get("spans"), "spans"), 1):
        where = f"span {number}"
        found = _mapping(span, where)
        key = found.get("processID")
        resource = processes.get(key) if isinstance(key, str) else None
        if resource is None:
            if "process" not in found:
                raise ValueError(f"{where} has a processID that is not in processes: {key!r}")
            resource = _read_process(_mapping(found["process"], f"the process of {where}"))
            key = resource.SerializeToString(deterministic=True).hex()
        resource_spans = by_process.setdefault(str(key), ResourceSpans(resource=resource))
        try:
            _add_span(resource_spans, found)
        except (ValueError, OtlpError) as error:
            raise ValueError(f"{where}: {error}") from error
    return ExportTraceServiceRequest(resource_spans=by_process.values())


def _read_processes(processes: Mapping[str, object]) -> dict[str, Resource]:
    found = {}
    for key, process in processes.items():
        try:
            found[key] = _read_process(_mapping(process, "it"))
        except (ValueError, OtlpError) as error:
            raise ValueError(f"process {key}: {error}") from error
    return found


def _read_process(process: Mapping[str, object]) -> Resource:
    tags = _read_tags(process.get("tags"))
    for key, value in tags:
        if key == OTLP_TAG:
            kept: Resource = _only(parse_request(value.string_value).resource_spans, "resource").resource
            return kept
    keys = {key for key, _ in tags}
    if _HOST_ATTRIBUTE not in keys:
        tags = [(_HOST_ATTRIBUTE if key == _HOST_TAG else key, value) for key, value in tags]
    service = AnyValue(string_value=_text(process.get("serviceName"), "serviceName") or UNKNOWN_SERVICE)
    return Resource(attributes=_attributes([(SERVICE_ATTRIBUTE, service), *tags]))


def _add_span(resource_spans: ResourceSpans, span: Mapping[str, object]) -> None:
    tags = _read_tags(span.get("tags"))
    for key, value in tags:
        if key == OTLP_TAG:
            kept = _only(parse_request(value.string_value).resource_spans, "resource")
            resource_spans.scope_spans.append(_only(kept.scope_spans, "scope"))
            return
    fields, attributes = _split(tags)
    made = _scope_of(resource_spans, fields).spans.add()
    made.trace_id = _identifier(span.get("traceID"), "traceID", _TRACE_DIGITS)
    made.span_id = _identifier(span.get("spanID"), "spanID", _SPAN_DIGITS)
    made.name = _text(span.get("operationName"), "operationName")
    made.flags = _number(span.get("flags") or 0, "flags") & 0xFFFFFFFF
    made.kind = KIND_NUMBERS.get(_string(fields, KIND_TAG), 0)  # pyright: ignore[reportAttributeAccessIssue]
    made.trace_state = _string(fields, TRACE_STATE_TAG)
    made.attributes.extend(_attributes(attributes))
    _read_times(made, span, fields)
    _read_status(made.status, fields)
    _read_references(made, span)
    for log in _list(span.get("logs") or [], "logs"):
        _add_event(made, _mapping(log, "a log"))


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
    named = (KIND_TAG, STATUS_TAG, DESCRIPTION_TAG, TRACE_STATE_TAG, SCOPE_TAG, SCOPE_VERSION_TAG)
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


def _read_times(made: Span, span: Mapping[str, object], fields: _Fields) -> None:
    start_ns = _microseconds(span.get("startTime"), "startTime")
    end_ns = start_ns + _microseconds(span.get("duration"), "duration")
    if START_TAG in fields:
        start_ns = fields[START_TAG].int_value
    if END_TAG in fields:
        end_ns = fields[END_TAG].int_value
    if not (0 <= start_ns < _TIME_END and 0 <= end_ns < _TIME_END):
        raise ValueError("its time is out of range")
    made.start_time_unix_nano, made.end_time_unix_nano = start_ns, end_ns


def _read_status(status: Status, fields: _Fields) -> None:
    if ERROR_TAG in fields:
        status.code = Status.STATUS_CODE_ERROR
    else:
        status.code = _STATUS_CODES.get(_string(fields, STATUS_TAG).upper(), Status.STATUS_CODE_UNSET)
    status.message = _string(fields, DESCRIPTION_TAG)


def _read_references(made: Span, span: Mapping[str, object]) -> None:
    """Read the parent from the references or its former field, and the other references as links."""
    references = []
    for reference in _list(span.get("references") or [], "references"):
        found = _mapping(reference, "a reference")
        trace_id = _identifier(found.get("traceID"), "traceID of a reference", _TRACE_DIGITS)
        span_id = _identifier(found.get("spanID"), "spanID of a reference", _SPAN_DIGITS)
        references.append((found.get("refType"), trace_id, span_id))
    parent = next(
        (
            reference
            for wanted in (CHILD_OF, FOLLOWS_FROM)
            for reference in references
            if reference[:2] == (wanted, made.trace_id)
        ),
        None,
    )
    if parent is not None:
        made.parent_span_id = parent[2]
        references.remove(parent)
    elif span.get("parentSpanID"):
        made.parent_span_id = _identifier(span["parentSpanID"], "parentSpanID", _SPAN_DIGITS)
    for kind, trace_id, span_id in references:
        link = made.links.add(trace_id=trace_id, span_id=span_id)
        if kind == CHILD_OF:
            link.attributes.add(key=_REFERENCE_ATTRIBUTE).value.string_value = "child_of"


def _add_event(made: Span, log: Mapping[str, object]) -> None:
    event = made.events.add()
    time_ns = _microseconds(log.get("timestamp"), "timestamp of a log")
    attributes = []
    for key, value in _read_tags(log.get("fields")):
        if key == EVENT_FIELD and not event.name and value.WhichOneof("value") == "string_value":
            event.name = value.string_value
        elif key == TIME_FIELD and value.int_value >= 0:
            time_ns = value.int_value
        else:
            attributes.append((key, value))
    event.time_unix_nano = time_ns
    event.attributes.extend(_attributes(attributes))


def _read_tags(tags: object) -> list[tuple[str, AnyValue]]:
    return [_read_tag(_mapping(tag, "a tag")) for tag in _list(tags or [], "tags")]


def _read_tag(tag: Mapping[str, object]) -> tuple[str, AnyValue]:
    key = _text(tag.get("key"), "key of a tag")
    kind, value = tag.get("type", "string"), tag.get("value")
    try:
        match kind:
            case "bool":
                return key, AnyValue(bool_value=value if isinstance(value, bool) else value == "true")
            case "int64":
                whole = int(str(value))
                if not INT64_MIN <= whole <= INT64_MAX:
                    raise ValueError
                return key, AnyValue(int_value=whole)
            case "float64":
                return key, AnyValue(double_value=float(str(value)))
            case "binary":
                return key, AnyValue(bytes_value=base64.b64decode(str(value), validate=True))
    except ValueError:
        # Includes the error of binascii.
        raise ValueError(f"tag {key!r} is no {kind}: {str(value)[:60]!r}") from None
    return key, AnyValue(
        string_value=value if isinstance(value, str) else "" if value is None else str(value)
    )


def _attributes(tags: Sequence[tuple[str, AnyValue]]) -> Iterator[KeyValue]:
    """Yield attributes with each name once, with its last value."""
    return (KeyValue(key=key, value=value) for key, value in dict(tags).items())


def _string(fields: _Fields, key: str) -> str:
    return fields[key].string_value if key in fields else ""


def _mapping(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} is not an object")
    return value


def _list(value: object, what: str) -> list[object]:
    if not isinstance(value, list):
        raise ValueError(f"{what} is not a list")
    return value


def _only(values: Sequence[_T], what: str) -> _T:
    if len(values) != 1:
        raise ValueError(f"{OTLP_TAG} does not have one {what}")
    return values[0]


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what} is not text")
    return value


def _number(value: object, what: str) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if type(value) is not int:
        raise ValueError(f"{what} is not a whole number")
    return value


def _microseconds(value: object, what: str) -> int:
    number = _number(value, what)
    if not 0 <= number < _TIME_END // 1000:
        raise ValueError(f"{what} is out of range")
    return number * 1000


def _identifier(value: object, what: str, digits: int) -> bytes:
    text = _text(value, what)
    try:
        if not 0 < len(text) <= digits:
            raise ValueError
        return bytes.fromhex(text.zfill(digits))
    except ValueError:
        raise ValueError(f"{what} is not an id of up to {digits} hex digits: {text[:40]!r}") from None
