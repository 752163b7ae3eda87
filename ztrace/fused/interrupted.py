"""Starts and ends of spans of calls that were interrupted, or failed: undone, or completed."""

from ztrace import diagnostics
from ztrace.context import NEW, Target
from ztrace.interpreter.interrupts import is_interrupt, is_traced
from ztrace.lifecycle import recovery
from ztrace.records import Record
from ztrace.spans import Span


def undo_start(span: Span, raised: BaseException) -> None:
    """Undo a start that an exception has interrupted, as far as it came.

    Raises:
        BaseException: the exception, if it is the program's.
    """
    recovery.insist(_withdraw, span)
    if is_interrupt(raised):
        raise raised
    diagnostics.count_failure("span_start")


def _withdraw(span: Span) -> None:
    if not hasattr(span, "_state"):
        span._state = NEW
    recovery.withdraw(span, getattr(span, "_publisher", None))


def has_started(span: Span) -> bool:
    """Return whether a span runs; its start may have been interrupted before the first statement."""
    return hasattr(span, "_state") and not span.ended


def fail(span: Span | None, exception: BaseException | None) -> None:
    """End a span that an exception leaves, in whatever state the exception has found the span."""
    if span is not None and has_started(span):
        span.__exit__(None, exception)


def has_queued(raised: BaseException, target: Target, record: Record) -> bool:
    """Return whether a record was queued by a call during or after which an exception came.

    The publisher may have taken the record already. But a trace function alone can raise before the call.
    """
    return not is_traced(raised) or record in target.queue


def redo_end(span: Span, raised: BaseException, begun_ns: int, queued: bool) -> None:
    """Complete an end that an exception has interrupted.

    Args:
        span: of the call.
        raised: the exception.
        begun_ns: time at which the end began; 0 if it did not.
        queued: whether the publisher has the record.

    Raises:
        BaseException: the exception, if it is the program's.
    """
    interrupted = is_interrupt(raised)
    if queued or (begun_ns and not interrupted):
        recovery.insist(recovery.finish, span, None, span._publisher)
    else:
        if begun_ns and span._state == begun_ns:
            span._state = None
        recovery.insist(span.__exit__)
    if interrupted:
        raise raised
    diagnostics.count_failure("span_end")
