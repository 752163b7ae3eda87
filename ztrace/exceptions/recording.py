"""Recording of exceptions on their way through spans: in full once, where they were first raised.

One idea: an exception's identity is that of its object. The first span that an exception leaves marks it as
its origin; every other span that it passes finds the mark of the exception itself, of the one it was raised
from, or of a member of a group. Across processes the origin travels in the error reply, and the middleware
marks the exception raised there with `ztrace.exceptions.origins.mark_origin`.

None of the program's code runs here but an exception's ``__str__``.
"""

from collections.abc import Sequence
from types import TracebackType

from ztrace import diagnostics
from ztrace.context import Context
from ztrace.exceptions.frames import (
    find_caller,
    is_internal,
    read_callers,
    read_stack,
    read_steps,
    record_frames,
)
from ztrace.exceptions.locals import name_class
from ztrace.exceptions.marks import Entry, Mark, remember
from ztrace.exceptions.messages import MAX_NOTES, message_of, notes_of
from ztrace.exceptions.origins import (
    MAX_LINKS,
    MAX_VIA,
    cause_of,
    come_from,
    find_ancestors,
    find_new_raise,
    mark_of,
    members_of,
)
from ztrace.exceptions.tracebacks import identify, traceback_of
from ztrace.interpreter.interrupts import is_interrupt
from ztrace.records import KIND_NUMBERS, PASSED, RAISED, ExceptionRecord, FrameRecord

#: Causes kept: ``raise from`` in a loop makes chains of any length.
MAX_CAUSES = 8
#: Members kept of a group, and levels of nested groups.
MAX_MEMBERS, MAX_DEPTH = 16, 4
#: Frames recorded with an exception, including those of causes and members: nested groups multiply.
MAX_RECORDED_FRAMES = 400
#: Kinds of spans whose frames belong to a library: the line that made the call is further out.
_CALLING = (KIND_NUMBERS["client"], KIND_NUMBERS["producer"])

_exit_code_of = SystemExit.__dict__["code"].__get__


def is_error(exception: BaseException) -> bool:
    """Return whether a span that ends with an exception has failed, and not closed a generator or exited.

    A cancelled task or a killed greenlet has failed: an ``ok`` span would claim a result that no caller got.
    """
    cls = type(exception)  # `isinstance` would ask the exception for its class.
    if issubclass(cls, SystemExit):
        code = _exit_code_of(exception)
        return code is not None and not (issubclass(type(code), int) and int.__eq__(code, 0))
    return not issubclass(cls, GeneratorExit)


def record_exception(
    exception: BaseException, span: Context, *around: Context | None
) -> ExceptionRecord | None:
    """Return the record of an exception that ends a span, and mark the exception with its origin.

    Args:
        exception: ended the span.
        span: has ended.
        around: parent of the span, and the span that was current when it started.

    Returns:
        None if the exception is no failure.

    Raises:
        BaseException: an exception that arrived from outside meanwhile.
    """
    if not is_error(exception):
        return None
    try:
        return _Recording(span, around).record(exception)
    except Exception as error:
        if is_interrupt(error):
            raise
        return _record_shortly(exception, span)


def _record_shortly(exception: BaseException, span: Context) -> ExceptionRecord:
    """Record an exception without its details, after the full record has failed.

    Raises:
        RecursionError: the stack has no room for this either.
    """
    how, origin = RAISED, (span.trace_id, span.span_id)
    entry = remember(exception)
    mark = entry.mark
    if mark is not None and mark.trace_id == span.trace_id:
        how, origin = PASSED if mark.span_id != span.span_id else RAISED, mark[:2]
    else:
        entry.mark = Mark(*origin, set(), {})
    diagnostics.count_failure("exception")
    return ExceptionRecord(name_class(type(exception)), "", [], [], how, *origin)


class _Recording:
    """Recording of the exception of one span, with causes and members."""

    def __init__(self, span: Context, around: Sequence[Context | None]) -> None:
        self._span = span
        self._around = around
        self._seen: set[int] = set()
        self._path: set[int] = set()
        self._frames_left = MAX_RECORDED_FRAMES

    def record(self, exception: BaseException) -> ExceptionRecord:
        entry = remember(exception)
        mark = entry.mark
        traceback = traceback_of(exception)
        raised_anew = None
        if mark is not None and mark.span_id == self._span.span_id:
            entry.mark = mark = None  # This span has put it there, before it was interrupted.
        if mark is not None:
            is_on_its_way = mark.trace_id == self._span.trace_id and self._span.span_id in mark.via
            if not is_on_its_way:
                raised_anew = find_new_raise(traceback, mark.heads)
            if is_on_its_way or (raised_anew is None and mark.trace_id == self._span.trace_id):
                return self._record_passed(exception, entry, traceback, mark)
        return self._record_raised(exception, entry, traceback, raised_anew)

    def _record_passed(
        self, exception: BaseException, entry: Entry, traceback: TracebackType | None, mark: Mark
    ) -> ExceptionRecord:
        stack = read_stack(traceback, mark.heads)
        frames = self._limit(stack.frames)
        if traceback is not None and not stack.in_app and getattr(self._span, "kind", None) in _CALLING:
            frames = [*self._limit(record_frames(find_caller(traceback.tb_frame))), *frames]
        self._leave(mark, traceback)
        return ExceptionRecord(
            type_name(exception, entry),
            message_of(exception, entry),
            frames,
            [],
            PASSED,
            mark.trace_id,
            mark.span_id,
            notes_of(exception),
            [],
        )

    def _record_raised(
        self,
        exception: BaseException,
        entry: Entry,
        traceback: TracebackType | None,
        raised_anew: TracebackType | None,
    ) -> ExceptionRecord:
        """Record an exception that was raised in this span, maybe from one that another span has recorded."""
        # Marked first: whatever fails later, the spans around this one find the origin.
        how, origin = self._mark_raised(exception, entry, traceback)
        stack = read_stack(traceback, last=raised_anew)
        frames = stack.frames
        if traceback is not None and not stack.in_app:
            # The exception has passed libraries only. The traceback of a timeout in an RPC client begins in
            # the client, and the line of the user's own that made the call is further out.
            callers = read_callers(traceback.tb_frame)
            frames = record_frames([*callers, *read_steps(traceback, last=raised_anew)])
        return self._complete(exception, entry, self._limit(frames), how, origin, 0)

    def _mark_raised(
        self, exception: BaseException, entry: Entry, traceback: TracebackType | None
    ) -> tuple[str, tuple[bytes, bytes]]:
        came_from = come_from(exception, self._span.trace_id)
        how, origin = came_from or (RAISED, (self._span.trace_id, self._span.span_id))
        mark = Mark(*origin, set(), {})
        self._leave(mark, traceback)
        entry.put_mark(mark)
        return how, origin

    def _leave(self, mark: Mark, traceback: TracebackType | None) -> None:
        """Add to the mark that the exception leaves this span, and the spans around it."""
        if self._span.span_id not in mark.via:
            if len(mark.via) > MAX_VIA:
                mark.via.clear()
            mark.via.update(find_ancestors(*self._around))
        if traceback is not None:
            identify(traceback, mark.heads)

    def _complete(
        self,
        exception: BaseException,
        entry: Entry,
        frames: Sequence[FrameRecord],
        how: str,
        origin: tuple[bytes | None, bytes | None],
        depth: int,
    ) -> ExceptionRecord:
        self._seen.add(id(exception))
        self._path.add(id(exception))
        notes = notes_of(exception)
        members, left_out = self._record_members(exception, depth)
        causes = self._record_causes(exception, depth)
        self._path.discard(id(exception))
        if left_out:
            del notes[MAX_NOTES - 1 :]
            notes.append(f"… and {left_out} more exceptions")
        told = entry.remote or (type_name(exception, entry), message_of(exception, entry))
        return ExceptionRecord(*told, frames, causes, how, *origin, notes, members)

    def _record_causes(self, exception: BaseException, depth: int) -> list[ExceptionRecord]:
        """Record the causes, up to one that another span has recorded."""
        how, link = cause_of(exception)
        while link is not None and id(link) not in self._seen and is_internal(traceback_of(link)):
            self._seen.add(id(link))
            _, link = cause_of(link)
        if link is None or depth >= MAX_CAUSES or id(link) in self._seen or self._is_full():
            return []
        if self._is_elsewhere(link):
            return []
        # No mark: an exception that is being handled outside this span may still leave another span.
        frames = self._limit(read_stack(traceback_of(link)).frames)
        return [self._complete(link, remember(link), frames, how, (None, None), depth + 1)]

    def _record_members(self, exception: BaseException, depth: int) -> tuple[list[ExceptionRecord], int]:
        """Record the members of a group, and count those omitted."""
        if not issubclass(type(exception), BaseExceptionGroup):
            return [], 0
        members = members_of(exception)
        records: list[ExceptionRecord] = []
        if depth >= MAX_DEPTH:
            return records, len(members)
        for member in members[:MAX_MEMBERS]:
            if self._is_full():
                break
            if id(member) not in self._path:
                records.append(self._record_member(member, depth + 1))
        return records, len(members) - len(records)

    def _record_member(self, member: BaseException, depth: int) -> ExceptionRecord:
        entry, traceback = remember(member), traceback_of(member)
        mark = entry.mark
        if mark is not None and self._is_elsewhere(member):
            self._seen.add(id(member))
            self._leave(mark, traceback)
            return ExceptionRecord(
                type_name(member, entry),
                message_of(member, entry),
                [],
                [],
                PASSED,
                mark.trace_id,
                mark.span_id,
            )
        how, origin = self._mark_raised(member, entry, traceback)
        return self._complete(member, entry, self._limit(read_stack(traceback).frames), how, origin, depth)

    def _is_full(self) -> bool:
        return len(self._seen) >= MAX_LINKS

    def _is_elsewhere(self, exception: BaseException) -> bool:
        """Return whether another span of this trace has recorded an exception."""
        mark = mark_of(exception)
        return (
            mark is not None and mark.trace_id == self._span.trace_id and mark.span_id != self._span.span_id
        )

    def _limit(self, frames: Sequence[FrameRecord]) -> list[FrameRecord]:
        """Return the innermost frames for which there is room."""
        kept = list(frames)
        excess = len(kept) - self._frames_left
        if excess > 0:
            left_out = sum(1 + frame.repeats + frame.omitted for frame in kept[:excess])
            kept = kept[excess:]
            if kept:
                kept[0] = kept[0]._replace(omitted=kept[0].omitted + left_out)
        self._frames_left -= len(kept)
        return kept


def type_name(exception: BaseException, entry: Entry | None = None) -> str:
    """Return the name of an exception's class, with its module unless it is a builtin."""
    return (entry and entry.named) or name_class(type(exception))
