"""What happened within a span, as programs that use OpenTelemetry tell of it.

One idea: nothing is taken on trust. The collector has checked the column, and a damaged file may hold
anything: what is of another type than it should be is left out.
"""

from collections.abc import Mapping

from ztrace_viewer.documents.trees import SpanEvent
from ztrace_viewer.json_text import read_json


def read_details(text: str | None) -> Mapping[str, object]:
    """Return the column ``details`` as a mapping, empty if there is nothing."""
    if text is None:
        return {}
    details = read_json(text)
    return details if isinstance(details, dict) else {}


def read_events(details: Mapping[str, object]) -> list[SpanEvent]:
    """Return a span's events, by their time."""
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
    """Return what a span says of its status, None if it says nothing."""
    message = details.get("status_message")
    return message if isinstance(message, str) and message else None
