"""Spans of served calls, each current until it ends, whose parents are in other processes."""

# An interrupt may come before any assignment, so handlers expect unbound names.
# pyright: reportPossiblyUnboundVariable=false
from contextvars import copy_context
from types import TracebackType
from typing import Any

from ztrace import spans
from ztrace.context import (
    HOLDS,
    NEW,
    NEW_APART,
    RUNNING_APART,
    Apart,
    SpanContext,
    get_current,
    put_current,
    take_out,
)
from ztrace.fused.interrupted import has_queued, redo_end, undo_start
from ztrace.identifiers import draw_span_ids, take_span_id
from ztrace.interpreter.interrupts import cover
from ztrace.native import perf_counter_ns, thread_time_ns
from ztrace.process.lanes import number_lane
from ztrace.propagation import Caller
from ztrace.records import OK
from ztrace.spans import SERVER, Span


class ServedSpan(Span):
    """Span of a served call. In the state RUNNING its parent is in another process, and has an id alone.

    Attributes:
        cpu_ns: CPU time of the thread at the start; None if it is not measured.
        replied_ns: when the answer was ready, by the monotonic clock; 0 before.
    """

    __slots__ = ("_parent_id", "cpu_ns", "replied_ns")

    _parent_id: bytes
    cpu_ns: int | None
    replied_ns: int

    @property
    def parent_id(self) -> bytes | None:
        """Id of the parent of a running span, None of a root."""
        return self._parent_id if self._state is None else Span.parent_id.__get__(self)

    @property
    def apart(self) -> Apart:
        """Parts of the span, which has them from now on, so that the general methods apply."""
        apart: Apart | None = getattr(self, "_apart", None)
        if apart is None:
            apart = Apart()
            apart.cpu_ns, apart.replied_ns = self.cpu_ns, self.replied_ns
            self._apart = apart
        if self._state is None:
            above = SpanContext(self.trace_id, self._parent_id, self.w3c)
            above.open_children = 1
            self._above = above
            self._state = RUNNING_APART
        return apart

    def reply(self) -> int:
        """Mark the moment of the answer, the first time; return the duration up to that moment, in ns."""
        if self._state is None:
            replied_ns = self.replied_ns
            if not replied_ns:
                self.replied_ns = replied_ns = perf_counter_ns()
            return replied_ns - self.start_ns
        return Span.reply(self)

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exception: BaseException | None = None,
        traceback: TracebackType | None = None,
        again: int = 0,
    ) -> None:
        if self._state is None:
            self.apart  # noqa: B018
        Span.__exit__(self, exc_type, exception, traceback, again)


@cover
def start_served(
    span: ServedSpan, name: str, attributes: dict[str, Any], caller: Caller | None, cpu_ns: int | None
) -> None:
    """Start the span of a served call, which becomes current.

    Args:
        span: new, and nothing else.
        name: of the method.
        attributes: of the span, and of others as well; a span that gets more of them copies these.
        caller: the caller's span; None if the caller is not traced.
        cpu_ns: CPU time of the thread; None if the thread runs other code as well.
    """
    try:
        span.name = name
        span.kind = SERVER
        span.attributes = span._given = attributes
        span._state = NEW
        span.cpu_ns = cpu_ns
        span.replied_ns = 0
        target = spans.publisher
        if caller is None or target is None or not target.born_here or get_current() is not None:
            _start_other(span, caller)
            return
        span.trace_id, span._parent_id, span.w3c = caller
        try:
            span.span_id = take_span_id()
        except IndexError:
            span.span_id = draw_span_ids()
        span._above = None
        span.covered_ns = span.open_children = 0
        span._beside = False
        span._publisher = target
        span._owner = spans.find_owner()
        span.start_ns = perf_counter_ns()
        if HOLDS:
            _held = copy_context()
        put_current(span)
        # From here on no call, so that no other thread and no signal handler comes in between.
        target.register[span] = None
        span._state = None
    except BaseException as raised:
        undo_start(span, raised)


def _start_other(span: ServedSpan, caller: Caller | None) -> None:
    """Start the span of a served call by the general method."""
    span._apart = apart = Apart()
    if caller is not None:
        apart.parent = SpanContext(*caller)
    span._state = NEW_APART
    span.start()


@cover
def end_served(span: ServedSpan, restore: bool = True) -> None:
    """End the span of a served call that was answered, at the moment of its answer if that is marked.

    Args:
        span: of the call.
        restore: nothing is current afterwards. Otherwise the context of the call ends as well, with the span.
    """
    try:
        if span._state is not None:
            span.__exit__()
            return
        end_ns = span.replied_ns or perf_counter_ns()
        span._state = end_ns
        cpu_ns = span.cpu_ns
        if cpu_ns is not None:
            cpu_ns = thread_time_ns() - cpu_ns
            if cpu_ns < 0:
                cpu_ns = None  # Another thread's clock: the span has ended there.
        if restore:
            current = get_current()
            if current is span:
                if HOLDS:
                    _held = copy_context()
                put_current(None)
            elif current is not None:
                take_out(span, None, current)
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
                cpu_ns,
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
