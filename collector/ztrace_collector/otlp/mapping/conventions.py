"""OpenTelemetry's names for concepts that ztrace has its own names for, in both directions.

One idea: everything added on the way out is recognized on the way back in, so spans that leave one store and
enter another are the same in both. Spans of other programs keep their attributes.

Source: https://opentelemetry.io/docs/specs/semconv/: rpc/rpc-spans, messaging/messaging-spans, resource.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import ztrace
from ztrace import records
from ztrace.libraries import LIBRARIES
from ztrace.records import KIND_NUMBERS
from ztrace_collector.checking import text
from ztrace_collector.checking.scalars import is_count
from ztrace_collector.tables.methods import NAME_ATTRIBUTE

#: Value of ``telemetry.sdk.name`` for ztrace's own processes, and the name of the scope of their spans.
OURS = "ztrace"
#: W3C trace flags of ztrace's own spans, which are all sampled.
OUR_FLAGS = 1

#: Maximum of characters in a status message; the exception itself has the full text.
MAX_STATUS = 1024

#: ztrace's own attribute of a span without an end.
UNFINISHED = "ztrace.unfinished"
#: ztrace's own attributes of a span's measures, by their names.
MEASURES = {name: f"ztrace.{name}" for name in records.MEASURES}
#: Attribute with the kind of a failure, which is the type of an exception.
ERROR_TYPE = "error.type"
#: Key of an event in `ztrace.records.Span.details` that marks the event which became the exception.
BECAME_EXCEPTION = "became_exception"
#: ztrace's own attribute of a process's resource.
STARTED_NS = "ztrace.started_ns"
#: Version of a service, in its resource.
VERSION = "service.version"

#: RPC libraries whose spans are named by the method alone, since they have no name for an interface.
_NAMED_BY_SPAN = frozenset(row.system for row in LIBRARIES.values() if row.system and row.spans_name_methods)
#: Messaging operation by the kind of the span.
_OPERATIONS = {KIND_NUMBERS["producer"]: "send", KIND_NUMBERS["consumer"]: "process"}

_SYSTEM, _METHOD = "rpc.system.name", "rpc.method"
_MESSAGING, _OPERATION, _OPERATION_TYPE = (
    "messaging.system",
    "messaging.operation.name",
    "messaging.operation.type",
)
_DESTINATION = "messaging.destination.name"


class Process(NamedTuple):
    """Process of ztrace's own, as its resource describes it."""

    incarnation: str
    service: str
    host: str
    pid: int
    started_ns: int
    version: str


def describe_process(process: Process) -> dict[str, Any]:
    """Return the attributes of a process's resource."""
    attributes: dict[str, Any] = {
        "service.name": process.service,
        "service.instance.id": process.incarnation,
        "telemetry.sdk.name": OURS,
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": ztrace.__version__,
    }
    if process.host:
        attributes["host.name"] = process.host
    if process.pid:
        attributes["process.pid"] = process.pid
    if process.started_ns:
        attributes[STARTED_NS] = process.started_ns
    if process.version:
        attributes[VERSION] = process.version
    return attributes


def read_process(attributes: Mapping[str, Any]) -> Process | None:
    """Return the ztrace process that a resource describes, None if it describes another program."""
    if attributes.get("telemetry.sdk.name") != OURS:
        return None
    incarnation = attributes.get("service.instance.id")
    try:
        if type(incarnation) is not str or len(bytes.fromhex(incarnation)) != 16 or len(incarnation) != 32:
            return None
    except ValueError:
        return None
    return Process(incarnation.lower(), *read_names(attributes), read_version(attributes))


def read_names(attributes: Mapping[str, Any]) -> tuple[str, str, int, int]:
    """Return service, host, process id and start of a resource, with defaults for what it lacks."""
    service, host = attributes.get("service.name"), attributes.get("host.name")
    return (
        service if type(service) is str and service else "unknown_service",
        host if type(host) is str else "",
        as_count(attributes.get("process.pid")) or 0,
        as_count(attributes.get(STARTED_NS)) or 0,
    )


def read_version(attributes: Mapping[str, Any]) -> str:
    """Return the version of a resource's service, empty if it is unknown."""
    version = attributes.get(VERSION)
    return version if type(version) is str else ""


def is_plain(attributes: Mapping[str, Any], process: Process) -> bool:
    """Return whether a resource has no attributes but those of `describe_process`, in any version."""
    version = {"telemetry.sdk.version": attributes.get("telemetry.sdk.version")}
    return {**describe_process(process), **version} == attributes


def as_count(value: Any) -> int | None:
    """Return a value that is a count or a time, None for any other value."""
    return value if is_count(value) else None


def complete(name: str, kind: int, attributes: dict[str, Any]) -> str:
    """Add the attributes that OpenTelemetry requires of a span of ztrace's own; return the name to send."""
    if attributes.get(_SYSTEM) in _NAMED_BY_SPAN:
        attributes.setdefault(_METHOD, name)
    operation = _OPERATIONS.get(kind)
    if operation is None or not _is_bare_message(attributes):
        return name
    attributes[_OPERATION] = attributes[_OPERATION_TYPE] = operation
    attributes.setdefault(_DESTINATION, name)
    attributes[NAME_ATTRIBUTE] = name
    return f"{operation} {name}"


def restore(name: str, kind: int, attributes: dict[str, Any]) -> str:
    """Remove the attributes that `complete` has added; return the original name."""
    if attributes.get(_METHOD) == name and attributes.get(_SYSTEM) in _NAMED_BY_SPAN:
        del attributes[_METHOD]
    own, operation = attributes.get(NAME_ATTRIBUTE), _OPERATIONS.get(kind)
    if type(own) is not str or operation is None or name != f"{operation} {own}":
        return name
    for key, value in (
        (NAME_ATTRIBUTE, own),
        (_OPERATION, operation),
        (_OPERATION_TYPE, operation),
        (_DESTINATION, own),
    ):
        if attributes.get(key) == value:
            del attributes[key]
    return own


def describe_error(type_: str, message: str) -> str:
    """Return the status message of a span that an exception ended, short enough for lists."""
    return text.cut(f"{type_}: {message}" if message else type_, MAX_STATUS)


def _is_bare_message(attributes: Mapping[str, Any]) -> bool:
    return _MESSAGING in attributes and _OPERATION not in attributes and _OPERATION_TYPE not in attributes
