"""Exceptions on their way through spans: recorded once, where they were first raised.

One idea: identity travels with the exception object. The first span an exception leaves marks it as its
origin; every other span it passes finds the mark, on the exception itself, on the one it was raised from, or
on a member of a group. Across processes the mark rides in the error reply, and the middleware puts it back
with `ztrace.exceptions.origins.mark_origin`.

Nothing of the program's runs here but an exception's ``__str__``.
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
from ztrace.exceptions.program import is_interrupt
from ztrace.exceptions.tracebacks import identify, traceback_of
from ztrace.records import KIND_NUMBERS, PASSED, RAISED, ExceptionRecord, FrameRecord

#: Causes kept: ``raise from`` in a loop can chain without end.
MAX_CAUSES = 8
#: Members kept of a group, and groups in one another.
MAX_MEMBERS, MAX_DEPTH = 16, 4
#: Frames recorded with one, its causes' and members' included: groups of groups multiply.
MAX_RECORDED_FRAMES = 400
#: Kinds of spans whose own frames are a library's: the line that made the call lies outside.
_CALLING = (KIND_NUMBERS["client"], KIND_NUMBERS["producer"])

_exit_code_of = SystemExit.__dict__["code"].__get__


def is_error(exception: BaseException) -> bool:
    """Tell whether a span that ends with this has failed: leaving a generator or the program has not.

    A cancelled task or a killed greenlet has: nobody got its result, and a span that is fine would claim one.
    """
    cls = type(exception)  # `isinstance` would ask the exception for its class.
    if issubclass(cls, SystemExit):
        code = _exit_code_of(exception)
        return code is not None and not (issubclass(type(code), int) and int.__eq__(code, 0))
    return not issubclass(cls, GeneratorExit)


def record_exception(
    exception: BaseException, span: Context, *around: Context | None
) -> ExceptionRecord | None:
    """Return the record of an exception that ends ``span``, and mark the exception with its origin.

    Args:
        exception: what ended the span.
        span: has ended.
        around: its parent, and what was current when it started.

    Returns:
        None if it is no failure.

    Raises:
        BaseException: if it arrived from outside meanwhile.
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
    """Record what could not be recorded in full.

    Raises:
        RecursionError: where the stack has no room for this either.
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
    """One span's exception being recorded, with its causes and members."""

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
            type_name(exception),
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
        """Record what was raised in this span, or raised here from what was raised in another."""
        # Marked first: whatever fails later, the spans around this one know where it came from.
        how, origin = self._mark_raised(exception, entry, traceback)
        stack = read_stack(traceback, last=raised_anew)
        frames = stack.frames
        if traceback is not None and not stack.in_app:
            # It has only passed libraries. For a timeout in an RPC client its traceback begins in the client,
            # and the line that made the call, which is what is asked for, lies further out.
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
        """Remember that the exception leaves this span, and which spans that is on the way to."""
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
        told = entry.remote or (type_name(exception), message_of(exception, entry))
        return ExceptionRecord(*told, frames, causes, how, *origin, notes, members)

    def _record_causes(self, exception: BaseException, depth: int) -> list[ExceptionRecord]:
        """Record what it was raised from, down to what was raised in another span, which is told there."""
        how, link = cause_of(exception)
        while link is not None and id(link) not in self._seen and is_internal(traceback_of(link)):
            self._seen.add(id(link))
            _, link = cause_of(link)
        if link is None or depth >= MAX_CAUSES or id(link) in self._seen or self._is_full():
            return []
        if self._is_elsewhere(link):
            return []
        # It gets no mark: what is being handled outside this span may well leave another one yet.
        frames = self._limit(read_stack(traceback_of(link)).frames)
        return [self._complete(link, remember(link), frames, how, (None, None), depth + 1)]

    def _record_members(self, exception: BaseException, depth: int) -> tuple[list[ExceptionRecord], int]:
        """Record a group's exceptions, and count those left out."""
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
                type_name(member), message_of(member, entry), [], [], PASSED, mark.trace_id, mark.span_id
            )
        how, origin = self._mark_raised(member, entry, traceback)
        return self._complete(member, entry, self._limit(read_stack(traceback).frames), how, origin, depth)

    def _is_full(self) -> bool:
        return len(self._seen) >= MAX_LINKS

    def _is_elsewhere(self, exception: BaseException) -> bool:
        """Tell whether it has been recorded with another span of this trace."""
        mark = mark_of(exception)
        return (
            mark is not None and mark.trace_id == self._span.trace_id and mark.span_id != self._span.span_id
        )

    def _limit(self, frames: Sequence[FrameRecord]) -> list[FrameRecord]:
        """Return those frames for which there is room, the innermost."""
        kept = list(frames)
        excess = len(kept) - self._frames_left
        if excess > 0:
            left_out = sum(1 + frame.repeats + frame.omitted for frame in kept[:excess])
            kept = kept[excess:]
            if kept:
                kept[0] = kept[0]._replace(omitted=kept[0].omitted + left_out)
        self._frames_left -= len(kept)
        return kept


def type_name(exception: BaseException) -> str:
    """Return the class's name with its module, bare for builtins."""
    return name_class(type(exception))
