"""OpenTelemetry's names for what ztrace has its own for: both directions, side by side.

One idea: what is added on the way out is known by itself on the way home, so that spans which leave one store
and come into another are the same there. Nobody else's spans are touched: their attributes are theirs.

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

#: What ``telemetry.sdk.name`` of ztrace's own processes is, and the name of the scope of their spans.
OURS = "ztrace"
#: W3C's trace flags of ztrace's own spans: sampled, since they are here.
OUR_FLAGS = 1

#: Characters of a status' message; the exception itself has all of them.
MAX_STATUS = 1024

#: ztrace's own attribute of a span without an end.
UNFINISHED = "ztrace.unfinished"
#: ztrace's own attributes of a span's measures, by their names.
MEASURES = {name: f"ztrace.{name}" for name in records.MEASURES}
#: The kind of failure; of an exception its type.
ERROR_TYPE = "error.type"
#: Key of an event in `ztrace.records.Span.details` that marks the event which became the exception.
BECAME_EXCEPTION = "became_exception"
#: ztrace's own attribute of a process.
STARTED_NS = "ztrace.started_ns"

#: RPC libraries whose middleware names the method by the span alone: they have no name for an interface.
_NAMED_BY_SPAN = frozenset(row.system for row in LIBRARIES.values() if row.system and row.spans_name_methods)
#: What is done with a message, by the kind of the span.
_OPERATIONS = {KIND_NUMBERS["producer"]: "send", KIND_NUMBERS["consumer"]: "process"}

_SYSTEM, _METHOD = "rpc.system.name", "rpc.method"
_MESSAGING, _OPERATION, _OPERATION_TYPE = (
    "messaging.system",
    "messaging.operation.name",
    "messaging.operation.type",
)
_DESTINATION = "messaging.destination.name"


class Process(NamedTuple):
    """One of ztrace's own processes, as a resource tells of it."""

    incarnation: str
    service: str
    host: str
    pid: int
    started_ns: int


def describe_process(process: Process) -> dict[str, Any]:
    """Return the attributes of the resource that stands for a process."""
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
    return attributes


def read_process(attributes: Mapping[str, Any]) -> Process | None:
    """Return the process of ztrace's that a resource stands for, None if it is anybody else's."""
    if attributes.get("telemetry.sdk.name") != OURS:
        return None
    incarnation = attributes.get("service.instance.id")
    try:
        if type(incarnation) is not str or len(bytes.fromhex(incarnation)) != 16 or len(incarnation) != 32:
            return None
    except ValueError:
        return None
    return Process(incarnation.lower(), *read_names(attributes))


def read_names(attributes: Mapping[str, Any]) -> tuple[str, str, int, int]:
    """Return service, host, process id and start of whatever a resource stands for, as far as it tells."""
    service, host = attributes.get("service.name"), attributes.get("host.name")
    return (
        service if type(service) is str and service else "unknown_service",
        host if type(host) is str else "",
        as_count(attributes.get("process.pid")) or 0,
        as_count(attributes.get(STARTED_NS)) or 0,
    )


def is_plain(attributes: Mapping[str, Any], process: Process) -> bool:
    """Tell whether a resource says nothing but what `describe_process` does; by whichever version."""
    version = {"telemetry.sdk.version": attributes.get("telemetry.sdk.version")}
    return {**describe_process(process), **version} == attributes


def as_count(value: Any) -> int | None:
    """Return a value that is a count or a time, None if it is anything else."""
    return value if is_count(value) else None


def complete(name: str, kind: int, attributes: dict[str, Any]) -> str:
    """Add what OpenTelemetry wants to know of a span of ztrace's own; return the name it is to have."""
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
    """Take away what `complete` has added; return the name that the span had."""
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
    """Return what the status of a span says that ended with an exception: lists show it, so it has an end."""
    return text.cut(f"{type_}: {message}" if message else type_, MAX_STATUS)


def _is_bare_message(attributes: Mapping[str, Any]) -> bool:
    return _MESSAGING in attributes and _OPERATION not in attributes and _OPERATION_TYPE not in attributes
