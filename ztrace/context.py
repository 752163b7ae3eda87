"""Contexts: what a child needs of its parent, and which one is current.

The current context lives in a ContextVar, so threads, asyncio tasks and gevent greenlets each have their own.
"""

from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, Protocol

from ztrace.native import perf_counter_ns
from ztrace.records import Record

#: W3C flags and tracestate of a trace that begins here: sampled, with a random trace id, and no state.
NEW_TRACE: Final = (3, "")


class Context:
    """What a child needs of its parent: a span of this process, or one that was extracted.

    Attributes:
        trace_id: 16 bytes.
        span_id: 8 bytes.
        w3c: trace flags and tracestate, as received.
        ended: a span that does not run, or no longer, is not made current.
    """

    __slots__ = (
        "covered_ns",
        "ended",
        "mark_ns",
        "open_children",
        "span_id",
        "trace_id",
        "w3c",
    )

    trace_id: bytes
    span_id: bytes
    w3c: tuple[int, str]
    ended: bool
    open_children: int
    covered_ns: int
    mark_ns: int

    def _identify(self, trace_id: bytes, span_id: bytes, w3c: tuple[int, str]) -> None:
        """Set the identity of a span that is another's, and clear the rest."""
        self.trace_id = trace_id
        self.span_id = span_id
        self.w3c = w3c
        self.ended = False
        self.open_children = self.covered_ns = self.mark_ns = 0

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


class LocalContext(Context):
    """A span of this process, between its start and its end."""

    __slots__ = ("_above", "_before")

    #: The parent, while the span runs.
    _above: Context | None
    #: What was current when the span started, and is again when it has ended.
    _before: Context | None


class ForeignSpan(LocalContext):
    """A span of another tracer in this process, while that tracer has it current: `ztrace.otel` makes them.

    Attributes:
        source: the other tracer's span.
    """

    __slots__ = ("source",)

    source: object

    def __init__(self, trace_id: bytes, span_id: bytes, w3c: tuple[int, str] = NEW_TRACE) -> None:
        self._identify(trace_id, span_id, w3c)

    def enter(self, source: object, above: Context | None) -> None:
        """Become current; as a child of ``above``, if that is given."""
        self.source = source
        self._before = get_current()
        self._above = above
        now_ns = perf_counter_ns()
        if above is not None:
            if not above.open_children:
                above.mark_ns = now_ns
            above.open_children += 1
        set_current(self)

    def leave(self) -> None:
        """Be current no longer, whatever has begun or ended since."""
        if self.ended:
            return
        self.mark_ns = now_ns = perf_counter_ns()  # As `ztrace.spans.Span` does at its end.
        self.ended = True
        above, before, current = self._above, self._before, get_current()
        self._above = self._before = None
        if current is self:
            set_current(before)
        elif current is not before:
            take_out(self, before, current)
        if above is not None:
            above.open_children -= 1
            if not above.open_children:
                above.covered_ns += now_ns - above.mark_ns


class Mark(Protocol):
    """Mark of a process: its item 0 is true there, and false in forked children."""

    def __getitem__(self, index: int, /) -> int: ...


class Register(Protocol):
    """The part of a dictionary that spans use to be known while they run."""

    def __setitem__(self, span: Any, value: None, /) -> None: ...

    def pop(self, span: Any, default: None, /) -> None:
        """Remove a span."""
        ...


class Target(Protocol):
    """The part of a publisher that spans use.

    Attributes:
        queue: records of ended spans, oldest first.
        room: records that the queue may hold before `overflow` has to be called.
        register: spans that have started and not ended, oldest first.
        offset_ns: Unix time minus the monotonic clock.
        born_here: mark whose item 0 is false in a forked child.
        succeed: function that returns the target of such a child, None if there is none.
    """

    queue: deque[Record]
    room: int
    register: Register
    offset_ns: int

    @property
    def born_here(self) -> Mark:
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
get_current = _current.get
set_current = _current.set


def current_span() -> Context | None:
    """Return the span of this thread, task or greenlet, or what was extracted for it."""
    return get_current()


def make_current(context: Context | None) -> None:
    """Let spans started from now on in this thread, task or greenlet be children of ``context``."""
    set_current(context)


def take_out(ended: Context | None, before: Context | None, current: Context | None) -> None:
    """Let a span that ended before one begun inside it be no longer what that one makes current again."""
    while isinstance(current, LocalContext):
        if current._before is ended:
            current._before = before
            return
        current = None if current.ended else current._before
