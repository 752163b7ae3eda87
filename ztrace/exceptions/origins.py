"""Origins of exceptions: marks, causes, and exceptions that were stored and raised again.

One idea: the mark of an exception holds the spans that it has passed, and its traceback shows the events
since. Together they distinguish an exception on its way from one that was stored and raised again.

None of the program's code runs here: attributes are read with the descriptors of BaseException, whatever a
class has in their place.
"""

from types import FrameType, TracebackType

from ztrace.context import Context
from ztrace.exceptions import marks
from ztrace.exceptions.frames import is_own
from ztrace.exceptions.marks import Mark, recall, remember
from ztrace.exceptions.tracebacks import Heads, is_known, is_raise
from ztrace.records import GROUPED, REPLACED, WRAPPED

#: Exceptions examined or recorded together with one: chains may be endless, and nested groups multiply.
MAX_LINKS = 64
#: Spans kept in a mark: an exception that passes spans without end must not make it grow.
MAX_VIA = 10_000

members_of = BaseExceptionGroup.__dict__["exceptions"].__get__
_explicit_cause_of = BaseException.__dict__["__cause__"].__get__
_context_of = BaseException.__dict__["__context__"].__get__
_suppresses_context = BaseException.__dict__["__suppress_context__"].__get__


def mark_origin(
    exception: BaseException, trace_id: bytes, span_id: bytes, span: Context | None = None
) -> None:
    """Mark an exception with the span in which it was first raised.

    Args:
        exception: raised here for an exception of another process.
        trace_id: of the origin.
        span_id: of the origin.
        span: of the call that has received it.
    """
    remember(exception).put_mark(Mark(trace_id, span_id, find_ancestors(span), {}))


def origin_of(exception: BaseException) -> tuple[bytes, bytes] | None:
    """Return the trace id and span id of an exception's origin, None before it has left a span."""
    mark = mark_of(exception)
    return None if mark is None else (mark.trace_id, mark.span_id)


def mark_of(exception: BaseException) -> Mark | None:
    """Return the mark of an exception that has left a span."""
    entry = recall(exception)
    return None if entry is None else entry.mark


def find_passed(span_id: bytes) -> tuple[bytes, bytes] | None:
    """Return the origin of the latest exception known to come up through a span, None if there is none."""
    for entry in reversed(list(marks.recent.values())):
        mark = entry.mark
        if mark is not None and span_id in mark.via:
            return mark.trace_id, mark.span_id
    return None


def find_ancestors(*spans: Context | None) -> set[bytes]:
    """Return the ids of spans and of all spans around them in this process that have not ended."""
    found: set[bytes] = set()
    left = list(spans)
    while left:
        span = left.pop()
        if span is not None and span.span_id not in found:
            found.add(span.span_id)
            # A given parent may differ from the span that was current: an exception goes up through both.
            left += (getattr(span, "_above", None), getattr(span, "_before", None))
    return found


def find_new_raise(traceback: TracebackType | None, heads: Heads) -> TracebackType | None:
    """Return the step of a ``raise`` statement that raised a stored exception again in a span.

    This concerns an exception that has left another span before, one outside the present span. Awaiting a
    failed task, or asking a future for its result, raises the exception here as well, and is no new failure;
    neither is a statement that raises again the exception caught in the same place.

    Args:
        traceback: its head, in the span's own frame.
        heads: steps at which the traceback began when the exception left other spans.
    """
    if traceback is None:
        return None
    start = traceback.tb_frame
    if is_known(traceback, heads):
        if is_own(start) and _is_before(traceback, start):
            return None  # Nothing was added: a bare ``raise``.
        # The span began after the known frame had ended, so the exception cannot have passed both: its old
        # traceback was removed, and a new one has the same address.
        heads.clear()
    own: set[int] = set()
    step: TracebackType | None = traceback
    while step is not None and not is_known(step, heads):
        own.add(id(step.tb_frame))
        inner = step.tb_next
        if is_raise(step):
            if not is_own(step.tb_frame):
                return None  # A library passes on the failure of another thread or task.
            if inner is None:
                return step
            # A ``raise`` statement calls nothing: the step below was there before.
            if inner.tb_frame is start:
                if _is_before(inner, start) or is_known(inner, heads):
                    return step
            elif id(inner.tb_frame) not in own:
                return step
        step = inner
    return None


def _is_before(step: TracebackType, frame: FrameType) -> bool:
    """Return whether a step precedes the ending span, whose frame is at the line of ``with``."""
    return (step.tb_lineno or 0) < (frame.f_lineno or 0)


def come_from(
    exception: BaseException, trace_id: bytes, seen: set[int] | None = None
) -> tuple[str, tuple[bytes, bytes]] | None:
    """Find a cause or member that another span of the trace has recorded; return the relation and its origin.

    A mark of another trace belongs to an exception that was stored and raised again, which is a new origin.
    """
    seen = seen if seen is not None else set()
    seen.add(id(exception))
    for how, link in _links(exception):
        if id(link) in seen or len(seen) >= MAX_LINKS:
            continue
        mark = mark_of(link)
        if mark is not None and mark.trace_id == trace_id:
            return how, (mark.trace_id, mark.span_id)
        further = come_from(link, trace_id, seen)
        if further is not None:
            return how, further[1]
    return None


def _links(exception: BaseException) -> list[tuple[str, BaseException]]:
    """Return an exception's causes and members with their relations, the most telling first."""
    how, cause = cause_of(exception)
    links = [] if cause is None else [(how, cause)]
    if issubclass(type(exception), BaseExceptionGroup):
        members = [(GROUPED, member) for member in members_of(exception)[:MAX_LINKS]]
        links = [*links, *members] if how == WRAPPED else [*members, *links]
    return links


def cause_of(exception: BaseException) -> tuple[str, BaseException | None]:
    """Return the cause or context that a traceback shows for an exception, and the relation."""
    cause = _explicit_cause_of(exception)
    if cause is not None:
        return WRAPPED, cause
    return REPLACED, None if _suppresses_context(exception) else _context_of(exception)
