"""Spans: what is measured, which one is current, and the record each leaves behind.

One idea: everything a span costs its thread is here, in two methods without a call that isn't written in C,
and ends with an append to the publisher's queue. The current span lives in a ContextVar, so threads, asyncio
tasks and gevent greenlets each have their own.

Self time needs no list of children: a parent counts its open children, and the time during which that count
is above zero is covered by them, however they overlap.
"""

from collections.abc import Sequence
from contextvars import ContextVar
from time import perf_counter_ns, thread_time_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from ztrace import diagnostics, failure
from ztrace.identifiers import new_trace_id, random_bits
from ztrace.wire import ERROR, KIND_NUMBERS, OK

if TYPE_CHECKING:
    from ztrace.publisher import Publisher

#: Numbers of the kinds the agent itself tells apart.
INTERNAL: Final = KIND_NUMBERS["internal"]
SERVER: Final = KIND_NUMBERS["server"]
CLIENT: Final = KIND_NUMBERS["client"]
PRODUCER: Final = KIND_NUMBERS["producer"]
CONSUMER: Final = KIND_NUMBERS["consumer"]

#: W3C trace flags of a trace that begins here: sampled, and a random trace id.
NEW_TRACE_FLAGS = 3


class SpanContext:
    """The part of a span that travels: what a child in another process needs of its parent.

    Attributes:
        trace_id: 16 bytes.
        span_id: 8 bytes.
        flags: W3C trace flags.
        tracestate: W3C tracestate as received, or "".
    """

    __slots__ = (
        "covered_ns",
        "ended",
        "flags",
        "mark_ns",
        "open_children",
        "span_id",
        "trace_id",
        "tracestate",
    )

    def __init__(
        self, trace_id: bytes, span_id: bytes, flags: int = NEW_TRACE_FLAGS, tracestate: str = ""
    ) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.flags = flags
        self.tracestate = tracestate
        self.ended = False
        self.open_children = 0
        self.covered_ns = 0
        self.mark_ns = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.trace_id.hex()} {self.span_id.hex()}>"


_current: ContextVar[SpanContext | None] = ContextVar("ztrace_current", default=None)
_get_current = _current.get
_set_current = _current.set

#: Where ended spans go; None while ztrace is not configured. Set by `ztrace.agent` alone.
publisher: "Publisher | None" = None


def start_span(
    name: str,
    kind: int,
    attributes: dict[str, Any],
    parent: SpanContext | None = None,
    links: Sequence[SpanContext] | None = None,
    *,
    activate: bool = True,
) -> "Span":
    """Make and start a span as `Span` does, for middleware: nothing is looked up or unpacked again."""
    span = Span.__new__(Span)
    span.name = name
    span.kind = kind
    span.links = links
    span.attributes = attributes
    span._parent = parent
    return span.start(activate=activate)


def current_span() -> SpanContext | None:
    """Return the span of this thread, task or greenlet, or what was extracted for it."""
    return _get_current()


def make_current(context: SpanContext | None) -> None:
    """Let spans started from now on in this thread, task or greenlet be children of ``context``."""
    _set_current(context)


class Span(SpanContext):
    """One timed operation: ``with ztrace.span("charge", card="visa") as span: span.set(amount=12)``.

    A span that ends with an exception is an error, and the exception goes on unchanged. Nothing here raises:
    unconfigured, or after a failure of ztrace's own, a span only does not record.

    Args:
        name: the operation, the method as called.
        kind: ``internal``, ``server``, ``client``, ``producer`` or ``consumer``.
        parent: a span or an extracted context to use instead of the current span.
        links: other spans that this one has to do with.
        attributes: anything to remember; values are str, bool, int, float, bytes, None or lists of these.
    """

    __slots__ = (
        "_cpu_ns",
        "_parent",
        "_publisher",
        "attributes",
        "kind",
        "links",
        "name",
        "start_ns",
    )

    def __init__(
        self,
        name: str,
        /,
        *,
        kind: str = "internal",
        parent: SpanContext | None = None,
        links: Sequence[SpanContext] | None = None,
        **attributes: Any,
    ) -> None:
        self.name = name
        self.kind = INTERNAL if kind == "internal" else KIND_NUMBERS.get(kind, INTERNAL)
        self.links = links
        self.attributes = attributes
        self._parent = parent

    def set(self, /, **attributes: Any) -> None:
        """Add attributes, replacing those of the same name."""
        self.attributes.update(attributes)

    def start(self, *, activate: bool = True) -> "Span":
        """Start the clock; with ``activate``, become the current span. ``with`` does this for you."""
        try:
            self._publisher = target = publisher
            if target is None:
                self.ended = True
                self.trace_id = self.span_id = b""
                return self
            parent = self._parent or _get_current()
            self.span_id = (random_bits(64) or 1).to_bytes(8, "big")
            self.ended = False
            self.covered_ns = self.open_children = 0
            if self.kind == SERVER:
                self._cpu_ns = thread_time_ns()
            self.start_ns = now_ns = perf_counter_ns()
            if parent is None:
                self._parent = None
                self.trace_id = new_trace_id(now_ns + target.offset_ns)
                self.flags = NEW_TRACE_FLAGS
                self.tracestate = ""
            else:
                self._parent = parent
                self.trace_id = parent.trace_id
                self.flags = parent.flags
                self.tracestate = parent.tracestate
                # No call between these lines, so no other thread comes in between: no lock needed.
                if not parent.open_children:
                    parent.mark_ns = now_ns
                parent.open_children += 1
            if activate:
                _set_current(self)
        except Exception:
            self.ended = True
            diagnostics.count_failure("span_start")
        return self

    __enter__ = start

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exception: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        if self.ended:
            return
        end_ns = perf_counter_ns()
        try:
            self.ended = True
            parent = self._parent
            if _get_current() is self:
                _set_current(parent if parent is None or not parent.ended else _living(parent))
            parent_id = None
            if parent is not None:
                parent_id = parent.span_id
                parent.open_children = still_open = parent.open_children - 1
                if not still_open:
                    parent.covered_ns += end_ns - parent.mark_ns
            duration_ns = end_ns - self.start_ns
            self_ns = duration_ns - self.covered_ns
            if self.open_children:
                self_ns -= end_ns - self.mark_ns
            target = self._publisher
            if target is not publisher or target is None:
                return  # Forked or configured anew in between: the span belongs to the publisher before.
            record = (
                self.trace_id,
                self.span_id,
                parent_id,
                self.kind,
                self.name,
                self.start_ns + target.offset_ns,
                duration_ns,
                self_ns if self_ns > 0 else 0,
                thread_time_ns() - self._cpu_ns if self.kind == SERVER else None,
                OK if exception is None or not failure.is_error(exception) else ERROR,
                self.attributes or None,
                None if self.links is None else [[link.trace_id, link.span_id] for link in self.links],
                None if exception is None else failure.record_exception(exception, self),
            )
            if len(target.queue) < target.room:
                target.queue.append(record)
            else:
                target.overflow(record)
        except Exception:
            diagnostics.count_failure("span_end")

    def end(self, exception: BaseException | None = None) -> None:
        """End the span, as an error if there is an exception. A second call does nothing."""
        self.__exit__(None, exception, None)


def _living(context: SpanContext) -> SpanContext | None:
    """Return the nearest ancestor that has not ended, for a span that outlived its parent."""
    ancestor: SpanContext | None = context
    while isinstance(ancestor, Span) and ancestor.ended:
        ancestor = ancestor._parent
    return ancestor
