"""Correction of an invalid batch, span by span: each span is refused, corrected or left as it is.

One idea: a span with a reliable place in its tree and reliable times is worth keeping even if all else is
invalid; without those it would mislead. A span that `mend` returns passes the checks of `columns`.
"""

import json
from collections.abc import Sequence
from typing import Any

from ztrace.records import ERROR, INT64_MAX, KIND_NAMES, MEASURES, OK, UNFINISHED, Span
from ztrace_collector.checking import attributes, details, text
from ztrace_collector.checking.scalars import is_count, is_id
from ztrace_collector.refusals import (
    EXCEPTION,
    FIELDS,
    KIND,
    LINKS,
    LONG_NAME,
    NAME,
    PARENT_ID,
    SPAN_ID,
    STATUS,
    TIME,
    TRACE_ID,
    UTF8,
    Refusals,
)

#: Characters kept of a name, which is the key of an index and a column on the screen.
MAX_NAME = 256
#: Statuses of an ended span.
FINISHED = frozenset({OK, ERROR})
#: Numbers of fields that a span may have: those with a default may be missing.
LENGTHS = frozenset(range(len(Span._fields) - len(Span._field_defaults), len(Span._fields) + 1))
#: Links kept of a span.
MAX_LINKS = 128


def mend(fields: Any, refusals: Refusals, *, finished: bool) -> tuple[Any, ...] | None:
    """Return a span that is valid for the tables, or None if it is refused; both are counted by reason.

    Args:
        fields: a decoded span, of any type.
        refusals: counts the reasons, and keeps the ids of a refused span that was complete otherwise.
        finished: whether the span must have ended or must not.
    """
    if type(fields) is not tuple or len(fields) not in LENGTHS:
        refusals.note(FIELDS, f"{_describe(fields)} instead of a span's {max(LENGTHS)} fields")
        return None
    span = Span(*fields)
    reason = _reason_to_refuse(span, finished)
    if reason:
        if finished and is_id(span.trace_id, 16) and is_id(span.span_id, 8):
            refusals.spans.append((span.trace_id, span.span_id, reason))
        position = {TIME: "start_ns", STATUS: "status"}.get(reason, reason)
        refusals.note(
            reason, f"span {_describe(span.name)}: {position} is {_describe(getattr(span, position))}"
        )
        return None
    kept = _choose_links(span.links)
    links = _mend_links(span.links, kept, refusals)
    found = details.mend(_align(span.details, span.links, kept), len(links or ()), refusals)
    if isinstance(span.links, tuple):
        found = details.count_dropped(found, "links", len(span.links) - len(kept))
    mended = span._asdict() | {
        "name": _mend_name(span.name, refusals),
        "attributes": attributes.mend(span.attributes, refusals),
        "links": links,
        "exception": _mend_exception(span.exception, refusals),
        "details": found,
    }
    return tuple(mended.values())


def _reason_to_refuse(span: Span, finished: bool) -> str | None:
    if not is_id(span.trace_id, 16):
        return TRACE_ID
    if not is_id(span.span_id, 8):
        return SPAN_ID
    if span.parent_id is not None and not is_id(span.parent_id, 8):
        return PARENT_ID
    if type(span.kind) is not int or span.kind not in KIND_NAMES:
        return KIND
    if type(span.name) is not str:
        return NAME
    times = [getattr(span, name) for name in ("duration_ns", *MEASURES)]
    if not is_count(span.start_ns) or not all(time is None or is_count(time) for time in times):
        return TIME
    if span.start_ns + (span.duration_ns or 0) > INT64_MAX:
        return TIME
    if type(span.status) is not int or span.status not in (FINISHED if finished else {UNFINISHED}):
        return STATUS
    return STATUS if (span.duration_ns is None) == finished else None


def _mend_name(name: str, refusals: Refusals) -> str:
    if not text.is_whole(name):
        name = text.mended(name)
        refusals.note(UTF8, f"in the name {name[:64]}")
    if len(name) > MAX_NAME:
        refusals.note(LONG_NAME, f"a name of {len(name)} characters: {name[:64]}")
    return text.cut(name, MAX_NAME)


def are_links(links: Any) -> bool:
    """Return whether a value is valid as a span's links."""
    return links is None or (
        type(links) is tuple
        and len(links) <= MAX_LINKS
        and all(
            type(link) is tuple and len(link) == 2 and is_id(link[0], 16) and is_id(link[1], 8)
            for link in links
        )
    )


def link_text(links: tuple[tuple[bytes, bytes], ...]) -> str:
    """Return links as stored: ``[{"trace_id": hex, "span_id": hex}, ...]``."""
    return json.dumps(
        [{"trace_id": trace_id.hex(), "span_id": span_id.hex()} for trace_id, span_id in links],
        separators=(",", ":"),
    )


def _choose_links(links: Any) -> list[int]:
    """Return the positions of the links to keep: the first valid ones."""
    if type(links) is not tuple:
        return []
    return [place for place, link in enumerate(links) if are_links((link,))][:MAX_LINKS]


def _mend_links(links: Any, kept: Sequence[int], refusals: Refusals) -> tuple[Any, ...] | None:
    if are_links(links):
        return None if links is None else tuple(links)
    refusals.note(LINKS, f"links are {_describe(links)}")
    return tuple([links[place] for place in kept]) if type(links) is tuple else None


def _align(given: Any, links: Any, kept: Sequence[int]) -> Any:
    """Return details that describe only the links that are kept."""
    more = given.get("links") if type(given) is dict else None
    if not isinstance(more, (tuple, list)) or type(links) is not tuple:
        return given
    if len(more) == len(links) > len(kept):
        return {**given, "links": [more[place] for place in kept]}
    return given


def _mend_exception(exception: Any, refusals: Refusals) -> tuple[Any, ...] | None:
    if exception is None or type(exception) is tuple:
        return exception
    refusals.note(EXCEPTION, f"exception is {_describe(exception)}")
    return None


def _describe(value: Any) -> str:
    """Return a short text for a value of any type and size."""
    if type(value) in (tuple, list, dict):
        return f"{type(value).__name__} of {len(value)}"
    if type(value) in (str, bytes):
        return repr(value[:32])
    return repr(value)[:64]
