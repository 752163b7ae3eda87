"""Jaeger's JSON: its types, and names with a meaning.

One idea: a trace is one object with processes beside its spans. OpenTelemetry's fields that Jaeger lacks are
tags with agreed names.

Source: Jaeger's internal/uimodel, and pkg/translator/jaeger of the OpenTelemetry Collector's contrib
repository, which Jaeger uses.
"""

from typing import Literal, NotRequired, TypedDict

from opentelemetry.proto.trace.v1.trace_pb2 import Status

#: Tags that Jaeger makes from OTLP's fields.
KIND_TAG, STATUS_TAG, ERROR_TAG, DESCRIPTION_TAG = (
    "span.kind",
    "otel.status_code",
    "error",
    "otel.status_description",
)
TRACE_STATE_TAG, SCOPE_TAG, SCOPE_VERSION_TAG = "w3c.tracestate", "otel.scope.name", "otel.scope.version"
#: Field of a log with the name of the event.
EVENT_FIELD = "event"
#: Tags of a span, and a field of a log, with times that are not whole microseconds.
START_TAG, END_TAG, TIME_FIELD = "ztrace.start_ns", "ztrace.end_ns", "ztrace.time_ns"
#: Tag with a whole span or process as OTLP JSON, where Jaeger's fields cannot hold it.
OTLP_TAG = "ztrace.otlp"
#: Tag with the parent of a span whose parents form a circle, which Jaeger's page would not draw.
PARENT_TAG = "ztrace.parent_id"
#: Names of attributes that would be read as tags of Jaeger or ztrace.
RESERVED_TAGS = frozenset(
    {
        KIND_TAG,
        STATUS_TAG,
        ERROR_TAG,
        DESCRIPTION_TAG,
        TRACE_STATE_TAG,
        SCOPE_TAG,
        SCOPE_VERSION_TAG,
        "otel.library.name",
        "otel.library.version",
        START_TAG,
        END_TAG,
        OTLP_TAG,
        PARENT_TAG,
    }
)
#: The same for attributes of events and of resources.
RESERVED_FIELDS = frozenset({EVENT_FIELD, TIME_FIELD})
RESERVED_PROCESS_TAGS = frozenset({"hostname", OTLP_TAG})
#: Attribute with a process's name, and the name of a process without one.
SERVICE_ATTRIBUTE, UNKNOWN_SERVICE = "service.name", "unknown_service"

CHILD_OF: Literal["CHILD_OF"] = "CHILD_OF"
FOLLOWS_FROM: Literal["FOLLOWS_FROM"] = "FOLLOWS_FROM"
#: Values of ``otel.status_code``.
STATUS_NAMES = {Status.STATUS_CODE_OK: "OK", Status.STATUS_CODE_ERROR: "ERROR"}


class Tag(TypedDict):
    """Named value with a type: a tag of a span or process, or a field of a log."""

    key: str
    type: Literal["string", "bool", "int64", "float64", "binary"]
    value: str | bool | int | float


class Reference(TypedDict):
    """Reference of a span to its parent or to a linked span."""

    refType: Literal["CHILD_OF", "FOLLOWS_FROM"]
    traceID: str
    spanID: str


class Log(TypedDict):
    """Event in a span; time in microseconds."""

    timestamp: int
    fields: list[Tag]


class JaegerSpan(TypedDict):
    """A span; times in microseconds."""

    traceID: str
    spanID: str
    flags: NotRequired[int]
    operationName: str
    references: list[Reference]
    startTime: int
    duration: int
    tags: list[Tag]
    logs: list[Log]
    processID: str
    warnings: list[str] | None


class Process(TypedDict):
    """Process that made spans."""

    serviceName: str
    tags: list[Tag]


class Trace(TypedDict):
    """Trace with its processes, as Jaeger's page loads it."""

    traceID: str
    spans: list[JaegerSpan]
    processes: dict[str, Process]
    warnings: list[str] | None
