"""The documents that answer questions: the same from ``--json``, the web page and the library.

One idea: a document is plain JSON with a documented type, made by one library function; text on the terminal
is drawn from the document and from nothing else. Fields marked "extra" are not in the design's tables: they
may be left out by other programs, and stay once they are there.
"""

from typing import Literal, NotRequired, Required, TypedDict


class Frame(TypedDict):
    """A line of Python that was being executed, outermost first in a list."""

    file: str
    line: int
    function: str
    code: str
    in_app: bool


class ExceptionDocument(TypedDict):
    """An exception in a span, or one of its causes.

    ``origin`` tells whether it was first raised in this span; ``origin_span_id`` is where it was. ``group``
    is empty while the origin, to which it belongs, is not stored. A cause has
    the group and the origin span of the exception it caused. Extra: ``how``, one of raised, passed, wrapped,
    replaced.
    """

    type: str
    message: str
    how: str
    origin: bool
    origin_span_id: str
    group: str
    frames: list[Frame]
    causes: list["ExceptionDocument"]


class Instance(TypedDict):
    """The process a span ran in."""

    id: str
    host: str
    pid: int


class SpanDocument(TypedDict):
    """A span with everything below it."""

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
    instance: Instance
    attributes: dict[str, object]
    exception: ExceptionDocument | None
    children: list["SpanDocument"]


class Missing(TypedDict, total=False):
    """Why a tree is not whole: a reason, and the span it shows at."""

    reason: Required[str]
    span_id: NotRequired[str]
    parent_id: NotRequired[str]


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


class TraceSummary(TypedDict):
    """A call tree in a list; service and name are the root's."""

    trace_id: str
    service: str
    name: str
    start_ns: int
    duration_ns: int
    span_count: int
    error_count: int
    services: list[str]
    complete: bool


class SlowDocument(TypedDict):
    """``slow``: the slowest first."""

    traces: list[TraceSummary]


class GroupSummary(TypedDict):
    """Exceptions with one origin in the code; service, name, kind and frames are those of the origin."""

    group: str
    type: str
    message: str
    service: str
    name: str
    kind: str
    count: int
    first_ns: int
    last_ns: int
    trace_id: str
    origin_span_id: str
    frames: list[Frame]


class ErrorsDocument(TypedDict):
    """``errors``: the newest first."""

    groups: list[GroupSummary]


class Hop(TypedDict):
    """A span on the way from the root to the origin; how and type are null where no exception was seen."""

    span_id: str
    service: str
    name: str
    kind: str
    how: str | None
    type: str | None
    message: str | None


class ErrorDocument(TypedDict):
    """``error ID``: a group, and how its latest occurrence travelled; null if that is not stored."""

    group: GroupSummary
    exception: ExceptionDocument | None
    hops: list[Hop]


class MethodFigures(TypedDict):
    """What the calls of one method took; the quantiles are null where none has ended."""

    service: str
    name: str
    kind: str
    calls: int
    errors: int
    p50_ns: int | None
    p95_ns: int | None
    p99_ns: int | None
    total_ns: int
    self_ns: int


class StatsDocument(TypedDict):
    """``stats``: the method with the largest total first."""

    methods: list[MethodFigures]


class Publisher(TypedDict):
    """One life of one sending process.

    Extra: why spans were lost: ``spans_dropped`` (its queue was full), ``spans_missing`` (they never
    arrived), ``spans_refused`` (the collector could not read them).
    """

    service: str
    host: str
    pid: int
    state: str
    spans_created: int
    spans_stored: int
    spans_lost: int
    spans_dropped: int
    spans_missing: int
    spans_refused: int
    last_seen_ns: int


class StatusDocument(TypedDict):
    """``status``: what is stored, and what is not and why."""

    spans_stored: int
    traces_stored: int
    spans_lost: int
    unfinished: int
    publishers: list[Publisher]
    rejected: dict[str, int]


class TraceEvent(TraceSummary):
    """A line of ``tail``: a call tree whose root has arrived; ``event`` is ``trace``."""

    event: Literal["trace"]


class ExceptionEvent(TypedDict):
    """A line of ``tail``: an exception at its origin; ``event`` is ``error``."""

    event: Literal["error"]
    at_ns: int
    trace_id: str
    span_id: str
    service: str
    name: str
    type: str
    message: str
    group: str
    frames: list[Frame]
