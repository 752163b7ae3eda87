"""Records: the tuples that spans, exceptions and frames become on their way to the collector.

Each column of a span is named here once. The wire carries the fields in this order, and the columns of the
collector and the viewer are derived from it or checked against it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

#: Limits of a signed 64-bit integer, the largest that SQLite and OTLP can hold.
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1

#: Span kinds, with OTLP's numbers.
KIND_NUMBERS = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
KIND_NAMES = {number: name for name, number in KIND_NUMBERS.items()}

#: Status of a span; an UNFINISHED span has no duration.
OK, ERROR, UNFINISHED = 0, 1, 2

#: Relation of an exception to the span that records it: first raised in the span, propagated through it,
#: raised ``from`` another span's exception, raised while handling one, or a group that contains one.
RAISED, PASSED, WRAPPED, REPLACED, GROUPED = "raised", "passed", "wrapped", "replaced", "grouped"

#: State of a span in a sample: its owner's code goes on; the owner is parked, or its thread blocks; the owner
#: is parked while another one runs on its thread.
RUN, WAIT, WAIT_BUSY = 0, 1, 2
#: Answers of a publisher to a request for a profile.
STARTED, FINISHED, DECLINED = 1, 2, 3

#: Attribute of a span that no code refers to any more, so that it can never end.
ABANDONED = "ztrace.abandoned"

#: Characters kept of a source line in a `FrameRecord`.
MAX_CODE = 256

#: Fields of a `Span` that are integers or None and that no other code looks at as they pass: the collector
#: stores each as a column of that name, and OTLP carries each as the attribute ``ztrace.NAME``.
MEASURES = ("self_ns", "cpu_ns", "lane")

#: A span as a plain tuple, in the order of `Span`: naming its fields would cost the hot path too much.
Record = tuple[Any, ...]


class Span(NamedTuple):
    """A span on the wire; the body of a DATA message is a msgpack array of these.

    Attributes:
        trace_id: 16 bytes.
        span_id: 8 bytes.
        parent_id: 8 bytes, or None for a root.
        kind: key of KIND_NAMES.
        name: method as called.
        start_ns: start, Unix.
        duration_ns: duration by the monotonic clock; None while unfinished.
        self_ns: duration minus the time in which at least one child ran.
        cpu_ns: CPU time of the span's thread, for server spans.
        status: OK, ERROR or UNFINISHED.
        attributes: str keys; values are str, bool, int, float, bytes, None, or lists of these.
        links: ``[trace_id, span_id]`` pairs.
        exception: fields of an `ExceptionRecord`.
        details: fields that only OpenTelemetry has, by the keys of docs/reference/wire-format.md; None for
            ztrace's own spans.
        lane: number of the thread, task or greenlet in its process, if spans below the span or its parent ran
            beside each other; otherwise None.
    """

    trace_id: bytes
    span_id: bytes
    parent_id: bytes | None
    kind: int
    name: str
    start_ns: int
    duration_ns: int | None
    self_ns: int | None
    cpu_ns: int | None
    status: int
    attributes: dict[str, Any] | None
    links: list[list[bytes]] | None
    exception: Sequence[Any] | None
    details: dict[str, Any] | None = None
    lane: int | None = None


class ExceptionRecord(NamedTuple):
    """An exception of a span, one of its causes, or a member of a group.

    Attributes:
        type: qualified class name, without the module for builtins.
        message: ``str(exception)``, truncated.
        frames: FrameRecords, outermost first. Of a PASSED exception only those between this span and the next
            span below it in the same process; the last in-app frame made the call.
        causes: ExceptionRecords.
        how: RAISED, PASSED, WRAPPED, REPLACED or GROUPED; of a cause WRAPPED (``__cause__``) or REPLACED
            (``__context__``), its relation to the exception above.
        origin_trace_id: 16 bytes; None for a cause, and for a member that was first raised in this span.
        origin_span_id: 8 bytes; None in the same cases.
        notes: texts added by ``add_note``, truncated.
        members: exceptions of a group; one first raised in another span is PASSED and has no frames.
    """

    type: str
    message: str
    frames: Sequence[Sequence[Any]]
    causes: Sequence[Sequence[Any]]
    how: str
    origin_trace_id: bytes | None
    origin_span_id: bytes | None
    notes: Sequence[str] = ()
    members: Sequence[Sequence[Any]] = ()


class FrameRecord(NamedTuple):
    """A frame of a traceback.

    Attributes:
        file: file name of the code.
        line: line number, from 1.
        function: qualified name.
        module: ``__name__`` of the module.
        code: source line, truncated; empty if it is not available.
        in_app: True for the user's own code.
        repeats: consecutive repetitions of the frame, or of the cycle of frames that ends with it.
        omitted: frames left out before this one.
        locals: names and values as text; None unless local variables are recorded.
    """

    file: str
    line: int
    function: str
    module: str
    code: str
    in_app: bool
    repeats: int = 0
    omitted: int = 0
    locals: dict[str, str] | None = None


class Profile(NamedTuple):
    """Samples of stacks; the body of a PROFILE message is a msgpack array of these fields.

    Each message has its own tables, so it can be read without any other. Flat arrays hold a fixed number of
    integers for each item. Numbers of items count from 0 in their table; those of stacks and of spans that
    are waited for count from 1, and 0 stands for none.

    Attributes:
        first: samples that the incarnation took before those of this message.
        samples: samples of this message.
        start_ns: start of the time in which they were taken, Unix.
        end_ns: end of that time.
        answers: ``[nonce, STARTED or FINISHED or DECLINED]`` to requests.
        texts: files, functions and names of methods.
        frames: three integers each: file and function (texts), and line.
        stacks: two integers each: the stack without its innermost frame, and the innermost frame.
        methods: two integers each: kind of the spans, and their name (text).
        sums: four integers each: method, stack, state (RUN, WAIT or WAIT_BUSY), and time in microseconds.
        spans: ``[trace_id, span_id, method, runs]``. The runs are the span's samples in order, four integers
            each: stack, state, time in microseconds, and the span of this array that ran meanwhile.
    """

    first: int
    samples: int
    start_ns: int
    end_ns: int
    answers: Sequence[Sequence[Any]]
    texts: Sequence[str]
    frames: Sequence[int]
    stacks: Sequence[int]
    methods: Sequence[int]
    sums: Sequence[int]
    spans: Sequence[Sequence[Any]]
