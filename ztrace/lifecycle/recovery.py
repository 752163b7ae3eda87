"""Starts and ends of spans that were interrupted, or failed: undone, or completed.

One idea: the exception may have come at any instruction, so each step here may have been taken already. That
a parent counts its child is the one step that cannot be looked up: `ztrace.spans` tells by the state at a
start, and by ``_above`` at an end. Here it is the last step, with no call after what precedes it, so that a
function that is interrupted itself can be called again.
"""

from collections.abc import Callable
from typing import Any

from ztrace.context import (
    ENDED_LOOPED,
    NEW,
    NEW_APART,
    RUNNING_LOOPED,
    LocalContext,
    Target,
    drop_over,
    get_current,
    make_current,
    outward,
)
from ztrace.interpreter.interrupts import cover

#: Interrupts of one call after which it is given up: signals that come faster leave no time for the program.
MOST_INTERRUPTS = 20


@cover
def insist(function: Callable[..., None], *arguments: Any, left: int = MOST_INTERRUPTS) -> None:
    """Call a function again as often as it is interrupted, until it has returned.

    Raises:
        BaseException: the last of the interrupts.
    """
    try:
        function(*arguments)
    except BaseException:
        if left:
            insist(function, *arguments, left=left - 1)
        raise


def withdraw(span: LocalContext, target: Target | None) -> None:
    """Undo what an interrupted start has done, as far as it came: the span is new again."""
    counted = not span.ended
    if get_current() is span:
        make_current(outward(span))
    if target is not None:
        target.register.pop(span, None)
    span._state = NEW_APART if span._state else NEW
    if counted and span._above is not None:
        span._above.open_children -= 1


def finish(span: LocalContext, state: int | None, target: Target) -> None:
    """Complete an end, of which the record is in the queue or cannot be made.

    Args:
        span: in the state of an ended one.
        state: that it ran in.
        target: the publisher that it started with.
    """
    if get_current() is span:
        make_current(span._above if state is None else span.apart.before)
    target.register.pop(span, None)
    target.watched.pop(id(span), None)
    if state is not None:
        leave(span, state)
    above, span._above = span._above, None
    if above is not None:
        above.open_children -= 1


def leave(span: LocalContext, state: int) -> None:
    """Release what an ended span referred to: a task that starts the next one would hold all of them."""
    if state == RUNNING_LOOPED:
        span._state = ENDED_LOOPED
        span.apart.generator, span.apart.before = None, drop_over(span.apart.before)
    else:
        span.apart.before = None
