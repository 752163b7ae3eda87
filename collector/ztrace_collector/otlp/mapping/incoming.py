"""OTLP requests to spans for the store.

One idea: this code maps and does not judge. Fields that ztrace has no columns for go into a span's details;
unusable ids and times are passed on, and the store refuses and counts them as it does a publisher's.

Spans of ztrace's own processes, made by `ztrace_collector.otlp.mapping.outgoing`, are restored to their
original form.

Source: https://github.com/open-telemetry/opentelemetry-proto, trace.proto.
"""

import hashlib
import json
from collections.abc import Sized
from itertools import islice
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from ztrace import records
from ztrace.errors import OtlpError
from ztrace.records import INT64_MAX
from ztrace_collector.checking.mending import MAX_LINKS, are_links
from ztrace_collector.checking.messages import MAX_ITEMS
from ztrace_collector.checking.parcels import ForeignBatch, Resource
from ztrace_collector.otlp.mapping import conventions, exception_form
from ztrace_collector.otlp.mapping.conventions import as_count
from ztrace_collector.otlp.mapping.error_events import read_exception
from ztrace_collector.otlp.mapping.exception_form import read_record
from ztrace_collector.otlp.mapping.protobuf_mending import mend_texts
from ztrace_collector.otlp.mapping.values import read_attributes
from ztrace_collector.refusals import END_BEFORE_START, Note, drop_note
from ztrace_collector.tables.extent import FAR_NS

#: Key of the details with the end of a span that ended before it started.
_END_NS = "end_ns"
#: End of the time that a clock shows which was never set.
_UNSET_NS = FAR_NS
#: Placeholder for a time that is missing or too large, which the store refuses.
_NO_TIME = -1


def parse_request(body: bytes, note: Note = drop_note) -> ExportTraceServiceRequest:
    """Parse a protobuf body; `json_form.parse_request` parses JSON.

    Args:
        body: the request.
        note: counts texts that were corrected to UTF-8.

    Raises:
        OtlpError: the body is not a request.
    """
    try:
        return _parse(body)
    except (DecodeError, ValueError, TypeError, RecursionError):
        pass  # One text that is not UTF-8 is enough.
    try:
        return _parse(mend_texts(body, note))
    except (DecodeError, ValueError, TypeError, RecursionError):
        raise OtlpError("the body is not an ExportTraceServiceRequest in protobuf") from None


def _parse(body: bytes) -> ExportTraceServiceRequest:
    request: ExportTraceServiceRequest = ExportTraceServiceRequest.FromString(body)
    return request


def read_request(request: ExportTraceServiceRequest) -> list[ForeignBatch]:
    """Return the spans of a request, a batch for each resource; never raises, whatever the request contains.

    Every span is in one of the batches: the store refuses those that it cannot use, with the reasons.
    """
    batches: dict[bytes, tuple[Resource, list[records.Span]]] = {}
    for resource_spans in request.resource_spans:
        resource, is_own = _read_resource(read_attributes(resource_spans.resource.attributes))
        _, spans = batches.setdefault(resource.incarnation, (resource, []))
        for scope_spans in resource_spans.scope_spans:
            common = _read_common(resource_spans, scope_spans, is_own)
            spans.extend(_read_span(span, common, is_own) for span in scope_spans.spans)
    return [
        ForeignBatch(resource, spans, mended=_filled(**{END_BEFORE_START: sum(map(_ends_early, spans))}))
        for resource, spans in batches.values()
        if spans
    ]


def _read_resource(attributes: dict[str, Any]) -> tuple[Resource, bool]:
    """Return the source of the spans, and whether it is one of ztrace's own processes."""
    process = conventions.read_process(attributes)
    if process is not None:
        kept = None if conventions.is_plain(attributes, process) else attributes
        incarnation, is_own = bytes.fromhex(process.incarnation), True
    else:
        kept, incarnation, is_own = attributes, _identify(attributes), False
    names, version = conventions.read_names(attributes), conventions.read_version(attributes)
    return Resource(incarnation, *names, kept, version), is_own


def _identify(attributes: dict[str, Any]) -> bytes:
    """Return an id that is the same for equal attributes in any order."""
    text = json.dumps(attributes, sort_keys=True, default=lambda value: {"bytes": value.hex()})
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _read_common(resource: ResourceSpans, scope: ScopeSpans, is_own: bool) -> dict[str, Any]:
    """Return the details shared by all spans of a scope."""
    of_resource = _filled(
        schema_url=resource.schema_url, dropped_attributes=resource.resource.dropped_attributes_count
    )
    made_by = scope.scope
    of_scope = _filled(
        name=made_by.name,
        version=made_by.version,
        attributes=read_attributes(made_by.attributes),
        schema_url=scope.schema_url,
        dropped_attributes=made_by.dropped_attributes_count,
    )
    if is_own and of_scope.get("name") == conventions.OURS and of_scope.keys() <= {"name", "version"}:
        of_scope = {}
    return _filled(resource=of_resource, scope=of_scope)


def _read_span(span: Span, common: dict[str, Any], is_own: bool) -> records.Span:
    attributes = read_attributes(span.attributes)
    name, kind = span.name, span.kind if span.kind in records.KIND_NAMES else records.KIND_NUMBERS["internal"]
    is_error = span.status.code == Status.STATUS_CODE_ERROR
    status = records.ERROR if is_error else records.OK
    start_ns, duration_ns = _read_times(span)
    details = {**common, **_read_details(span, is_own)} if common or not is_own or _has_details(span) else {}
    if duration_ns is not None and duration_ns < 0:
        details[_END_NS], duration_ns = span.end_time_unix_nano, 0
    exception = None
    measures = dict.fromkeys(conventions.MEASURES)
    if is_own:
        measures = {name: _take_time(attributes, key) for name, key in conventions.MEASURES.items()}
        exception = _come_home(span, attributes, details)
        name = conventions.restore(name, kind, attributes)
        if attributes.pop(conventions.UNFINISHED, False) is True:
            status, duration_ns = records.UNFINISHED, None
    elif is_error:
        exception = read_exception(details.get("events", []), attributes)
    return records.Span(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_id=span.parent_span_id if any(span.parent_span_id) else None,
        kind=kind,
        name=name,
        start_ns=start_ns,
        duration_ns=duration_ns,
        **measures,
        status=status,
        attributes=attributes or None,
        links=[[link.trace_id, link.span_id] for link in islice(span.links, MAX_ITEMS)] or None,
        exception=exception,
        details=details or None,
    )


def _read_times(span: Span) -> tuple[int, int | None]:
    """Return start and duration, which may be negative; a time of 0 counts as missing.

    A clock that was never set begins at 0 as well; such a span ends soon after.
    """
    start_ns, end_ns = span.start_time_unix_nano, span.end_time_unix_nano
    if start_ns > INT64_MAX or not end_ns or (not start_ns and end_ns > _UNSET_NS):
        return _NO_TIME, 0
    return start_ns, end_ns - start_ns


def _ends_early(span: records.Span) -> bool:
    return span.details is not None and _END_NS in span.details


def _take_time(attributes: dict[str, Any], key: str) -> int | None:
    value = as_count(attributes.get(key))
    if value is not None:
        del attributes[key]
    return value


def _has_details(span: Span) -> bool:
    """Return whether a span of ztrace's own has anything beyond ztrace's fields."""
    return bool(
        span.events
        or span.trace_state
        or span.flags != conventions.OUR_FLAGS
        or span.links
        or span.status.code
        or span.dropped_attributes_count
        or span.dropped_events_count
        or span.dropped_links_count
    )


def _read_details(span: Span, is_own: bool) -> dict[str, Any]:
    """Return the parts of a span without columns in ztrace, by the keys of `ztrace.records.Span.details`."""
    links = [
        _filled(
            trace_state=link.trace_state,
            attributes=read_attributes(link.attributes),
            flags=link.flags,
            dropped_attributes=link.dropped_attributes_count,
        )
        or None
        for link in islice(span.links, MAX_ITEMS)
        # Only links that the store keeps, so that the two lists stay aligned.
        if are_links(((link.trace_id, link.span_id),))
    ][:MAX_LINKS]
    return _filled(
        events=[
            {
                "name": event.name,
                "time_ns": event.time_unix_nano,
                **_filled(
                    attributes=read_attributes(event.attributes),
                    dropped_attributes=event.dropped_attributes_count,
                ),
            }
            for event in islice(span.events, MAX_ITEMS)
        ],
        status="ok" if span.status.code == Status.STATUS_CODE_OK else "",
        status_message=span.status.message,
        trace_state=span.trace_state,
        flags=0 if is_own and span.flags == conventions.OUR_FLAGS else span.flags,
        links=links if any(links) else [],
        dropped=_filled(
            attributes=span.dropped_attributes_count + _beyond(span.attributes),
            events=span.dropped_events_count + _beyond(span.events),
            links=span.dropped_links_count + _beyond(span.links),
        ),
    ) | ({} if span.kind in records.KIND_NAMES else {"kind": 0})


def _beyond(items: Sized) -> int:
    """Return the number of items that are not read."""
    return max(0, len(items) - MAX_ITEMS)


def _come_home(
    span: Span, attributes: dict[str, Any], details: dict[str, Any]
) -> records.ExceptionRecord | None:
    """Return the exception of a span of ztrace's own, and remove the attributes that `outgoing` added."""
    events = details.get("events", [])
    told = next((event for event in events if exception_form.RECORD in event.get("attributes", ())), None)
    record = read_record((attributes if told is None else told["attributes"]).get(exception_form.RECORD))
    if record is None:
        return read_exception(events, attributes) if span.status.code == Status.STATUS_CODE_ERROR else None
    if told is not None:
        events.remove(told)
    if not events:
        details.pop("events", None)
    for key in exception_form.ALL:
        attributes.pop(key, None)
    if attributes.get(conventions.ERROR_TYPE) == record.type:
        del attributes[conventions.ERROR_TYPE]
    if details.get("status_message") == conventions.describe_error(record.type, record.message):
        del details["status_message"]
    return record


def _filled(**fields: Any) -> dict[str, Any]:
    """Return the fields that are neither empty nor 0."""
    return {name: value for name, value in fields.items() if value}
