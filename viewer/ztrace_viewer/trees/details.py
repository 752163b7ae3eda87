"""Fields of a span that only OpenTelemetry records, and others that are stored as JSON.

One idea: the columns are not trusted. The collector has checked them, but a damaged file can hold anything,
so values of a wrong type are ignored.
"""

from collections.abc import Mapping

from ztrace_collector.otlp.mapping.conventions import BECAME_EXCEPTION
from ztrace_collector.otlp.mapping.error_events import STACK_ATTRIBUTES
from ztrace_viewer.documents.exceptions import ExceptionDocument
from ztrace_viewer.documents.trees import Dropped, Scope, SpanEvent, SpanLink
from ztrace_viewer.json_text import read_json


def read_object(text: str | None) -> dict[str, object]:
    """Return a column as a mapping, empty if it holds none."""
    value = None if text is None else read_json(text)
    return value if isinstance(value, dict) else {}


def read_text(value: object) -> str:
    """Return a value that is text, empty for any other."""
    return value if isinstance(value, str) else ""


def read_count(value: object) -> int:
    """Return a value that is an integer, 0 for any other."""
    return value if type(value) is int else 0


def read_events(details: Mapping[str, object]) -> list[SpanEvent]:
    """Return a span's events in order of time."""
    listed = details.get("events")
    events: list[SpanEvent] = []
    for event in listed if isinstance(listed, list) else ():
        if not isinstance(event, dict):
            continue
        name, time_ns, attributes = event.get("name"), event.get("time_ns"), event.get("attributes")
        if isinstance(name, str) and type(time_ns) is int:
            kept = attributes if isinstance(attributes, dict) else {}
            events.append({"name": name, "time_ns": time_ns, "attributes": kept})
    return sorted(events, key=lambda event: event["time_ns"])


def add_stack(exception: ExceptionDocument | None, details: Mapping[str, object]) -> None:
    """Set an exception's stack trace to the text of the event it came from, if it has no frames."""
    if exception is None or exception["frames"]:
        return
    listed = details.get("events")
    for event in listed if isinstance(listed, list) else ():
        if isinstance(event, dict) and event.get(BECAME_EXCEPTION) is True:
            attributes = event.get("attributes")
            texts = (
                [attributes.get(name) for name in STACK_ATTRIBUTES] if isinstance(attributes, dict) else []
            )
            exception["stack"] = next(
                (text for text in texts if isinstance(text, str) and text.strip()), None
            )


def read_links(text: str | None, details: Mapping[str, object]) -> list[SpanLink]:
    """Return a span's links; the details hold OpenTelemetry's further fields of each, in the same order."""
    listed, more = None if text is None else read_json(text), details.get("links")
    rest = more if isinstance(more, list) else []
    links: list[SpanLink] = []
    for position, link in enumerate(listed if isinstance(listed, list) else ()):
        if not isinstance(link, dict):
            continue
        extra = rest[position] if position < len(rest) else None
        extra = extra if isinstance(extra, dict) else {}
        attributes = extra.get("attributes")
        links.append(
            {
                "trace_id": read_text(link.get("trace_id")),
                "span_id": read_text(link.get("span_id")),
                "trace_state": read_text(extra.get("trace_state")),
                "attributes": attributes if isinstance(attributes, dict) else {},
            }
        )
    return links


def read_scope(details: Mapping[str, object]) -> Scope | None:
    """Return the instrumentation scope of a span, None if it has none."""
    scope = details.get("scope")
    if not isinstance(scope, dict):
        return None
    return {"name": read_text(scope.get("name")), "version": read_text(scope.get("version"))}


def read_dropped(details: Mapping[str, object]) -> Dropped:
    """Return how many attributes, events and links the program's SDK dropped."""
    dropped = details.get("dropped")
    counts = dropped if isinstance(dropped, dict) else {}
    return {
        "attributes": read_count(counts.get("attributes")),
        "events": read_count(counts.get("events")),
        "links": read_count(counts.get("links")),
    }


def read_status_message(details: Mapping[str, object]) -> str | None:
    """Return the message of a span's status, None if it has none."""
    return read_text(details.get("status_message")) or None
