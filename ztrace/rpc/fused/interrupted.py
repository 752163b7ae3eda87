"""Starts and ends of spans of calls that were interrupted, or failed: undone, or completed."""

from typing import Any, Final, Protocol

from ztrace import diagnostics
from ztrace.context import Target
from ztrace.interpreter.interrupts import is_interrupt, is_traced
from ztrace.lifecycle import recovery
from ztrace.records import Record
from ztrace.spans import Span

#: Attributes of every span here, shared by all: a span that gets others copies them.
ATTRIBUTES: Final[dict[str, Any]] = {"rpc.system.name": "ztrace"}


class Traced(Protocol):
    """Call at one end, which has a span while it is traced.

    Attributes:
        name: of the method.
        span: of the call; None before its start, and if the start has failed.
    """

    name: str
    span: Any


def undo_start(call: Traced, raised: BaseException) -> None:
    """Undo a start that an exception has interrupted, as far as it came.

    Raises:
        BaseException: the exception, if it is the program's.
    """
    span, call.span = call.span, None
    if span is not None:
        recovery.insist(recovery.withdraw, span, getattr(span, "_publisher", None))
    if is_interrupt(raised):
        raise raised
    diagnostics.count_failure("span_start")


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
