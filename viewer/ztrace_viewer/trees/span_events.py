"""Details of a span that only OpenTelemetry records: events and the status message.

One idea: the column is not trusted. The collector has checked it, but a damaged file can hold anything, so
values of a wrong type are ignored.
"""

from collections.abc import Mapping

from ztrace_viewer.documents.trees import SpanEvent
from ztrace_viewer.json_text import read_json


def read_details(text: str | None) -> Mapping[str, object]:
    """Return the column ``details`` as a mapping, empty if it holds none."""
    if text is None:
        return {}
    details = read_json(text)
    return details if isinstance(details, dict) else {}


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


def read_status_message(details: Mapping[str, object]) -> str | None:
    """Return the message of a span's status, None if it has none."""
    message = details.get("status_message")
    return message if isinstance(message, str) and message else None
