"""Documents of exception groups, and of the way of one occurrence."""

from typing import Literal, TypedDict

from ztrace_viewer.documents.exceptions import ExceptionDocument, Frame
from ztrace_viewer.documents.trees import Instance, Missing, UnfinishedState


class Sample(TypedDict):
    """One occurrence of a group: its origin and its time."""

    trace_id: str
    origin_span_id: str
    at_ns: int


class GroupSummary(TypedDict):
    """Exceptions with the same origin in the code; service, name, kind and frames are the origin's.

    Extra: ``state``, one of open, resolved, regressed, and the time of resolving; the message with its
    variable parts marked; every service it passed; the number of occurrences that were uncaught and of
    those handled before; some occurrences, the first and the latest among them; and their number in each of
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
    uncaught_count: int
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

    ``how``, ``type`` and ``message`` are null where the exception did not come. Extra: the frames of the
    span's own part of the way, of which the last in_app one made the call; the span's status and process;
    notes added there; the members, if the exception was put into an exception group.
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
    """The other side of a call that failed at its caller."""

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
    """``error ID``: a group, and the way of one occurrence; null or empty if that is not stored.

    Extra: the occurrence; the reason for which the way begins below its root; for a call that failed at its
    caller, the time, and the callee's span or the traceback that an untraced callee sent.
    """

    group: GroupSummary
    shown: Sample
    exception: ExceptionDocument | None
    hops: list[Hop]
    missing: Missing | None
    failed_ns: int | None
    callee: Callee | None
    remote_traceback: str | None


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
