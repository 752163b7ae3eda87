"""Documents with calls found by a search."""

from typing import TypedDict


class FoundSpan(TypedDict):
    """A call that a search has found; the duration is null if it has not ended.

    Extra: ``running_ns`` is the time of an unfinished call until now, or until the last sign of it.
    """

    trace_id: str
    span_id: str
    service: str
    name: str
    kind: str
    start_ns: int
    duration_ns: int | None
    running_ns: int | None
    status: str
    attributes: dict[str, object]


class FindDocument(TypedDict):
    """``find``: the newest call first.

    Extra: ``searched_since_ns`` is the time back to which trees were searched before the deadline, null if
    all were; ``thinned_until_ns`` the time until which trees are thinned, null if none of these are.
    """

    spans: list[FoundSpan]
    searched_since_ns: int | None
    thinned_until_ns: int | None
