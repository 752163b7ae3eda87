"""Spans of calls at the client, which are never current."""

# An interrupt may come before any assignment, so handlers expect unbound names.
# pyright: reportPossiblyUnboundVariable=false
from types import TracebackType
from typing import Any, Final

from ztrace import spans
from ztrace.context import NEW, NEW_TRACE, RUNNING_APART, get_current
from ztrace.identifiers import draw_span_ids, new_trace_id, take_span_id
from ztrace.interpreter.interrupts import cover
from ztrace.native import perf_counter_ns
from ztrace.process.lanes import number_lane
from ztrace.records import OK
from ztrace.rpc.fused.interrupted import ATTRIBUTES, Traced, has_queued, redo_end, undo_start
from ztrace.spans import CLIENT, Span

#: Byte of each value of the flags, as in the context that goes to the server.
_FLAGS: Final = [bytes((flags,)) for flags in range(256)]


class CallSpan(Span):
    """Span of a call, which the program never sees, and which nothing is within.

    The fields that only the general methods need are set by `complete`, before these are used.
    """

    __slots__ = ()

    def complete(self) -> None:
        """Set the fields that the general methods need."""
        if not hasattr(self, "covered_ns"):
            self._beside = False
            self.open_children = self.covered_ns = 0

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exception: BaseException | None = None,
        traceback: TracebackType | None = None,
        again: int = 0,
    ) -> None:
        self.complete()
        Span.__exit__(self, exc_type, exception, traceback, again)


@cover
def start_call(call: Traced) -> tuple[bytes, str] | None:
    """Start the span of a call, as a child of what is current, which stays current.

    Returns:
        Ids and flags of the span in 25 bytes, and the W3C state; None if the span is not recorded.
    """
    try:
        target = spans.publisher
        parent = get_current()
        if (
            target is None
            or not target.born_here
            or (parent is not None and parent._state not in (None, RUNNING_APART))
        ):
            return _start_other(call)
        span = CallSpan()
        span.name = call.name
        span.kind = CLIENT
        span.attributes = span._given = ATTRIBUTES
        try:
            span.span_id = span_id = take_span_id()
        except IndexError:
            span.span_id = span_id = draw_span_ids()
        span.start_ns = now_ns = perf_counter_ns()
        if parent is None:
            trace_id = new_trace_id(now_ns + target.offset_ns)
            w3c = NEW_TRACE
        else:
            trace_id = parent.trace_id
            w3c = parent.w3c
        span.trace_id = trace_id
        span.w3c = w3c
        span._above = parent
        span._publisher = target
        span._owner = None
        span._state = NEW
        context = trace_id + span_id + _FLAGS[w3c[0] & 255], w3c[1]
        call.span = span
        target.register[span] = None
        # From here on no call, so that no other thread and no signal handler comes in between.
        if parent is None:
            span._state = None
        else:
            siblings = parent.open_children
            if not siblings:
                parent.mark_ns = now_ns
            else:
                parent._beside = True
            try:
                span._state = None
                parent.open_children = siblings + 1
            except BaseException:
                span._state = NEW  # The parent does not count it yet.
                raise
        return context
    except BaseException as raised:
        undo_start(call, raised)
        return None


def _start_other(call: Traced) -> tuple[bytes, str] | None:
    """Start the span of a call by the general method, and return its context as `start_call` does."""
    span = Span()
    span._state = NEW
    span.name = call.name
    span.kind = CLIENT
    span.attributes = span._given = ATTRIBUTES
    call.span = span
    if not span.start(False).trace_id:
        return None
    flags, state = span.w3c
    return span.trace_id + span.span_id + _FLAGS[flags & 255], state


@cover
def end_call(span: CallSpan, attributes: dict[str, Any], covered_ns: int) -> None:
    """End the span of a call that was answered.

    Args:
        span: of the call.
        attributes: in place of those that it has.
        covered_ns: time in which the callee was at work.
    """
    try:
        end_ns = perf_counter_ns()
        span._state = end_ns
        above = span._above
        duration_ns = end_ns - span.start_ns
        self_ns = duration_ns - covered_ns
        if self_ns < 0:
            self_ns = 0
        target = span._publisher
        if target is spans.publisher:
            record = (
                span.trace_id,
                span.span_id,
                None if above is None else above.span_id,
                CLIENT,
                span.name,
                span.start_ns + target.offset_ns,
                duration_ns,
                self_ns,
                None,
                OK,
                attributes,
                None,
                None,
                None,
                None if above is None or not above._beside else number_lane(),
            )
            queue = target.queue
            if len(queue) < target.room:
                appending = True
                queue.append(record)
            else:
                handed = True
                target.overflow(record)
        # From here on no call, as at the end of `start_call`.
        try:
            del target.register[span]
        except KeyError:
            target.watched.pop(id(span), None)
        if above is not None:
            siblings = above.open_children - 1
            try:
                span._above = None
                if not siblings:
                    above.covered_ns += end_ns - above.mark_ns
                above.open_children = siblings
            except BaseException:
                span._above = None
                above.open_children -= 1
                raise
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
