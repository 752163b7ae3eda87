"""Details of a span that only OpenTelemetry has: validated, corrected, and as JSON text.

One idea: readers may rely on the types that docs/reference/wire-format.md lists, so a listed field of another
type is left out. Other fields are kept as they are. Of oversized details the longest values are cut, in
events and links as in attributes; only if that is not enough, whole parts are left out, the largest first.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ztrace_collector.checking import attributes
from ztrace_collector.checking.encoding import MAX_ATTRIBUTES, encode_one, encode_texts
from ztrace_collector.checking.scalars import is_count
from ztrace_collector.checking.shrinking import LEAST, cut_text, find_level, shrink
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


def count_dropped(details: Any, what: str, count: int) -> Any:
    """Return details with more attributes, events or links counted as dropped; invalid ones unchanged."""
    if not count or (details is not None and type(details) is not dict):
        return details
    before = (details or {}).get("dropped") or {}
    if type(before) is not dict or not _is_number(before.get(what, 0)):
        return details
    after = min(NUMBER_END - 1, before.get(what, 0) + count)
    return {**(details or {}), "dropped": {**before, what: after}}


def _shrink(details: dict[str, Any], length: int, refusals: Refusals) -> str:
    """Return oversized details as JSON text, with long values cut or large parts left out."""
    refusals.note(LARGE_DETAILS, f"{length} characters")
    details = _cut_parts(details)
    events = list(details.get("events") or ())
    # The event that became the exception goes last.
    parts = [
        (not event.get("became_exception"), len(encode_one(event)), "events", place)
        for place, event in enumerate(events)
    ]
    parts += [
        (True, len(encode_one(value)), key, -1)
        for key, value in details.items()
        if key not in ("events", "dropped")
    ]
    parts.sort()
    gone: set[int] = set()
    while parts and (excess := len(encode_one(details)) - MAX_ATTRIBUTES + NOTE) > 0:
        # Drop as much as the excess before encoding again: once for each small part would take long.
        while excess > 0 and parts:
            _, size, key, place = parts.pop()
            excess -= size + 1
            if place >= 0:
                gone.add(place)
            elif key == "links":
                details = count_dropped(details, key, len(details[key]))
                del details[key]
            else:
                del details[key]
        if gone:
            details["events"] = [event for place, event in enumerate(events) if place not in gone]
    details = count_dropped(details, "events", len(gone))
    text = encode_one(details)
    return text if len(text) <= MAX_ATTRIBUTES else "{}"


def _cut_parts(details: dict[str, Any]) -> dict[str, Any]:
    """Return details with the longest values cut, to one common length of events, links and other fields."""
    events, links = list(details.get("events") or ()), list(details.get("links") or ())
    others = [key for key in details if key not in ("events", "links", "dropped")]
    parts = [*events, *links, *map(details.__getitem__, others)]
    sizes = [len(encode_one(part)) + 1 for part in parts]
    beside = sum(len(key) + 4 for key in others) + 2 * NOTE + len(encode_one(details.get("dropped")))
    level = find_level(sizes, MAX_ATTRIBUTES - beside)
    if level < LEAST:
        return dict(details)
    found = dict(details)
    if events:
        found["events"] = [_cut_mapping(event, level) for event in events]
    if links:
        found["links"] = [link and _cut_mapping(link, level) for link in links]
    for key in others:
        if key == "status_message":
            found[key] = cut_text(details[key], level)
        elif type(details[key]) is dict:
            found[key] = _cut_mapping(details[key], level)
    return found


def _cut_mapping(part: dict[str, Any], room: int) -> dict[str, Any]:
    """Return an event, a link or a scope with its attributes cut and counted; its other fields stay."""
    size = len(encode_one(part))
    attributes = part.get("attributes")
    if size <= room or type(attributes) is not dict:
        return part
    room -= size - len(encode_one(attributes)) + NOTE
    kept, cut = shrink(attributes, room) if room >= LEAST else ({}, list(attributes))
    before = part.get("dropped_attributes", 0)
    dropped = len(cut) + (before if _is_number(before) else 0)
    return {**part, "attributes": kept, "dropped_attributes": min(NUMBER_END - 1, dropped)}
