"""Contexts: the parents of new spans, and the current one.

One idea: the ContextVar holds the span that was made current last, and `find_parent` decides whether it still
is: a span that a generator holds open is none of its reader's, and one whose start was interrupted never was.
Threads, asyncio tasks and gevent greenlets each have their own current span.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from contextvars import ContextVar, copy_context
from operator import methodcaller
from types import FrameType
from typing import Any, Final, Protocol

from ztrace import diagnostics
from ztrace.interpreter.generators import is_waiting
from ztrace.native import perf_counter_ns
from ztrace.records import Record

#: W3C flags and tracestate of a trace that begins here: sampled, with a random trace id, and no state.
NEW_TRACE: Final = (3, "")

#: State of most spans while they run: children of the previous current span, with no other parts.
RUNNING: Final = None
#: Other states. A span that runs APART has parts to look at, and a LOOPED one is in a generator that a loop
#: reads. A span whose start was interrupted is NEW again. From ENDED on, a state is the time of the monotonic
#: clock at which the span has ended.
NEW, RUNNING_APART, RUNNING_LOOPED, ENDED_LOOPED, NEW_APART, NEW_IN_GENERATOR, ENDED = range(7)
#: States of spans that run.
RUNS: Final = (RUNNING, RUNNING_APART, RUNNING_LOOPED)


class Context:
    """Parent of new spans: a span of this process, or an extracted one.

    Attributes:
        trace_id: 16 bytes; empty if the span does not record.
        span_id: 8 bytes; likewise.
        w3c: trace flags and tracestate, as received.
        ended: whether the span does not run: it has ended, or has not started.
    """

    __slots__ = (
        "_beside",
        "_state",
        "covered_ns",
        "mark_ns",
        "open_children",
        "span_id",
        "trace_id",
        "w3c",
    )

    trace_id: bytes
    span_id: bytes
    w3c: tuple[int, str]
    open_children: int
    covered_ns: int
    mark_ns: int
    _state: int | None
    #: Some of its children have run beside each other, so they are in lanes; see `ztrace.process.lanes`.
    _beside: bool

    @property
    def ended(self) -> bool:
        """Whether the span does not run."""
        return self._state not in RUNS

    def set(self, /, **attributes: Any) -> None:
        """Ignore attributes: only a span that is recorded here keeps any."""

    def _identify(self, trace_id: bytes, span_id: bytes, w3c: tuple[int, str]) -> None:
        """Set the identity of a span that is another's, and clear the rest."""
        self.trace_id = trace_id
        self.span_id = span_id
        self.w3c = w3c
        self._state = RUNNING
        self.open_children = self.covered_ns = self.mark_ns = 0
        self._beside = False

    def __repr__(self) -> str:
        try:
            return f"<{type(self).__name__} {self.trace_id.hex()} {self.span_id.hex()}>"
        except AttributeError:  # Never started.
            return f"<{type(self).__name__}>"


class SpanContext(Context):
    """A span of another process, as it came in a carrier."""

    __slots__ = ()

    def __init__(self, trace_id: bytes, span_id: bytes, w3c: tuple[int, str] = NEW_TRACE) -> None:
        self._identify(trace_id, span_id, w3c)


class Apart:
    """Parts of a span that only some spans have; a span that does is in one of the APART and LOOPED states.

    Attributes:
        parent: the parent that the span was given instead of the current one.
        links: the contexts that the span was given, as given.
        before: context that was current when the span started, and is again when it has ended.
        generator: frame of the loop's generator that the span is within, while it runs.
        cpu_ns: CPU time of the thread at the start, of a server span.
        replied_ns: when the reply was ready, by the monotonic clock; 0 before.
    """

    # Defaults of the class, and no __init__: each server span has an instance.
    parent: Context | None = None
    links: Sequence[Context] | None = None
    before: Context | None = None
    generator: FrameType | None = None
    cpu_ns: int | None = None
    replied_ns = 0


class LocalContext(Context):
    """A span of this process, between its start and its end."""

    __slots__ = ("__weakref__", "_above", "_apart")

    #: Parent of a running span, which counts the span among its open children.
    _above: Context | None
    #: Unset for most spans, for which it would cost too much.
    _apart: Apart

    @property
    def parent_id(self) -> bytes | None:
        """Id of the parent of a running span, None of a root."""
        above = self._above
        return None if above is None else above.span_id

    @property
    def apart(self) -> Apart:
        """The parts that only some spans have, made when first asked for."""
        apart: Apart | None = getattr(self, "_apart", None)
        if apart is None:
            self._apart = apart = Apart()
        return apart


class ForeignSpan(LocalContext):
    """A span of another tracer in this process, while that tracer has it current: `ztrace.otel` makes them.

    Attributes:
        source: the other tracer's span.
    """

    __slots__ = ("source",)

    source: object

    def __init__(self, trace_id: bytes, span_id: bytes, w3c: tuple[int, str] = NEW_TRACE) -> None:
        self._identify(trace_id, span_id, w3c)

    def set(self, /, **attributes: Any) -> None:
        """Add attributes to the other tracer's span, if it takes any."""
        try:
            set_attributes = getattr(self.source, "set_attributes", None)
            if set_attributes is not None:
                set_attributes(attributes)
        except Exception:
            diagnostics.contain("otel_context")

    def enter(self, source: object, above: Context | None) -> None:
        """Become current; as a child of ``above``, if that is given."""
        self.source = source
        self.apart.before = get_current()
        self._state = RUNNING_APART
        self._above = above
        now_ns = perf_counter_ns()
        if above is not None:
            if not above.open_children:
                above.mark_ns = now_ns
            above.open_children += 1
        make_current(self)

    def leave(self) -> None:
        """Stop being current, whichever spans have started or ended since."""
        if self.ended:
            return
        self._state = now_ns = perf_counter_ns()
        above, before, current = self._above, self.apart.before, get_current()
        self._above = self.apart.before = None
        if current is self:
            make_current(before)
        elif current is not before:
            take_out(self, before, current)
        if above is not None:
            above.open_children -= 1
            if not above.open_children:
                above.covered_ns += now_ns - above.mark_ns


class Register(Protocol):
    """The part of a dictionary that spans use to be known while they run."""

    def __setitem__(self, span: Any, value: None, /) -> None: ...

    def __delitem__(self, span: Any, /) -> None: ...

    def pop(self, span: Any, default: None, /) -> None:
        """Remove a span."""
        ...


class Target(Protocol):
    """The part of a publisher that spans use.

    Attributes:
        queue: records of ended spans, oldest first.
        room: records that the queue may hold before `overflow` has to be called.
        register: spans that have started and not ended, oldest first.
        watched: stand-ins of spans that have run for long and left the register, by ``id``.
        offset_ns: Unix time minus the monotonic clock.
        born_here: false in a forked child.
        succeed: function that returns the target of such a child, None if there is none.
    """

    queue: deque[Record]
    room: int
    register: Register
    offset_ns: int

    @property
    def watched(self) -> MutableMapping[int, Any]:
        """See above."""
        ...

    @property
    def born_here(self) -> object:
        """See above."""
        ...

    @property
    def succeed(self) -> "Callable[[], Target | None]":
        """See above."""
        ...

    def overflow(self, record: Record) -> None:
        """Accept or drop a record for which the queue has no room."""
        ...


_current: ContextVar[Context | None] = ContextVar("ztrace_current", default=None)
#: Return the context that was made current last in a copy of the contextvars context; None if none was.
current_in: Callable[[Any], Context | None] = methodcaller("get", _current)
#: Return the context that was made current last; it may have ended since.
get_current = _current.get
#: Make a context current; where HOLDS is true, only while a copy of the contextvars context is held.
put_current = _current.set

#: Up to Python 3.11 garbage may be collected within ``ContextVar.set``. A finalizer that sets a variable then
#: frees the mapping which the outer call is reading, unless a copy of the context keeps the mapping alive.
HOLDS: Final = sys.version_info < (3, 12)


def make_current(context: Context | None) -> None:
    """Set the parent of spans that start from now on in this thread, task or greenlet."""
    _held = copy_context() if HOLDS else None
    put_current(context)


def find_current() -> Context | None:
    """Return the context that spans started now are children of, None if they are roots."""
    return find_parent(get_current())


def find_parent(current: Context | None) -> Context | None:
    """Return the innermost context that the running code is within, from the current one outwards.

    Left out are spans of generators that have yielded to a reader's loop or are over, and spans whose start
    was interrupted.
    """
    while isinstance(current, LocalContext):
        state = current._state
        if state == RUNNING_LOOPED:
            generator = current.apart.generator
            if generator is None or not is_waiting(generator):
                break
        elif state is None or state == RUNNING_APART or state >= ENDED:
            break
        current = outward(current)
    return current


def drop_over(current: Context | None) -> Context | None:
    """Return the context to restore: the current one, unless it is over and never a parent again."""
    while isinstance(current, LocalContext) and is_over(current._state):
        current = outward(current)
    return current


def is_over(state: int | None) -> bool:
    """Return whether a span is never a parent again: it has not started, or was in a loop's generator."""
    return state is not None and (state == NEW or ENDED_LOOPED <= state < ENDED)


def outward(span: LocalContext) -> Context | None:
    """Return the context that was current when a span started; None once the span has ended as most do."""
    state = span._state
    if state is None or state == NEW:
        return span._above
    return None if state >= ENDED else span.apart.before


def take_out(ended: Context | None, before: Context | None, current: Context | None) -> None:
    """Unlink an ended span from the spans inside it, which would otherwise make it current again."""
    while isinstance(current, LocalContext):
        if outward(current) is ended:
            current.apart.before = before
            if current._state is RUNNING:
                current._state = RUNNING_APART
            return
        current = outward(current)


def link_ids(links: Iterable[object]) -> list[list[bytes]]:
    """Return the ids of linked contexts; those that are not recorded, and other objects, are left out."""
    return [
        [link.trace_id, link.span_id]  # type: ignore[attr-defined]
        for link in links
        if issubclass(type(link), Context) and getattr(link, "trace_id", None)
    ]
