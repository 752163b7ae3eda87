"""Events that report the exception of a span: OpenTelemetry's, and the error logs of OpenTracing.

One idea: either has a type, a message and a stack trace, under other names. The text of a stack trace that is
not Python's stays in its event, and gives no more than a type and a message that the event lacks.

Source: https://opentelemetry.io/docs/specs/semconv/exceptions/exceptions-spans/, and
https://github.com/opentracing/specification/blob/master/semantic_conventions.md.
"""

import re
from typing import Any, NamedTuple

from ztrace import records
from ztrace.exceptions.texts import read_stack_text
from ztrace_collector.otlp.mapping import conventions, exception_form

#: Names of the attribute with the stack trace, by which readers find it again.
STACK_ATTRIBUTES = ("exception.stacktrace", "stack")
#: Type of an exception of which only a message is known.
_NO_TYPE = "Exception"
#: Paths of files that belong to Python or to installed packages.
_LIBRARY = re.compile(
    r"[/\\](?:site|dist)-packages[/\\]|[/\\]lib(?:64)?[/\\]python\d|[/\\]Lib[/\\]|^<frozen "
)
#: First line of a stack trace as JavaScript, Java and .NET print it, or the text of an error.
_HEADLINE = re.compile(r"(?:Uncaught |Exception in thread .{1,80} )?([A-Za-z_$][\w$.]{0,255})(?:: (.*))?\Z")
#: Attributes of an event of OpenTelemetry.
_OF_OPENTELEMETRY = ("exception.type", "exception.message", "exception.stacktrace")
#: Text by which Python's own traces are recognized.
_PYTHON = "Traceback (most recent call last)"


class _Report(NamedTuple):
    """Exception as an event reports it; texts are empty where they are missing."""

    type: str
    message: str | None
    stack: str


def read_exception(events: list[dict[str, Any]], of_span: dict[str, Any]) -> records.ExceptionRecord | None:
    """Return the exception that ended a span, from the last event that reports one, which is marked.

    The span is its origin, unless ``ztrace.otel`` has recorded on the span that a ztrace span raised it
    first.

    Args:
        events: events of a span, with attributes.
        of_span: attributes of the span.
    """
    for event in reversed(events):
        report = _read_report(event["name"], event.get("attributes", {}))
        if report is None:
            continue
        event[conventions.BECAME_EXCEPTION] = True
        record = read_stack_text(report.stack, _is_in_app, report.type, report.message)
        record = record._replace(type=record.type or _NO_TYPE)
        origin = exception_form.read_origin(of_span)
        if origin is None:
            return record
        return record._replace(
            how=records.PASSED, causes=[], origin_trace_id=origin[0], origin_span_id=origin[1]
        )
    return None


def _read_report(name: str, attributes: dict[str, Any]) -> _Report | None:
    if name == "exception":
        type_, message, stack = (_text(attributes, key) for key in _OF_OPENTELEMETRY)
        if type_ or message or stack:
            return _complete(type_, message if _OF_OPENTELEMETRY[1] in attributes else None, stack, "")
    type_, error = _text(attributes, "error.kind"), _text(attributes, "error.object")
    message, stack = _text(attributes, "message"), _text(attributes, "stack")
    if not (type_ or error or (name == "error" and (message or stack))):
        return None
    return _complete(type_, message or None, stack, error)


def _complete(type_: str, message: str | None, stack: str, error: str) -> _Report:
    """Return a report whose type and message, where they are missing, are those of the texts."""
    for text in (error, "" if _PYTHON in stack else stack):
        first, _, rest = text.partition("\n")
        found = _HEADLINE.match(first.strip())
        if found and (found[2] is not None or rest.lstrip().startswith("at ")):
            type_ = type_ or found[1]
            if message is None and type_ == found[1]:
                message = found[2] or ""
        elif text is error and message is None:
            message = error or None
    return _Report(type_, message, stack)


def _text(attributes: dict[str, Any], key: str) -> str:
    value = attributes.get(key)
    return value if type(value) is str else ""


def _is_in_app(file: str) -> bool:
    return not _LIBRARY.search(file)
