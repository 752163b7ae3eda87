"""Traceback objects: known again without being kept alive, and left as they would be without ztrace.

One idea: the address of an object that is gone may be another's the next moment, and a traceback cannot be
referred to weakly. But the frame of the call that it was made for ends with the exception, is in no other
traceback's place, and has room for a tag: where both ends of the comparison have the same tag, it is the same
frame, and so the same traceback. The tag keeps nothing alive, and goes with the frame.
"""

import sys
from functools import lru_cache
from types import CodeType, FrameType, TracebackType

#: Steps remembered of one exception: one that is raised without end must not make it grow.
MAX_HEADS = 2000

#: What the code of a traceback's copy does: ``raise __traceback_maker``.
_REBUILT = ("__traceback_maker",)

#: The class's own, whatever a subclass has in its place.
traceback_of = BaseException.__dict__["__traceback__"].__get__
set_traceback = BaseException.__dict__["__traceback__"].__set__


class Tag:
    """What a frame is known again by, in its place for a debugger's function, which is free as a rule."""

    __slots__ = ()

    def __call__(self, *event: object) -> None:
        """Ignore the event, as the function of a debugger that wants no more events of a frame."""


#: Where a traceback began when its exception left a span: what `is_known` knows a step by. Of a step by its
#: address the instruction and the tag; of a copy the file, the line and the name.
Heads = dict[int | tuple[str, int, str], tuple[int, Tag | None]]


def identify(step: TracebackType, heads: Heads) -> None:
    """Remember a step of a traceback without keeping it alive."""
    if len(heads) >= MAX_HEADS:
        heads.clear()
    frame = _frame_below(step)
    if frame.f_trace is None:
        frame.f_trace = Tag()
    heads[id(step)] = (step.tb_lasti, _tag_of(frame))
    code = step.tb_frame.f_code
    heads[code.co_filename, step.tb_lineno or 0, code.co_name] = (0, None)


def is_known(step: TracebackType, heads: Heads) -> bool:
    """Tell whether a step, or the one it was made after, was remembered."""
    head = heads.get(id(step))
    if head is not None:
        return head[0] == step.tb_lasti and head[1] is _tag_of(_frame_below(step))
    code = step.tb_frame.f_code
    return is_copy(code) and (code.co_filename, step.tb_lineno or 0, code.co_name) in heads


def is_known_below(traceback: TracebackType | None, heads: Heads) -> bool:
    """Return whether a frame of a traceback ended with the exception of which the heads were remembered.

    Nothing is derived from a frame that has not ended: it may have raised another exception before.
    """
    step = traceback
    while step is not None:
        below = step.tb_next
        head = heads.get(id(step))
        if head is not None and below is not None and head[0] == step.tb_lasti:
            tag = _tag_of(below.tb_frame)
            if tag is not None and tag is head[1]:
                return True
        step = below
    return False


def is_copy(code: CodeType) -> bool:
    """Tell whether a step's code is a stand-in's: gevent and tblib copy tracebacks for other threads."""
    return code.co_names == _REBUILT


def is_raise(step: TracebackType) -> bool:
    """Return whether a step is at a ``raise`` statement that names an exception."""
    if is_copy(step.tb_frame.f_code):
        return False
    at = step.tb_lasti
    code = step.tb_frame.f_code.co_code  # Without the interpreter's specialized instructions.
    return 0 <= at < len(code) - 1 and code[at] == _opcode("RAISE_VARARGS") and code[at + 1] > 0


def is_throw(step: TracebackType) -> bool:
    """Return whether an exception was thrown into a generator or coroutine that did not run."""
    at = step.tb_lasti
    code = step.tb_frame.f_code.co_code
    waiting = (_opcode("YIELD_VALUE"), _opcode("RETURN_GENERATOR"))
    # From Python 3.13 on a step is behind the instruction where the code waits.
    return any(0 <= place < len(code) and code[place] in waiting for place in (at, at - 2))


@lru_cache(maxsize=4)
def _opcode(name: str) -> int:
    import opcode  # Needed by few programs.

    return opcode.opmap[name]


def take_off_frame(exception: BaseException, alone: bool = False) -> None:
    """Let a traceback be what it were without the function that calls this in its ``except`` clause.

    A bare ``raise`` there adds nothing, so the program sees what it would have seen without ztrace. And
    zerorpc formats each traceback twice, for which Python parses the source line of a step.

    Args:
        exception: with a traceback that begins in the calling function.
        alone: take the frame off even if it is the only one.
    """
    traceback = traceback_of(exception)
    if traceback is None or traceback.tb_frame is not sys._getframe(1):
        return
    # The only step tells where the exception was raised, as of a signal that arrived in the wrapper.
    if alone or traceback.tb_next is not None:
        set_traceback(exception, traceback.tb_next)


def _frame_below(step: TracebackType) -> FrameType:
    """Return the frame that ended with the exception on its way to a step, if it came from one."""
    below = step.tb_next
    return step.tb_frame if below is None else below.tb_frame


def _tag_of(frame: FrameType) -> Tag | None:
    """Return a frame's tag; a debugger's function, which many frames have, tells nothing."""
    tag = frame.f_trace
    return tag if type(tag) is Tag else None
