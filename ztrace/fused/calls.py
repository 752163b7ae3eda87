"""Spans of calls at the client, which are never current."""

# An interrupt may come before any assignment, so handlers expect unbound names.
# pyright: reportPossiblyUnboundVariable=false
from typing import Any, Final

from ztrace import spans
from ztrace.context import NEW, NEW_TRACE, RUNNING_APART, get_current
from ztrace.fused.interrupted import has_queued, redo_end, undo_start
from ztrace.identifiers import draw_span_ids, new_trace_id, take_span_id
from ztrace.interpreter.interrupts import cover
from ztrace.native import perf_counter_ns
from ztrace.process.lanes import number_lane
from ztrace.records import OK
from ztrace.spans import CLIENT, Span

#: Byte of each value of the flags, as in the context that goes to the server.
FLAGS: Final = [bytes((flags,)) for flags in range(256)]
_NEW_FLAGS: Final = FLAGS[NEW_TRACE[0]]


@cover
def start_call(span: Span, name: str, attributes: dict[str, Any]) -> bytes | None:
    """Start the span of a call, as a child of what is current, which stays current.

    Args:
        span: new, and nothing else.
        name: of the method.
        attributes: of the span, and of others as well; a span that gets more of them copies these.

    Returns:
        The context of the span in the form of `ztrace.middleware.carriers`; None if it is not recorded.
    """
    try:
        span.name = name
        span.kind = CLIENT
        span.attributes = span._given = attributes
        span._state = NEW
        target = spans.publisher
        parent = get_current()
        if (
            target is None
            or not target.born_here
            or (parent is not None and parent._state not in (None, RUNNING_APART))
        ):
            return _start_other(span)
        try:
            span.span_id = span_id = take_span_id()
        except IndexError:
            span.span_id = span_id = draw_span_ids()
        span.start_ns = now_ns = perf_counter_ns()
        if parent is None:
            trace_id = new_trace_id(now_ns + target.offset_ns)
            w3c = NEW_TRACE
            context = trace_id + span_id + _NEW_FLAGS
        else:
            trace_id = parent.trace_id
            w3c = parent.w3c
            context = trace_id + span_id + FLAGS[w3c[0] & 255]
            if w3c[1]:
                context = add_state(context, w3c[1])
        span.trace_id = trace_id
        span.w3c = w3c
        span._above = parent
        span.covered_ns = span.open_children = 0
        span._beside = False
        span._publisher = target
        span._owner = None
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
        undo_start(span, raised)
        return None


def _start_other(span: Span) -> bytes | None:
    """Start the span of a call by the general method, and return its context as `start_call` does."""
    if not span.start(False).trace_id:
        return None
    flags, state = span.w3c
    return add_state(span.trace_id + span.span_id + FLAGS[flags & 255], state)


def add_state(context: bytes, state: str) -> bytes:
    """Return a context with the tracestate behind it."""
    return context + state.encode("ascii", "replace")


@cover
def end_call(span: Span) -> None:
    """End the span of a call that was answered; ``span.covered_ns`` is the time that the callee has taken."""
    try:
        if span._state is not None:
            span.__exit__()
            return
        end_ns = perf_counter_ns()
        span._state = end_ns
        above = span._above
        duration_ns = end_ns - span.start_ns
        self_ns = duration_ns - span.covered_ns
        if self_ns < 0:
            self_ns = 0
        target = span._publisher
        if target is spans.publisher:
            record = (
                span.trace_id,
                span.span_id,
                None if above is None else above.span_id,
                span.kind,
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
