"""Parts of spans beside name and attributes: a parent, links, a generator, and what follows from them."""

from collections.abc import Sequence
from types import FrameType

from ztrace.context import (
    ENDED,
    NEW,
    NEW_APART,
    NEW_IN_GENERATOR,
    RUNNING_APART,
    RUNNING_LOOPED,
    Context,
    LocalContext,
    drop_over,
    find_parent,
)
from ztrace.interpreter.generators import GENERATOR_FLAGS, find_generator

#: Time after its end for which a span is still the parent in threads, tasks and greenlets that were started
#: within it. A later span, as of a pool or a loop that keeps running, is the root of another trace, with a
#: link.
INHERITED_NS = 60_000_000_000


def set_parts(
    span: LocalContext, is_server: bool, parent: Context | None, links: Sequence[Context] | None
) -> None:
    """Set the state of a new span, and the parts that it has."""
    span._state = NEW
    if is_server or parent is not None or links is not None:
        span._state, apart = NEW_APART, span.apart
        apart.parent, apart.links = parent, links


def prepare(span: LocalContext, caller: FrameType | None) -> int:
    """Return the state in which to run a span that has parts, or has run before.

    Args:
        span: not running.
        caller: frame that starts the span, None if the span does not become current.
    """
    apart, made_in_generator = span.apart, span._state == NEW_IN_GENERATOR
    apart.generator, apart.replied_ns = None, 0
    span._state = NEW_APART
    if caller is not None and (made_in_generator or caller.f_code.co_flags & GENERATOR_FLAGS):
        apart.generator = find_generator(caller)
    return RUNNING_APART if apart.generator is None else RUNNING_LOOPED


def choose_parent(
    span: LocalContext, state: int | None, current: Context | None, now_ns: int
) -> tuple[int | None, Context | None]:
    """Choose the parent of a span that starts, and remember what is current again after the span.

    Args:
        span: that starts.
        state: in which it is to run, if that is known.
        current: what is current.
        now_ns: the start, by the monotonic clock.

    Returns:
        The state in which to run, and the parent.
    """
    parent, before = find_parent(current), drop_over(current)
    given = span.apart.parent if state else None
    link = None
    if given is not None and getattr(given, "trace_id", None):
        parent = given
    elif parent is not None and ENDED <= (parent._state or 0) < now_ns - INHERITED_NS:
        link, parent = parent, None
    if state or parent is not before:
        span._state, state, apart = NEW_APART, state or RUNNING_APART, span.apart
        apart.before = before
        links = apart.links or ()
        if link is not None and link not in links:
            apart.links = (*links, link)
    return state, parent
