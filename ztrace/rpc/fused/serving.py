"""Spans of served calls, each current in the context of its call, in which no other one is."""

# An interrupt may come before any assignment, so handlers expect unbound names.
# pyright: reportPossiblyUnboundVariable=false
from contextvars import copy_context
from types import TracebackType

from ztrace import spans
from ztrace.context import HOLDS, NEW, RUNNING_APART, SpanContext, put_current
from ztrace.identifiers import draw_span_ids, take_span_id
from ztrace.interpreter.interrupts import cover
from ztrace.native import perf_counter_ns
from ztrace.process.lanes import number_lane
from ztrace.records import OK
from ztrace.rpc.fused.interrupted import ATTRIBUTES, Traced, has_queued, redo_end, undo_start
from ztrace.spans import SERVER, Span


class ServedSpan(Span):
    """Span of a served call, whose parent is in another process and has an id alone.

    Attributes:
        replied_ns: when the answer was ready, by the monotonic clock; 0 before.
    """

    __slots__ = ("_parent_id", "replied_ns")

    _parent_id: bytes
    replied_ns: int

    @property
    def parent_id(self) -> bytes | None:
        """Id of the caller's span."""
        return self._parent_id

    def reply(self) -> int:
        """Mark the moment of the answer; return the duration up to it, in ns."""
        self.replied_ns = replied_ns = perf_counter_ns()
        return replied_ns - self.start_ns

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exception: BaseException | None = None,
        traceback: TracebackType | None = None,
        again: int = 0,
    ) -> None:
        if self._above is None and not self.ended:
            above = SpanContext(self.trace_id, self._parent_id, self.w3c)
            above.open_children = 1
            self.apart.replied_ns = self.replied_ns
            self._above = above
            if self._state is None:
                self._state = RUNNING_APART
        Span.__exit__(self, exc_type, exception, traceback, again)


@cover
def start_served(call: Traced, trace_id: bytes, span_id: bytes, w3c: tuple[int, str]) -> bool:
    """Start the span of a served coroutine, in the context of its own, in which no span is current.

    Args:
        call: that is served.
        trace_id: of the caller's span.
        span_id: of the caller's span.
        w3c: flags and state of the trace.

    Returns:
        False if the span needs the general method.
    """
    try:
        target = spans.publisher
        if target is None or not target.born_here:
            return False
        span = ServedSpan()
        span.name = call.name
        span.kind = SERVER
        span.attributes = span._given = ATTRIBUTES
        try:
            span.span_id = take_span_id()
        except IndexError:
            span.span_id = draw_span_ids()
        span.trace_id = trace_id
        span._parent_id = span_id
        span.w3c = w3c
        span._above = None
        span.covered_ns = span.open_children = span.replied_ns = 0
        span._beside = False
        span._publisher = target
        span._owner = spans.find_owner()
        span._state = NEW
        span.start_ns = perf_counter_ns()
        call.span = span
        if HOLDS:
            _held = copy_context()
        put_current(span)
        target.register[span] = None
        span._state = None
    except BaseException as raised:
        undo_start(call, raised)
    return True


@cover
def end_served(span: ServedSpan) -> None:
    """End the span of a served call that was answered.

    The span stays current in the context of the call, which ends as well.
    """
    try:
        if span._state is not None:
            span.__exit__()
            return
        end_ns = span.replied_ns
        span._state = end_ns
        duration_ns = self_ns = end_ns - span.start_ns
        if span.open_children and span.mark_ns < end_ns:
            self_ns -= end_ns - span.mark_ns
        if span.covered_ns:
            self_ns -= span.covered_ns
            if self_ns < 0:
                self_ns = 0
        target = span._publisher
        if target is spans.publisher:
            record = (
                span.trace_id,
                span.span_id,
                span._parent_id,
                SERVER,
                span.name,
                span.start_ns + target.offset_ns,
                duration_ns,
                self_ns,
                None,
                OK,
                span.attributes,
                None,
                None,
                None,
                number_lane() if span._beside else None,
            )
            queue = target.queue
            if len(queue) < target.room:
                appending = True
                queue.append(record)
            else:
                handed = True
                target.overflow(record)
        try:
            del target.register[span]
        except KeyError:
            target.watched.pop(id(span), None)
    except BaseException as raised:
        try:
            begun = end_ns
        except UnboundLocalError:
            begun = 0
        try:
            queued = handed
        except UnboundLocalError:
            try:
                queued = appending and has_queued(raised, target, record)
            except UnboundLocalError:
                queued = False
        redo_end(span, raised, begun, queued)
