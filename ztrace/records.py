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

#: Span status. UNFINISHED has a nil duration.
OK, ERROR, UNFINISHED = 0, 1, 2

#: How an exception came to the span that reports it: first raised there, on its way through unchanged, raised
#: ``from`` another, raised while another was being handled, or a group that holds one from elsewhere.
RAISED, PASSED, WRAPPED, REPLACED, GROUPED = "raised", "passed", "wrapped", "replaced", "grouped"

#: Attribute of a span that no code refers to any more, so that it can never end.
ABANDONED = "ztrace.abandoned"

#: Characters kept of a source line in a `FrameRecord`.
MAX_CODE = 256

#: A span as a plain tuple, in the order of `Span`: naming its fields would cost the hot path too much.
Record = tuple[Any, ...]


class Span(NamedTuple):
    """A span as it travels: a list of these, as msgpack arrays, is the body of a DATA message.

    Attributes:
        trace_id: 16 bytes.
        span_id: 8 bytes.
        parent_id: 8 bytes, or None for a root.
        kind: one of KIND_NAMES.
        name: the method as called.
        start_ns: Unix time.
        duration_ns: by the monotonic clock; None while unfinished.
        self_ns: duration less the time in which at least one child ran.
        cpu_ns: CPU time of the span's thread, for server spans.
        status: OK, ERROR or UNFINISHED.
        attributes: str keys; str, bool, int, float, bytes, None, or lists of these.
        links: ``[trace_id, span_id]`` pairs.
        exception: see `ExceptionRecord`.
        details: what only OpenTelemetry has, by the keys of docs/reference/wire-format.md; None for what
            ztrace makes by itself.
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


class ExceptionRecord(NamedTuple):
    """An exception in a span, one of its causes, or a member of a group.

    Attributes:
        type: qualified class name, bare for builtins.
        message: ``str(exception)``, cut.
        frames: FrameRecords, outermost first. When PASSED only those of the way from this span to the next
            one below that it came through in this process: the last in-app one made the call.
        causes: ExceptionRecords.
        how: RAISED, PASSED, WRAPPED, REPLACED or GROUPED; for a cause WRAPPED (``__cause__``) or REPLACED
            (``__context__``), its link to the one above.
        origin_trace_id: 16 bytes; None for a cause, and for a member that was first raised here.
        origin_span_id: 8 bytes; None likewise.
        notes: what was added with ``add_note``, cut.
        members: of a group, its exceptions; one first raised in another span is PASSED and has no frames.
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
        file: the code's file name.
        line: counted from 1.
        function: qualified name.
        module: its ``__name__``.
        code: the source line, cut; empty if there is none.
        in_app: whether it is the user's own.
        repeats: how often it occurred again in a row, or the frames before it that make a cycle with it did.
        omitted: frames left out before this one.
        locals: names and values as text; None unless they were asked for.
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
