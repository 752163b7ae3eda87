"""Call trees and their spans."""

from typing import NotRequired, Required, TypedDict

from ztrace_viewer.documents.exceptions import ExceptionDocument


class Clock(TypedDict):
    """How far a host's clock is ahead of that of the root's host, with bounds, by calls between hosts."""

    offset_ns: int
    low_ns: int
    high_ns: int
    calls: int


class Instance(TypedDict):
    """The process a span ran in."""

    id: str
    host: str
    pid: int


class TimedInstance(Instance):
    """The process of a span in a tree.

    ``clock`` is null on the root's host, where nothing is measured, and with ``--clocks raw``.
    """

    clock: Clock | None


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


class SpanLink(TypedDict):
    """A link to a span, with the fields that only OpenTelemetry records."""

    trace_id: str
    span_id: str
    trace_state: str
    attributes: dict[str, object]


class Scope(TypedDict):
    """The instrumentation that made a span."""

    name: str
    version: str


class Dropped(TypedDict):
    """Numbers of items that a program's OpenTelemetry SDK or the collector dropped from a span, or cut."""

    attributes: int
    events: int
    links: int


class FlatSpan(TypedDict):
    """A span without those below it.

    Extra: ``unfinished``, null for a span that has ended, and ``status_message``. OpenTelemetry alone records
    ``events``, by time, ``scope``, ``trace_state``, ``flags``, ``dropped``, and ``resource``, the attributes
    of the process.
    """

    span_id: str
    parent_id: str | None
    service: str
    name: str
    kind: str
    start_ns: int
    duration_ns: int | None
    self_ns: int | None
    critical_ns: int | None
    cpu_ns: int | None
    status: str
    status_message: str | None
    instance: TimedInstance
    attributes: dict[str, object]
    events: list[SpanEvent]
    links: list[SpanLink]
    scope: Scope | None
    trace_state: str
    flags: int
    dropped: Dropped
    resource: dict[str, object]
    unfinished: UnfinishedState | None
    exception: ExceptionDocument | None


class SpanDocument(FlatSpan):
    """A span with everything below it."""

    children: list["SpanDocument"]


class PlacedSpan(FlatSpan):
    """A span in the order of its tree, with the number of spans above it."""

    depth: int


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


class Summary(TypedDict):
    """A call tree as a whole. It is complete when nothing is missing."""

    trace_id: str
    start_ns: int
    duration_ns: int | None
    services: list[str]
    span_count: int
    error_count: int
    complete: bool
    missing: list[Missing]


class TreeDocument(Summary):
    """``show``: one call tree."""

    roots: list[SpanDocument]


class FlatTreeDocument(Summary):
    """``show --flat``: one call tree as a list, for readers that cannot nest as deep as calls can."""

    spans: list[PlacedSpan]
