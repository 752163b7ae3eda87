"""Values of files of other programs: texts, ids and times, with corrections counted.

One idea: a value that is no id or no time is passed on as one that the store refuses, so the span is refused
with the same reason whatever file it came from. Other invalid values cost themselves.
"""

import math
from collections.abc import Mapping
from typing import Any

from ztrace.records import INT64_MAX
from ztrace_collector.checking import text
from ztrace_collector.otlp.mapping.json_mending import as_text, excerpt
from ztrace_collector.refusals import ATTRIBUTES, DETAILS, UTF8, Note

#: Digits of ids; Jaeger omits leading zeros, and Zipkin's traces may have 16 digits.
TRACE_DIGITS, SPAN_DIGITS = 32, 16
#: Placeholders that the store refuses, for an id and for a time.
NO_ID, NO_TIME_NS = b"?", (1 << 64) - 1


class Values:
    """Reading of values of one file."""

    def __init__(self, note: Note) -> None:
        """Count corrections by `note`."""
        self.note = note

    def text(self, value: str) -> str:
        """Return a text that protobuf can hold; lone surrogates are replaced and counted."""
        if text.is_whole(value):
            return value
        self.note(UTF8, excerpt(value))
        return text.mended(value)

    def plain_text(self, value: Any, what: str) -> str:
        """Return a value as text; anything but text is counted as corrected."""
        if type(value) is str:
            return self.text(value)
        self.note(ATTRIBUTES, f"{what} is {excerpt(value)}")
        return "" if value is None else self.text(as_text(value))

    def name(self, value: Any, what: str) -> str:
        """Return a span's name; a missing one is empty, and anything but text is counted as corrected."""
        if value is None:
            return ""
        if type(value) is str:
            return self.text(value)
        self.note(DETAILS, f"{what} is {excerpt(value)}")
        return as_text(value)

    def end_ns(self, start_ns: int | None, duration: Any) -> int:
        """Return a span's end from a duration in microseconds, which may be negative.

        A duration that is no number counts as 0 and is counted as corrected.
        """
        if start_ns is None:
            return NO_TIME_NS
        duration_ns = to_nanoseconds(duration)
        if duration_ns is None or start_ns + duration_ns > INT64_MAX:
            self.note(DETAILS, f"duration is {excerpt(duration)}")
            return start_ns
        return max(0, start_ns + duration_ns)

    def mapping(self, value: Any, what: str, reason: str) -> Mapping[str, Any]:
        """Return an object; a missing one is empty, and anything else is counted."""
        if isinstance(value, dict):
            return value
        if value is not None:
            self.note(reason, f"{what} is {excerpt(value)}")
        return {}

    def mappings(self, value: Any, what: str, reason: str) -> list[Mapping[str, Any]]:
        """Return the objects of a list; a missing list is empty, and anything else is counted."""
        if value is None:
            return []
        items = value if isinstance(value, list) else [value]
        found: list[Mapping[str, Any]] = []
        if isinstance(value, list):
            found = [item for item in items if isinstance(item, dict)]
        if len(found) < len(items):
            self.note(reason, f"{what}: {excerpt(items)}", len(items) - len(found))
        return found


def read_id(value: Any, digits: int) -> bytes:
    """Return an id of up to so many hex digits, or a placeholder that the store refuses."""
    if type(value) is not str or not 0 < len(value) <= digits:
        return NO_ID
    try:
        return bytes.fromhex(value.zfill(digits))
    except ValueError:
        return NO_ID


def read_time(value: Any) -> int | None:
    """Return a time in nanoseconds from one in microseconds; None if it is no time that the store accepts."""
    time_ns = to_nanoseconds(value)
    return time_ns if time_ns is not None and 0 <= time_ns <= INT64_MAX else None


def to_nanoseconds(value: Any) -> int | None:
    """Return microseconds, which programs write as a number or as text, in nanoseconds."""
    if type(value) is str and value.strip("-").isdecimal() and len(value) < 40:
        value = int(value)
    if type(value) is int:
        return value * 1000
    if type(value) is float and math.isfinite(value):
        return int(value) * 1000 + round((value - int(value)) * 1000)
    return None
