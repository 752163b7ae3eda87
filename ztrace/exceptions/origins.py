"""Where an exception began: the mark that it carries, and what it was raised from.

One idea: what an exception has passed is written on the object, and what has happened to it since is in its
traceback. Together they tell an exception on its way from one that was kept and raised again.

Nothing of the program's runs here: attributes are read with the descriptors of BaseException, whatever a
class has in their place.
"""

from types import FrameType, TracebackType

from ztrace.context import Context
from ztrace.exceptions.frames import is_own
from ztrace.exceptions.marks import Mark, recall, remember
from ztrace.exceptions.tracebacks import Heads, is_known, is_raise
from ztrace.records import GROUPED, REPLACED, WRAPPED

#: Exceptions looked at, or recorded, with one: chains may be endless, and groups of groups multiply.
MAX_LINKS = 64
#: Spans that a mark names. A trace may be deeper; one that goes on for ever must not make it grow.
MAX_VIA = 10_000

members_of = BaseExceptionGroup.__dict__["exceptions"].__get__
_explicit_cause_of = BaseException.__dict__["__cause__"].__get__
_context_of = BaseException.__dict__["__context__"].__get__
_suppresses_context = BaseException.__dict__["__suppress_context__"].__get__


def mark_origin(
    exception: BaseException, trace_id: bytes, span_id: bytes, span: Context | None = None
) -> None:
    """Remember on the exception in which span it was first raised.

    Args:
        exception: raised here for one that was raised in another process.
        trace_id: of its origin.
        span_id: likewise.
        span: the call that brought it.
    """
    remember(exception).put_mark(Mark(trace_id, span_id, find_ancestors(span), {}))


def origin_of(exception: BaseException) -> tuple[bytes, bytes] | None:
    """Return the (trace id, span id) in which the exception was first raised, if a span saw it."""
    mark = mark_of(exception)
    return None if mark is None else (mark.trace_id, mark.span_id)


def mark_of(exception: BaseException) -> Mark | None:
    """Return the mark of an exception that has left a span."""
    entry = recall(exception)
    return None if entry is None else entry.mark


def find_ancestors(*spans: Context | None) -> set[bytes]:
    """Return the ids of spans and of those around them, in this process, that have not ended."""
    found: set[bytes] = set()
    left = list(spans)
    while left:
        span = left.pop()
        if span is not None and span.span_id not in found:
            found.add(span.span_id)
            # A parent that was given may not be what was current: an exception goes up through both.
            left += (getattr(span, "_above", None), getattr(span, "_before", None))
    return found


def find_new_raise(traceback: TracebackType | None, heads: Heads) -> TracebackType | None:
    """Return the step of a ``raise`` statement that took an exception out of a variable, in a span.

    It is asked of an exception that left another span before, one that is not inside this. Awaiting a task
    that has failed, or asking a future for its result, brings it here as well, and is no new failure. A
    statement that raises again what was caught in the same place isn't, either.

    Args:
        traceback: begins in the span's own frame.
        heads: where it began when the exception left other spans.
    """
    if traceback is None:
        return None
    start = traceback.tb_frame
    if is_known(traceback, heads):
        if is_own(start) and _is_before(traceback, start):
            return None  # Nothing was added: a bare ``raise``.
        # The span began after what was known had ended, so it cannot have passed its frame: the traceback was
        # removed from the exception, and its address is that of a new one.
        heads.clear()
    own: set[int] = set()
    step: TracebackType | None = traceback
    while step is not None and not is_known(step, heads):
        own.add(id(step.tb_frame))
        inner = step.tb_next
        if is_raise(step):
            if not is_own(step.tb_frame):
                return None  # A library hands on what another thread or task has failed with.
            if inner is None:
                return step
            # A raise statement calls nothing: the step below it is one of before.
            if inner.tb_frame is start:
                if _is_before(inner, start) or is_known(inner, heads):
                    return step
            elif id(inner.tb_frame) not in own:
                return step
        step = inner
    return None


def _is_before(step: TracebackType, frame: FrameType) -> bool:
    """Tell whether a step is before a span that is ending: its frame is then at the line of ``with``."""
    return (step.tb_lineno or 0) < (frame.f_lineno or 0)


def come_from(
    exception: BaseException, trace_id: bytes, seen: set[int] | None = None
) -> tuple[str, tuple[bytes, bytes]] | None:
    """Find what an exception was raised from that another span of the trace has seen: how, and its origin.

    A mark of another trace is an exception object kept and raised again: that is a new origin.
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
    """Return what an exception was raised from, holds, or was raised over: what says most of it first."""
    how, cause = cause_of(exception)
    links = [] if cause is None else [(how, cause)]
    if issubclass(type(exception), BaseExceptionGroup):
        members = [(GROUPED, member) for member in members_of(exception)[:MAX_LINKS]]
        links = [*links, *members] if how == WRAPPED else [*members, *links]
    return links


def cause_of(exception: BaseException) -> tuple[str, BaseException | None]:
    """Return what an exception was raised from, and how, as a traceback shows it."""
    cause = _explicit_cause_of(exception)
    if cause is not None:
        return WRAPPED, cause
    return REPLACED, None if _suppresses_context(exception) else _context_of(exception)
