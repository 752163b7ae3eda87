"""Rows that a store answers with.

One idea: documents are pure functions of these rows, so stores that return them give the same documents.
A number named ``key`` is meaningful to the store that returned it alone.
"""

from typing import NamedTuple


class Method(NamedTuple):
    """A name under which a service made spans of one kind."""

    id: int
    service: str
    name: str
    kind: str


class TraceRow(NamedTuple):
    """Totals of a trace's ended spans, with the method of its root; ``services`` is a JSON array."""

    trace_id: bytes
    root_span_id: bytes | None
    service: str
    name: str
    start_ns: int
    end_ns: int
    duration_ns: int
    span_count: int
    error_count: int
    services: str


class SpanCounts(NamedTuple):
    """Numbers of a trace's ended spans; ``orphans`` have a parent that is not stored."""

    spans: int
    ids: int
    roots: int
    unfinished: int
    orphans: int


class Link(NamedTuple):
    """A span's id and its parent's, with the key by which the store finds the span."""

    key: int
    span_id: bytes
    parent_id: bytes | None


class ExceptionRow(NamedTuple):
    """An exception of one span, with the fingerprint of its group; without a type, the span merely failed."""

    span_id: bytes
    origin_trace_id: bytes
    origin_span_id: bytes
    fingerprint: str | None
    how: str
    type: str
    message: str
    frames: str
    causes: str
    notes: str
    members: str


class RaisedRow(NamedTuple):
    """An exception of one span by its text alone."""

    span_id: bytes
    origin_trace_id: bytes
    origin_span_id: bytes
    fingerprint: str | None
    how: str
    type: str
    message: str


class ExceptionText(NamedTuple):
    """Type and message of an exception, with its span."""

    trace_id: bytes
    span_id: bytes
    type: str
    message: str


class LossRow(NamedTuple):
    """Spans of one process that were lost for one reason."""

    instance_id: str
    service: str
    host: str
    pid: int
    reason: str
    span_count: int
    first_ns: int
    last_ns: int


class SourceRow(NamedTuple):
    """State of a process, by which a missing span may be its; ``is_foreign`` sends no sequence numbers."""

    instance_id: str
    state: str
    last_seen_ns: int
    waiting: int
    is_foreign: int


class GroupRow(NamedTuple):
    """An exception group, with the counts of the selected time; frames and services are JSON."""

    key: int
    fingerprint: str
    type: str
    message: str
    template: str
    service: str
    name: str
    kind: str
    services: str
    state: str
    resolved_ns: int | None
    first_ns: int
    last_ns: int
    trace_id: bytes
    origin_span_id: bytes
    frames: str
    counted: int
    uncaught_counted: int


class Stretch(NamedTuple):
    """Minutes of a group in which occurrences are counted, from the first to below the end."""

    group: GroupRow
    first: int
    end: int


class SampleRow(NamedTuple):
    """An occurrence of an exception group that is kept as a sample."""

    trace_id: bytes
    origin_span_id: bytes
    at_ns: int


class FiguresRow(NamedTuple):
    """Calls of a method that ended in one bucket of time; the histogram is JSON."""

    method: int
    bucket: int
    histogram: str
    calls: int
    errors: int
    total_ns: int
    self_ns: int


class PublisherRow(NamedTuple):
    """Account of a publisher, with its process."""

    service: str
    host: str
    pid: int
    processes: int
    state: str
    spans_created: int
    spans_stored: int
    spans_dropped: int
    spans_tombstoned: int
    spans_missing: int
    spans_undelivered: int
    spans_crashed: int
    spans_refused: int
    spans_elsewhere: int
    spans_waiting: int
    samples_created: int
    samples_stored: int
    samples_lost: int
    samples_elsewhere: int
    last_seen_ns: int


class ServiceRow(NamedTuple):
    """Sums over the publishers of a service."""

    service: str
    publishers: int
    live: int
    silent: int
    ended: int
    crashed: int
    spans_created: int
    spans_stored: int
    spans_lost: int
    last_seen_ns: int


class PublisherSums(NamedTuple):
    """Sums over all publishers."""

    publishers: int
    spans_created: int
    spans_lost: int
    spans_elsewhere: int
    spans_waiting: int
    samples_created: int
    samples_stored: int
    samples_lost: int
    samples_elsewhere: int


class ReasonRow(NamedTuple):
    """Number of corrections that publishers made for one reason."""

    reason: str
    number: int


class RefusalRow(NamedTuple):
    """Number of messages and spans refused or corrected for one reason, with the last."""

    reason: str
    number: int
    last_ns: int
    detail: str


class OpenRow(NamedTuple):
    """The last report of a span without an end, and its publisher; ``abandoned`` is 0 if it was not."""

    state: str
    last_seen_ns: int
    seen_ns: int
    abandoned: int


class DestinationRow(NamedTuple):
    """A destination of spans, its backlog, and the end of the span that has waited longest."""

    key: int
    url: str
    protocol: str
    in_use: int
    sent: int
    refused: int
    skipped: int
    since_ns: int
    success_ns: int | None
    failing_ns: int | None
    error: str | None
    error_ns: int | None
    waiting: int
    oldest_ns: int | None


class Sizes(NamedTuple):
    """Totals of what is stored, by name, the bytes that it takes, and the spans not counted by path yet."""

    totals: dict[str, int]
    database_bytes: int
    log_bytes: int
    unsettled: int


class Candidate(NamedTuple):
    """A trace that a search looks at; ``services`` is a JSON array."""

    trace_id: bytes
    root_span_id: bytes | None
    root_method: int
    start_ns: int
    end_ns: int
    span_count: int
    services: str


class PartRow(NamedTuple):
    """Trees that began in one part of a stretch of time."""

    part: int
    traces: int
    errors: int


class PathKey(NamedTuple):
    """A call path, by its method and the path above: 0 above a root. Shared paths have the method 0."""

    id: int
    parent: int
    method: int
    root: int


class PathRank(NamedTuple):
    """Critical time of a path, by which paths are ordered, and the number of its calls, or 1 for some."""

    path: int
    critical_ns: int
    calls: int


class PathFigures(NamedTuple):
    """Sums of one path over a range of buckets."""

    path: int
    root_calls: int
    calls: int
    errors: int
    total_ns: int
    self_ns: int
    critical_ns: int
    cpu_ns: int
    timed_ns: int


class PathUnit(NamedTuple):
    """Sums of a path in one unit of time, or a part of them."""

    unit: int
    path: int
    root_calls: int
    calls: int
    self_ns: int
    critical_ns: int


class RootRow(NamedTuple):
    """A tree with a root; ``weight`` is the number of trees that it stands for after thinning."""

    trace_id: bytes
    duration_ns: int
    weight: float


class VersionRow(NamedTuple):
    """Calls of a version in one range of buckets, and its first bucket there, in seconds."""

    version: str
    begin_s: int
    calls: int


class StackTime(NamedTuple):
    """Time that a method spent in a stack and in a state of `ztrace.records`."""

    stack: int
    state: int
    us: int


class Run(NamedTuple):
    """A stretch of a span's time, with the span that ran meanwhile, None if there is none.

    Attributes:
        behind: ids of that span, hex, and its method.
    """

    stack: int
    state: int
    ns: int
    behind: tuple[str, str, int] | None


class FrameRow(NamedTuple):
    """The innermost frame of a stack, and the stack of its caller."""

    parent: int
    file: str
    function: str
    line: int


class ExportSize(NamedTuple):
    """Size of an export; spans without an end do not count."""

    trees: int
    spans: int
    start_ns: int


class ChosenTree(NamedTuple):
    """A tree of an export, with the number of its ended spans."""

    trace_id: bytes
    span_count: int
