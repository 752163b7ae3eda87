"""Documents with lists of call trees."""

from typing import Literal, TypedDict


class TraceSummary(TypedDict):
    """A call tree in a list; service and name are the root's.

    Extra: ``state``, which is ``finished`` or the state of a root without an end. The duration of such a root
    is null, and ``running_ns`` is the time from its start to now, or to the last sign of life. Of the spans,
    ``unfinished_count`` have no end; the row of ``traces`` counts the others.
    """

    trace_id: str
    service: str
    name: str
    start_ns: int
    duration_ns: int | None
    running_ns: int | None
    state: str
    span_count: int
    unfinished_count: int
    error_count: int
    services: list[str]
    complete: bool


class SlowDocument(TypedDict):
    """``slow``: the slowest first."""

    traces: list[TraceSummary]


class TraceEvent(TraceSummary):
    """A line of ``tail``: a call tree whose root has arrived; ``event`` is ``trace``."""

    event: Literal["trace"]
