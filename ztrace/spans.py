"""Spans: their measurement, the current one, and the record that each leaves behind.

One idea: everything a span costs its thread is here, in two methods that call little but C, and ends with an
append to the publisher's queue. An exception may interrupt them anywhere, so their steps are in an order that
leaves a span either not started, or started and still ended by its block.

Self time needs no list of children: a parent counts its open children, and the time during which that count
is above zero is covered by them, however they overlap.
"""

import sys

# An interrupt may come before any assignment, so handlers of `start` and `__exit__` expect unbound names.
# pyright: reportPossiblyUnboundVariable=false
from collections.abc import Callable, Sequence
from contextvars import copy_context
from types import CodeType, TracebackType
from typing import Any, Final

from ztrace import diagnostics
from ztrace.context import (
    ENDED,
    ENDED_LOOPED,
    HOLDS,
    NEW,
    NEW_APART,
    NEW_IN_GENERATOR,
    NEW_TRACE,
    RUNNING_APART,
    RUNNING_LOOPED,
    RUNS,
    Context,
    LocalContext,
    SpanContext,
    Target,
    get_current,
    link_ids,
    put_current,
    take_out,
)
from ztrace.exceptions import marks, recording
from ztrace.identifiers import draw_span_ids, new_trace_id, take_span_id
from ztrace.interpreter.generators import GENERATOR_FLAGS
from ztrace.interpreter.interrupts import cover, is_interrupt, is_traced
from ztrace.lifecycle import recovery
from ztrace.lifecycle.arguments import take_kind, take_links, take_parent
from ztrace.lifecycle.parts import choose_parent, prepare, set_parts
from ztrace.native import get_ident, perf_counter_ns, thread_time_ns
from ztrace.process.lanes import number_lane
from ztrace.process.sharing import shares_thread
from ztrace.records import ERROR, KIND_NUMBERS, OK

#: Numbers of the kinds that the agent distinguishes.
INTERNAL: Final = KIND_NUMBERS["internal"]
SERVER: Final = KIND_NUMBERS["server"]
CLIENT: Final = KIND_NUMBERS["client"]
PRODUCER: Final = KIND_NUMBERS["producer"]
CONSUMER: Final = KIND_NUMBERS["consumer"]

#: Default kind of a span; compared by identity, which a literal in the caller's code has too.
DEFAULT_KIND: Final = "internal"

_getframe = sys._getframe
#: Code, not a generator's, that made a span last: most of the time it makes the next one too.
_plain_code: CodeType | None = None

#: Function that returns the owner of a span that starts. Set by `ztrace.profiling.owners` alone.
find_owner: Callable[[], object] = get_ident

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
        links: other spans that are related to this one. Another kind, parent or links are attributes.
        attributes: anything to remember; values are str, bool, int, float, bytes, None or lists of these.

    Returns:
        A span that starts when its ``with`` block is entered.
    """
    global _plain_code
    new = Span()
    new.name = name
    new.attributes = new._given = attributes
    if kind is DEFAULT_KIND and parent is None and links is None:
        new.kind = INTERNAL
        new._state = NEW
    else:
        new.kind = take_kind(kind, attributes)
        parent, links = take_parent(parent, attributes), take_links(links, attributes)
        set_parts(new, new.kind == SERVER, parent, links)
    if publisher is not None:
        code = _getframe(1).f_code
        if code is not _plain_code:
            if code.co_flags & GENERATOR_FLAGS:
                new._state = NEW_IN_GENERATOR
            else:
                _plain_code = code
    return new


class Span(LocalContext):
    """One timed operation, made by `span`.

    A span that ends with an exception is an error, and the exception propagates. Nothing here raises:
    unconfigured, or after a failure of ztrace's own, a span only does not record. Exceptions of signal
    handlers and other interrupts go on to the program, and leave a span either not started or ended.

    Attributes:
        name: may be changed until the span ends.
        kind: one of `ztrace.records.KIND_NAMES`.
        attributes: names and values; `set` adds to them.
        links: other spans that are related to this one.
        start_ns: by the monotonic clock.
    """

    # No __init__: calling a class that has one costs more than the rest of making a span.
    __slots__ = ("_given", "_owner", "_publisher", "attributes", "kind", "name", "start_ns")

    name: str
    kind: int
    attributes: dict[str, Any]
    start_ns: int
    #: Attributes that the span was made with, never changed here.
    _given: dict[str, Any]
    _owner: object
    _publisher: Target

    @property
    def links(self) -> Sequence[Context] | None:
        """Contexts that the span was given, and those it was linked to since."""
        apart = getattr(self, "_apart", None)
        return None if apart is None else apart.links

    def set(self, /, **attributes: Any) -> None:
        """Add attributes, replacing those of the same name."""
        if self.attributes is self._given:  # Kept as they are: the span may be started again.
            self.attributes = {**self._given, **attributes}
        else:
            self.attributes.update(attributes)

    def reply(self) -> int:
        """Mark the moment in which a server span's reply is ready, the first time it is called.

        The span ends there, unless sending the reply fails: the caller would otherwise seem to have the
        answer before the callee had given it.

        Returns:
            The duration up to that moment, in ns.
        """
        apart = getattr(self, "_apart", None) or self.apart
        if not apart.replied_ns:
            apart.replied_ns = perf_counter_ns()
        return apart.replied_ns - getattr(self, "start_ns", apart.replied_ns)

    @cover
    def start(self, activate: bool = True) -> "Span":
        """Start the clock; with ``activate``, become the current span. ``with`` does this.

        A running span continues. One that has ended starts again, with the attributes it was made with.
        """
        try:
            state = self._state
            if state is None or state:
                if state is None or state <= RUNNING_LOOPED:
                    return self
                caller = _getframe(1) if activate else None
                if state == NEW_APART and (caller is None or not caller.f_code.co_flags & GENERATOR_FLAGS):
                    apart, state = self._apart, RUNNING_APART  # As `prepare`, without the call.
                    apart.generator, apart.replied_ns = None, 0
                else:
                    if state >= ENDED or state == ENDED_LOOPED:
                        self.attributes = dict(self._given)
                    state = prepare(self, caller)
                if self.kind == SERVER:
                    self._apart.cpu_ns = None if shares_thread() else thread_time_ns()
            target = publisher
            if target is None or not target.born_here:
                if target is not None:
                    target = target.succeed()  # In a child that was forked without Python's hooks.
                if target is None:
                    self.trace_id = self.span_id = b""
                    return self
            try:
                self.span_id = take_span_id()
            except IndexError:
                self.span_id = draw_span_ids()
            self.start_ns = now_ns = perf_counter_ns()
            parent = get_current()
            if state and parent is None and type(given := self._apart.parent) is SpanContext:
                self._apart.before, parent = None, given  # A served request, as most spans with parts are.
            elif state or (parent is not None and parent._state not in (None, RUNNING_APART)):
                state, parent = choose_parent(self, state, parent, now_ns)
            if parent is None:
                self.trace_id = new_trace_id(now_ns + target.offset_ns)
                self.w3c = NEW_TRACE
            else:
                self.trace_id = parent.trace_id
                self.w3c = parent.w3c
            self._above = parent
            self.covered_ns = self.open_children = 0
            self._beside = False
            self._publisher = target
            self._owner = find_owner() if activate else None
            if activate:
                if HOLDS:
                    _held = copy_context()
                put_current(self)
            # From here on no call, so that no other thread and no signal handler comes in between.
            target.register[self] = None
            if parent is None:
                self._state = state or None
            else:
                siblings = parent.open_children
                if not siblings:
                    parent.mark_ns = now_ns
                else:
                    parent._beside = True
                try:
                    self._state = state or None
                    parent.open_children = siblings + 1
                except BaseException:
                    self._state = NEW_APART if state else NEW  # The parent does not count it yet.
                    raise
            return self
        except BaseException as raised:
            try:
                begun = target is not None
            except UnboundLocalError:  # It came before the first statement, or the span runs already.
                begun = False
            if begun:
                recovery.insist(recovery.withdraw, self, target)
            if is_interrupt(raised):
                raise
            diagnostics.count_failure("span_start")
            return self

    __enter__ = start

    @cover
    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exception: BaseException | None = None,
        traceback: TracebackType | None = None,
        again: int = 0,
    ) -> None:
        try:
            state = self._state
            if state not in RUNS:
                return
            self._state = end_ns = perf_counter_ns()
            above = outer = self._above
            cpu_ns = links = None
            if state is not None:
                apart = self._apart
                outer = apart.before
                if apart.links is not None:
                    links = link_ids(apart.links)
                if apart.cpu_ns is not None:
                    cpu_ns = thread_time_ns() - apart.cpu_ns
                    if cpu_ns < 0:
                        cpu_ns = None  # Another thread's clock: the span has ended there.
                if apart.replied_ns and exception is None:
                    end_ns = apart.replied_ns
            current = get_current()
            if current is self:
                if HOLDS:
                    _held = copy_context()
                put_current(outer)
            elif current is not outer:
                take_out(self, outer, current)
            duration_ns = self_ns = end_ns - self.start_ns
            if self.open_children and self.mark_ns < end_ns:  # Not if one began since the clock was read.
                self_ns -= end_ns - self.mark_ns
            if self.covered_ns:
                self_ns -= self.covered_ns
                if self_ns < 0:
                    self_ns = 0
            if exception is None:
                status, failed = OK, None
            else:
                status, failed = ERROR, None
                try:
                    failed = recording.record_exception(exception, self, above, outer)
                    if failed is None:
                        status = OK
                except Exception as error:
                    # A full stack has no room for a call; a span further out has.
                    if type(error) is not RecursionError and is_interrupt(error):
                        raise
                    counts, entry = diagnostics.counts, marks.recent.get(id(exception))
                    counts["exception"] = counts.get("exception", 0) + 1
                    if entry is not None and entry.mark is not None and entry.mark[1] == self.span_id:
                        entry.mark = None
            lane = None
            if self._beside or (above is not None and above._beside):
                lane = number_lane()
            target = self._publisher
            # Otherwise the process has forked or was configured again: the span is the previous publisher's.
            if target is publisher:
                record = (
                    self.trace_id,
                    self.span_id,
                    None if above is None else above.span_id,
                    self.kind,
                    self.name,
                    self.start_ns + target.offset_ns,
                    duration_ns,
                    self_ns,
                    cpu_ns,
                    status,
                    self.attributes or None,
                    links,
                    failed,
                    None,
                    lane,
                )
                queue = target.queue
                if len(queue) < target.room:
                    appending = True
                    queue.append(record)
                else:
                    handed = True
                    target.overflow(record)
            if state is not None:
                if state == RUNNING_LOOPED:
                    recovery.leave(self, state)
                else:
                    apart.before = None
            # From here on no call, as at the end of `start`.
            try:
                del target.register[self]
            except KeyError:
                target.watched.pop(id(self), None)
            # Not kept: a task that starts the next span from within this one would hold all of them.
            if above is not None:
                siblings = above.open_children - 1
                try:
                    self._above = None
                    if not siblings:
                        above.covered_ns += end_ns - above.mark_ns
                    above.open_children = siblings
                except BaseException:
                    self._above = None
                    above.open_children -= 1
                    raise
        except BaseException as raised:
            try:
                begun = state is None or RUNNING_APART <= state <= RUNNING_LOOPED
            except UnboundLocalError:  # It came before the first statement.
                begun, state = False, self._state
            later = None
            try:
                interrupted, traced = is_interrupt(raised), is_traced(raised)
            except BaseException as error:
                interrupted, traced, later = True, True, error
            try:
                queued = handed
            except UnboundLocalError:
                try:
                    # The publisher may have taken the record already. But a trace function alone can raise
                    # before the call; all other interrupts come after it.
                    queued = appending and (not traced or record in target.queue)
                except UnboundLocalError:
                    queued = False
            if interrupted and not queued and again < recovery.MOST_INTERRUPTS:
                self._state = state
                # Once more: steps that are done already are skipped.
                self.__exit__(None, exception, None, again + 1)
            elif begun:
                recovery.insist(recovery.finish, self, state, self._publisher)
            if later is not None:
                raise later  # noqa: B904
            if interrupted:
                raise
            diagnostics.count_failure("span_end")

    @cover
    def end(self, exception: BaseException | None = None) -> None:
        """End the span, as an error if there is an exception. A second call does nothing."""
        try:
            self.__exit__(None, exception)
        except BaseException:
            self.__exit__(None, exception)
            raise
