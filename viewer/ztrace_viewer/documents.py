"""The documents that answer questions: the same from ``--json``, the web page and the library.

One idea: a document is plain JSON with a documented type, made by one library function; text on the terminal
is drawn from the document and from nothing else. Fields marked "extra" are not in the design's tables: they
may be left out by other programs, and stay once they are there.
"""

from typing import Literal, NotRequired, Required, TypedDict


class Frame(TypedDict):
    """A line of Python that was being executed, outermost first in a list.

    Extra: how often it, or the few frames before it that make a circle with it, came again in a row
    (``repeats``); frames left out before it (``omitted``); names and values, if they were recorded.
    """

    file: str
    line: int
    function: str
    code: str
    in_app: bool
    repeats: int
    omitted: int
    locals: dict[str, str] | None


class ExceptionDocument(TypedDict):
    """An exception in a span, one of its causes, or a member of an exception group.

    ``origin`` tells whether it was first raised in this span; ``origin_span_id`` is where it was. ``group``
    is empty while the origin, to which it belongs, is not stored. A cause, and a member that began in the
    same span, has the group and the origin span of the exception above it. Extra: ``how``, one of raised,
    passed, wrapped, replaced, grouped; its notes; its members, if it is an exception group.
    """

    type: str
    message: str
    how: str
    origin: bool
    origin_span_id: str
    group: str
    frames: list[Frame]
    causes: list["ExceptionDocument"]
    notes: list[str]
    members: list["ExceptionDocument"]


class Instance(TypedDict):
    """The process a span ran in."""

    id: str
    host: str
    pid: int


class UnfinishedState(TypedDict):
    """What has become of a span that has not ended: see `ztrace_viewer.trees.states` for the states.

    ``last_seen_ns`` is the last sign of its process; of a span that is lost or abandoned, of the span itself.
    """

    state: str
    last_seen_ns: int


class SpanEvent(TypedDict):
    """Something that happened within a span of a program that uses OpenTelemetry."""

    name: str
    time_ns: int
    attributes: dict[str, object]


class SpanDocument(TypedDict):
    """A span with everything below it.

    Extra: ``unfinished``, null of a span that has ended; ``events``, by time, and ``status_message``, which
    only OpenTelemetry has.
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
    """Spans of one process that are lost for one reason, and between which times they ended."""

    service: str
    host: str
    pid: int
    reason: str
    span_count: int
    first_ns: int
    last_ns: int


class Missing(TypedDict, total=False):
    """Why a tree is not whole: a reason, and the span it shows at.

    Of an orphan also its parent's id, ``gap`` if that was lost, and why it was refused if it was.
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


class TraceSummary(TypedDict):
    """A call tree in a list; service and name are the root's.

    Extra: ``state``, ``finished`` or, of a root that has not ended, that of a span; its duration is null, and
    ``running_ns`` how long it has been running, or ran until the last sign of it.
    """

    trace_id: str
    service: str
    name: str
    start_ns: int
    duration_ns: int | None
    running_ns: int | None
    state: str
    span_count: int
    error_count: int
    services: list[str]
    complete: bool


class SlowDocument(TypedDict):
    """``slow``: the slowest first."""

    traces: list[TraceSummary]


class Sample(TypedDict):
    """One occurrence of a group, by its origin, and when it was."""

    trace_id: str
    origin_span_id: str
    at_ns: int


class GroupSummary(TypedDict):
    """Exceptions with one origin in the code; service, name, kind and frames are those of the origin.

    Extra: ``state``, one of open, resolved, regressed, and when it was resolved; the message with what
    varies marked; every service it passed; how many occurrences reached the edge and how many were
    handled before; some occurrences, the first and the latest among them; and how many there were in each of
    the equal parts of a stretch of time.
    """

    group: str
    type: str
    message: str
    template: str
    service: str
    name: str
    kind: str
    services: list[str]
    state: str
    resolved_ns: int | None
    count: int
    edge_count: int
    swallowed_count: int
    first_ns: int
    last_ns: int
    when: list[int]
    when_since_ns: int
    when_until_ns: int
    trace_id: str
    origin_span_id: str
    frames: list[Frame]
    samples: list[Sample]


class ErrorsDocument(TypedDict):
    """``errors``: the newest or the most frequent first."""

    groups: list[GroupSummary]


class Hop(TypedDict):
    """A span on the way from the root to the origin.

    How, type and message are null where the exception did not come. Extra: the frames of its own part of
    the way, of which the last in_app one made the call; the span's status, its process, what was noted
    there, and the members if it was put into an exception group.
    """

    span_id: str
    service: str
    name: str
    kind: str
    status: str
    instance: Instance
    how: str | None
    type: str | None
    message: str | None
    frames: list[Frame]
    notes: list[str]
    members: list[ExceptionDocument]


class Callee(TypedDict):
    """The other side of a call that failed at its caller: what it was doing."""

    span_id: str
    service: str
    name: str
    kind: str
    start_ns: int
    duration_ns: int | None
    status: str
    instance: Instance
    unfinished: UnfinishedState | None


class ErrorDocument(TypedDict):
    """``error ID``: a group, and how one occurrence travelled; null or empty if that is not stored.

    Extra: which occurrence it is; why the way begins below its root; of a call that failed at its caller
    when that was and what the other side was doing, or what a side that is not traced had to say.
    """

    group: GroupSummary
    shown: Sample
    exception: ExceptionDocument | None
    hops: list[Hop]
    missing: Missing | None
    failed_ns: int | None
    callee: Callee | None
    remote_traceback: str | None


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

    What it created is stored, lost, elsewhere (it was rid of it before this database first heard of it) or
    waiting (on its way, or gone with a process that fell silent). Extra: lost for which reason: no room in
    its queue (dropped) or its window (tombstoned), never received (missing), not delivered before its end
    (undelivered) or its crash (crashed), or not fit to be stored (refused).
    """

    service: str
    host: str
    pid: int
    state: str
    spans_created: int
    spans_stored: int
    spans_lost: int
    spans_dropped: int
    spans_tombstoned: int
    spans_missing: int
    spans_undelivered: int
    spans_crashed: int
    spans_refused: int
    spans_elsewhere: int
    spans_waiting: int
    last_seen_ns: int


class Refusal(TypedDict):
    """What the collector refused or mended for one reason, and the last of it."""

    reason: str
    count: int
    last_ns: int
    detail: str


class Destination(TypedDict):
    """Where spans are sent on to, and how far that has come: sent, refused, deleted before, and waiting.

    ``state`` is one of up to date, behind, refusing, failing, off.
    """

    url: str
    protocol: str
    state: str
    spans_sent: int
    spans_refused: int
    spans_skipped: int
    spans_waiting: int
    waiting_since_ns: int | None
    since_ns: int
    success_ns: int | None
    failing_since_ns: int | None
    error: str | None
    error_ns: int | None
    refusals: list[Refusal]


class StatusDocument(TypedDict):
    """``status``: what is stored, and what is not and why.

    Extra: what all publishers created, and of it what is elsewhere, waiting and expired; the unfinished spans
    that run, that ended with their process, and whose end is lost; every loss, the latest first; what of
    ``rejected`` the collector counted, with the last detail; where spans are sent on to.
    """

    spans_created: int
    spans_stored: int
    spans_expired: int
    traces_stored: int
    spans_lost: int
    spans_elsewhere: int
    spans_waiting: int
    unfinished: int
    unfinished_running: int
    unfinished_ended: int
    unfinished_lost: int
    losses: list[Loss]
    publishers: list[Publisher]
    rejected: dict[str, int]
    refusals: list[Refusal]
    destinations: list[Destination]


class Key(TypedDict):
    """A service's key; ``state`` is ``active`` or ``revoked``."""

    service: str
    id: str
    state: str
    made_ns: int
    revoked_ns: int | None


class KeysDocument(TypedDict):
    """``keys list``."""

    keys: list[Key]


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
