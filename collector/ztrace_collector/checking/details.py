"""Details of a span that only OpenTelemetry has: validated, corrected, and as JSON text.

One idea: readers may rely on the types that docs/reference/wire-format.md lists, so a listed field of another
type is left out. Other fields are kept as they are. Oversized details lose their largest parts.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ztrace_collector.checking import attributes
from ztrace_collector.checking.attributes import MAX_ATTRIBUTES, encode_one, encode_texts
from ztrace_collector.checking.scalars import is_count
from ztrace_collector.refusals import DETAILS, LARGE_DETAILS, Refusals

#: Bound of flags and counts, which have 32 bits in OTLP.
NUMBER_END = 1 << 32
#: Characters reserved for the counts of what was left out.
NOTE = 64

_Check = Callable[[Any], bool]


def encode_column(
    column: Sequence[dict[str, Any] | None], links: Sequence[Any], refusals: Refusals
) -> list[str | None] | None:
    """Return each mapping as JSON text, None for empty ones; or None if a mapping needs correction.

    Args:
        column: details of each span.
        links: links of each span.
        refusals: counts oversized details.
    """
    for each, pairs in zip(column, links, strict=True):
        if each is not None and not _is_whole(each, len(pairs or ())):
            return None
    texts = encode_texts(column)
    if texts is None:
        return None
    for place, text in enumerate(texts):
        if text is not None and len(text) > MAX_ATTRIBUTES:
            texts[place] = _shrink(dict(column[place] or {}), len(text), refusals)
    return texts


def mend(details: Any, link_count: int, refusals: Refusals) -> dict[str, Any] | None:
    """Return valid details that JSON can hold, from any value that was sent as details."""
    if details is not None and type(details) is not dict:
        refusals.note(DETAILS, f"details are {type(details).__name__}, not a mapping")
        return None
    plain = attributes.mend(details, refusals)
    if plain is None or _is_whole(plain, link_count):
        return plain
    refusals.note(DETAILS, f"in details: {', '.join(plain)}")
    if type(plain.get("events")) is list:
        plain["events"] = [event for event in plain["events"] if _is_event(event)]
    if type(plain.get("links")) is list and len(plain["links"]) == link_count:
        plain["links"] = [link if _is_link(link) else None for link in plain["links"]]
    return {
        key: value for key, value in plain.items() if key not in _CHECKS or _is_of(key, value, link_count)
    }


def _is_whole(details: Any, link_count: int) -> bool:
    return type(details) is dict and all(
        _is_of(key, value, link_count) for key, value in details.items() if key in _CHECKS
    )


def _is_of(key: str, value: Any, link_count: int) -> bool:
    return _CHECKS[key](value) and (key != "links" or len(value) == link_count)


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value < NUMBER_END


def _is_mapping(value: Any) -> bool:
    return type(value) is dict


def _is_list_of(check: _Check) -> _Check:
    return lambda value: type(value) in (tuple, list) and all(map(check, value))


def _has(checks: Mapping[str, _Check], required: Sequence[str] = ()) -> _Check:
    """Return a check of the listed keys of a mapping."""

    def check(value: Any) -> bool:
        return (
            type(value) is dict
            and all(key in value for key in required)
            and all(checks[key](item) for key, item in value.items() if key in checks)
        )

    return check


_is_event = _has(
    {"name": _is_text, "time_ns": is_count, "attributes": _is_mapping, "dropped_attributes": _is_number},
    required=("name", "time_ns"),
)
_is_link_mapping = _has(
    {
        "trace_state": _is_text,
        "attributes": _is_mapping,
        "flags": _is_number,
        "dropped_attributes": _is_number,
    }
)


def _is_link(value: Any) -> bool:
    return value is None or _is_link_mapping(value)


_CHECKS: dict[str, _Check] = {
    "events": _is_list_of(_is_event),
    "status": lambda value: value == "ok",
    "status_message": _is_text,
    "kind": lambda value: type(value) is int and value == 0,
    "trace_state": _is_text,
    "flags": _is_number,
    "scope": _has({"name": _is_text, "version": _is_text, "attributes": _is_mapping, "schema_url": _is_text}),
    "links": _is_list_of(_is_link),
    "dropped": _has({"attributes": _is_number, "events": _is_number, "links": _is_number}),
}


def _shrink(details: dict[str, Any], length: int, refusals: Refusals) -> str:
    """Return oversized details as JSON text without their largest parts: single events or other fields."""
    refusals.note(LARGE_DETAILS, f"{length} characters")
    events = list(details.get("events") or ())
    parts = [(len(encode_one(event)), "events", place) for place, event in enumerate(events)]
    parts += [
        (len(encode_one(value)), key, -1)
        for key, value in details.items()
        if key not in ("events", "dropped")
    ]
    parts.sort()
    gone: set[int] = set()
    while parts and (excess := len(encode_one(details)) - MAX_ATTRIBUTES + NOTE) > 0:
        # Drop as much as the excess before encoding again: once for each small part would take long.
        while excess > 0 and parts:
            size, key, place = parts.pop()
            excess -= size + 1
            if place >= 0:
                gone.add(place)
            elif key == "links":
                _count_dropped(details, key, len(details.pop(key)))
            else:
                del details[key]
        if gone:
            details["events"] = [event for place, event in enumerate(events) if place not in gone]
    if gone:
        _count_dropped(details, "events", len(gone))
    text = encode_one(details)
    return text if len(text) <= MAX_ATTRIBUTES else "{}"


def _count_dropped(details: dict[str, Any], what: str, count: int) -> None:
    dropped = dict(details.get("dropped") or {})
    dropped[what] = min(NUMBER_END - 1, dropped.get(what, 0) + count)
    details["dropped"] = dropped
