"""Spans: what is measured, which one is current, and the record each leaves behind.

One idea: everything a span costs its thread is here, in two methods without a call that isn't written in C,
and ends with an append to the publisher's queue. The current span lives in a ContextVar, so threads, asyncio
tasks and gevent greenlets each have their own.

Self time needs no list of children: a parent counts its open children, and the time during which that count
is above zero is covered by them, however they overlap.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final

from ztrace import diagnostics
from ztrace.context import (
    NEW_TRACE,
    Context,
    LocalContext,
    Target,
    get_current,
    set_current,
    take_out,
)
from ztrace.exceptions import marks, recording
from ztrace.identifiers import draw_span_ids, new_trace_id, take_span_id
from ztrace.native import perf_counter_ns, thread_time_ns
from ztrace.records import ERROR, KIND_NUMBERS, OK

#: Numbers of the kinds the agent itself tells apart.
INTERNAL: Final = KIND_NUMBERS["internal"]
SERVER: Final = KIND_NUMBERS["server"]
CLIENT: Final = KIND_NUMBERS["client"]
PRODUCER: Final = KIND_NUMBERS["producer"]
CONSUMER: Final = KIND_NUMBERS["consumer"]

#: What a span is unless it is said; compared by identity, which a literal in the caller's code has too.
DEFAULT_KIND: Final = "internal"

#: How long after its end a span is still inherited as the parent by a thread, task or greenlet that was
#: started within it. What begins later, as in a pool or a loop that lives on, is a trace of its own with a
#: link.
INHERITED_NS: Final = 60_000_000_000

#: Where ended spans go; None while ztrace is not configured. Set by `ztrace.agent` alone.
publisher: Target | None = None


def span(
    name: str,
    /,
    kind: str = DEFAULT_KIND,
    parent: Context | None = None,
    links: Sequence[Context] | None = None,
    **attributes: Any,
) -> "Span":
    """Time an operation: ``with ztrace.span("charge", card="visa") as span: span.set(amount=12)``.

    Args:
        name: the operation, the method as called.
        kind: ``internal``, ``server``, ``client``, ``producer`` or ``consumer``.
        parent: a span or an extracted context to use instead of the current span.
        links: other spans that this one has to do with.
        attributes: anything to remember; values are str, bool, int, float, bytes, None or lists of these.

    Returns:
        A span that starts when its ``with`` block is entered.
    """
    new = Span()
    new.ended = True
    new.name = name
    try:
        new.kind = INTERNAL if kind is DEFAULT_KIND else KIND_NUMBERS.get(kind, INTERNAL)
    except TypeError:
        new.kind = INTERNAL
    new.attributes = attributes
    new.links = links
    new._parent = parent
    return new


def start_span(
    name: str,
    kind: int,
    attributes: dict[str, Any],
    parent: Context | None = None,
    links: Sequence[Context] | None = None,
    activate: bool = True,
) -> "Span":
    """Make a span and start it, for middleware: as `span`, with the kind's number and its own dictionary."""
    new = Span()
    new.ended = True
    new.name = name
    new.kind = kind
    new.attributes = attributes
    new.links = links
    new._parent = parent
    return new.start(activate)


class Span(LocalContext):
    """One timed operation, made by `span`.

    A span that ends with an exception is an error, and the exception goes on unchanged. Nothing here raises:
    unconfigured, or after a failure of ztrace's own, a span only does not record.

    Attributes:
        name: may be changed until the span ends.
        kind: one of `ztrace.records.KIND_NAMES`.
        attributes: what is remembered; `set` adds to it.
        links: other spans that this one has to do with.
        start_ns: by the monotonic clock.
    """

    # No __init__: calling a class that has one costs more than the rest of making a span.
    __slots__ = (
        "_cpu_ns",
        "_parent",
        "_publisher",
        "_replied_ns",
        "attributes",
        "kind",
        "links",
        "name",
        "start_ns",
    )

    name: str
    kind: int
    attributes: dict[str, Any]
    links: Sequence[Context] | None
    start_ns: int
    _parent: Context | None
    _publisher: Target
    _cpu_ns: int
    _replied_ns: int

    def set(self, /, **attributes: Any) -> None:
        """Add attributes, replacing those of the same name."""
        self.attributes.update(attributes)

    def reply(self) -> int:
        """Mark the moment in which a server span's reply is ready, the first time it is called.

        The span ends there, unless sending the reply fails: the caller would otherwise seem to have the
        answer before the callee had given it.

        Returns:
            The duration up to that moment, in ns.
        """
        if not self._replied_ns:
            self._replied_ns = perf_counter_ns()
        return self._replied_ns - self.start_ns

    def start(self, activate: bool = True) -> "Span":
        """Start the clock; with ``activate``, become the current span. ``with`` does this.

        A span that runs already goes on.
        """
        try:
            if not self.ended:
                return self
            if (target := publisher) is not None and not target.born_here[0]:
                target = target.succeed()  # In a child that was forked without Python's hooks.
            if target is None:
                self.trace_id = self.span_id = b""
                return self
            self._publisher = target
            self.ended = False
            self.covered_ns = self.open_children = 0
            try:
                self.span_id = take_span_id()
            except IndexError:
                self.span_id = draw_span_ids()
            if self.kind == SERVER:
                self._replied_ns = 0
                self._cpu_ns = thread_time_ns()
            self._before = parent = get_current()
            if self._parent is not None and self._parent.trace_id:
                parent = self._parent
            self._above = parent
            self.start_ns = now_ns = perf_counter_ns()
            if parent is not None and parent.ended and self._outlives(parent, now_ns):
                self.links = (*(self.links or ()), parent)
                self._above = parent = None
            if parent is None:
                self.trace_id = new_trace_id(now_ns + target.offset_ns)
                self.w3c = NEW_TRACE
            else:
                self.trace_id = parent.trace_id
                self.w3c = parent.w3c
                # No call between these lines, so no other thread comes in between: no lock needed.
                if not parent.open_children:
                    parent.mark_ns = now_ns
                parent.open_children += 1
            if activate:
                set_current(self)
            target.register[self] = None
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
        try:
            if self.ended:
                return
            end_ns = perf_counter_ns()
            self.ended = True
            cpu_ns = None
            if self.kind == SERVER:
                cpu_ns = thread_time_ns() - self._cpu_ns
                if cpu_ns < 0:
                    cpu_ns = None  # Another thread's clock: the span has ended there.
                if self._replied_ns and exception is None:
                    end_ns = self._replied_ns
            parent, before, current = self._above, self._before, get_current()
            # Not kept: a task that starts the next one from within a span would hold all of them.
            self._above = self._before = None
            if current is self:
                set_current(before)
            elif current is not before:
                take_out(self, before, current)
            duration_ns = self_ns = end_ns - self.start_ns
            if self.open_children and self.mark_ns < end_ns:  # Not if one began since the clock was read.
                self_ns -= end_ns - self.mark_ns
            if self.covered_ns:
                self_ns = max(0, self_ns - self.covered_ns)
            self.mark_ns = end_ns  # Read by `_outlives`; the children still open no longer matter.
            if parent is None:
                parent_id = None
            else:
                parent_id = parent.span_id
                parent.open_children -= 1
                if not parent.open_children:
                    parent.covered_ns += end_ns - parent.mark_ns
            target = self._publisher
            target.register.pop(self, None)
            if target is not publisher:
                return  # Forked or configured anew in between: the span belongs to the publisher before.
            if exception is None:
                status, failed = OK, None
            else:
                status, failed = ERROR, None
                try:
                    failed = recording.record_exception(exception, self, parent, before)
                    if failed is None:
                        status = OK
                except Exception:  # A full stack has no room for a call; a span further out has.
                    counts, entry = diagnostics.counts, marks.recent.get(id(exception))
                    counts["exception"] = counts.get("exception", 0) + 1
                    if entry is not None and entry.mark is not None and entry.mark[1] == self.span_id:
                        entry.mark = None
            links = self.links
            record = (
                self.trace_id,
                self.span_id,
                parent_id,
                self.kind,
                self.name,
                self.start_ns + target.offset_ns,
                duration_ns,
                self_ns,
                cpu_ns,
                status,
                self.attributes or None,
                None if links is None else [[link.trace_id, link.span_id] for link in links],
                failed,
                None,
            )
            queue = target.queue
            if len(queue) < target.room:
                queue.append(record)
            else:
                target.overflow(record)
        except Exception:
            diagnostics.count_failure("span_end")

    def _outlives(self, inherited: Context, now_ns: int) -> bool:
        """Return whether an inherited span ended too long ago to be a parent."""
        return inherited is not self._parent and now_ns - inherited.mark_ns > INHERITED_NS

    def end(self, exception: BaseException | None = None) -> None:
        """End the span, as an error if there is an exception. A second call does nothing."""
        self.__exit__(None, exception, None)
