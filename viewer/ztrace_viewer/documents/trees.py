"""Call trees and their spans."""

from typing import NotRequired, Required, TypedDict

from ztrace_viewer.documents.exceptions import ExceptionDocument


class Instance(TypedDict):
    """The process a span ran in."""

    id: str
    host: str
    pid: int


class UnfinishedState(TypedDict):
    """State of a span without an end; `ztrace_viewer.trees.states` lists them.

    ``last_seen_ns`` is the last sign of life of its process; for a lost or abandoned span, the last report of
    the span itself.
    """

    state: str
    last_seen_ns: int


class SpanEvent(TypedDict):
    """An event within a span of a program that uses OpenTelemetry."""

    name: str
    time_ns: int
    attributes: dict[str, object]


class SpanDocument(TypedDict):
    """A span with everything below it.

    Extra: ``unfinished``, null for a span that has ended; ``events``, by time, and ``status_message``, both
    of OpenTelemetry alone.
    """

    span_id: str
    parent_id: str | None
    service: str
    name: str
    kind: str
    start_ns: int
    duration_ns: int | None
    self_ns: int | None
    cpu_ns: int | None
    status: str
    status_message: str | None
    instance: Instance
    attributes: dict[str, object]
    events: list[SpanEvent]
    unfinished: UnfinishedState | None
    exception: ExceptionDocument | None
    children: list["SpanDocument"]


class Loss(TypedDict):
    """Spans of one process that were lost for one reason, and the time in which they ended."""

    service: str
    host: str
    pid: int
    reason: str
    span_count: int
    first_ns: int
    last_ns: int


class Missing(TypedDict, total=False):
    """Reason for which a tree is incomplete, and the span at which it shows.

    An orphan also has its parent's id, ``gap`` if the parent was lost, and ``refusal`` if it was refused.
    """

    reason: Required[str]
    span_id: NotRequired[str]
    parent_id: NotRequired[str]
    gap: NotRequired[Loss]
    refusal: NotRequired[str]


class TreeDocument(TypedDict):
    """``show``: one call tree. It is complete when nothing is missing."""

    trace_id: str
    start_ns: int
    duration_ns: int | None
    services: list[str]
    span_count: int
    error_count: int
    complete: bool
    missing: list[Missing]
    roots: list[SpanDocument]
