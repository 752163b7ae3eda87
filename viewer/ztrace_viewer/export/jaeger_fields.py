"""Jaeger's JSON: its types, and the names that mean something in it.

One idea: a trace is one object with its processes beside its spans, and what OpenTelemetry has more fields
for is told in tags with agreed names.

Source: Jaeger's internal/uimodel, and pkg/translator/jaeger of the OpenTelemetry Collector's contrib
repository, which Jaeger uses.
"""

from typing import Literal, NotRequired, TypedDict

from opentelemetry.proto.trace.v1.trace_pb2 import Status

#: The tags that Jaeger makes of OTLP's fields.
KIND_TAG, STATUS_TAG, ERROR_TAG, DESCRIPTION_TAG = (
    "span.kind",
    "otel.status_code",
    "error",
    "otel.status_description",
)
TRACE_STATE_TAG, SCOPE_TAG, SCOPE_VERSION_TAG = "w3c.tracestate", "otel.scope.name", "otel.scope.version"
#: The field of a log that has the event's name.
EVENT_FIELD = "event"
#: Tags of a span, and a field of a log, with the time in nanoseconds where microseconds are not all.
START_TAG, END_TAG, TIME_FIELD = "ztrace.start_ns", "ztrace.end_ns", "ztrace.time_ns"
#: Tag of a span or a process with the whole of it as OTLP JSON, where Jaeger's fields do not carry all.
OTLP_TAG = "ztrace.otlp"
#: An attribute with such a name would be taken for Jaeger's or ztrace's.
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
    }
)
#: Likewise in an event, and in a resource.
RESERVED_FIELDS = frozenset({EVENT_FIELD, TIME_FIELD})
RESERVED_PROCESS_TAGS = frozenset({"hostname", OTLP_TAG})
#: The attribute that is a process's name in Jaeger, and the name of those that have none.
SERVICE_ATTRIBUTE, UNKNOWN_SERVICE = "service.name", "unknown_service"

CHILD_OF: Literal["CHILD_OF"] = "CHILD_OF"
FOLLOWS_FROM: Literal["FOLLOWS_FROM"] = "FOLLOWS_FROM"
#: As the values of ``otel.status_code``.
STATUS_NAMES = {Status.STATUS_CODE_OK: "OK", Status.STATUS_CODE_ERROR: "ERROR"}


class Tag(TypedDict):
    """A typed value with a name: a tag of a span or a process, a field of a log."""

    key: str
    type: Literal["string", "bool", "int64", "float64", "binary"]
    value: str | bool | int | float


class Reference(TypedDict):
    """A span that another one refers to: its parent, or one it is linked to."""

    refType: Literal["CHILD_OF", "FOLLOWS_FROM"]
    traceID: str
    spanID: str


class Log(TypedDict):
    """Something that happened in a span; time in microseconds."""

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
    """What spans ran in."""

    serviceName: str
    tags: list[Tag]


class Trace(TypedDict):
    """A trace with its processes, as Jaeger's page loads it."""

    traceID: str
    spans: list[JaegerSpan]
    processes: dict[str, Process]
    warnings: list[str] | None
