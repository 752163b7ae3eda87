"""Traceback objects, identified without being kept alive, and left as they would be without ztrace.

One idea: the address of a freed object may be reused at once, and tracebacks take no weak reference. But the
frame of the call below a step ends with the exception, and has room for a tag in ``f_trace``: if the
remembered tag is the frame's, the frame is the same, and so is the traceback. The tag keeps nothing alive,
and is freed with the frame.
"""

import sys
from types import CodeType, FrameType, TracebackType

from ztrace.interpreter import opcodes

#: Steps remembered of one exception: raising it without end must not make its mark grow.
MAX_HEADS = 2000

#: Names in the code of a copied traceback, which consists of ``raise __traceback_maker``.
_REBUILT = ("__traceback_maker",)

#: Descriptors of BaseException, whatever a subclass has in their place.
traceback_of = BaseException.__dict__["__traceback__"].__get__
set_traceback = BaseException.__dict__["__traceback__"].__set__


class Tag:
    """Mark of a frame already seen; stored in ``f_trace``, normally unset."""

    __slots__ = ()

    def __call__(self, *event: object) -> None:
        """Ignore the event, as the function of a debugger that wants no more events of a frame."""


#: Steps at which a traceback began when its exception left a span, for `is_known`: by the address of a step
#: its instruction and tag, and by file, line and name an entry for copies of the step.
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
    """Return whether a step, or the step that it is a copy of, is remembered."""
    head = heads.get(id(step))
    if head is not None:
        return head[0] == step.tb_lasti and head[1] is _tag_of(_frame_below(step))
    code = step.tb_frame.f_code
    return is_copy(code) and (code.co_filename, step.tb_lineno or 0, code.co_name) in heads


def is_known_below(traceback: TracebackType | None, heads: Heads) -> bool:
    """Return whether a frame of a traceback ended with the exception whose heads are remembered.

    A frame that has not ended proves nothing: it may have raised another exception before.
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
    """Return whether code belongs to a copied traceback, as gevent and tblib make for other threads."""
    return code.co_names == _REBUILT


def is_raise(step: TracebackType) -> bool:
    """Return whether a step is at a ``raise`` statement of the program that names an exception."""
    return not is_copy(step.tb_frame.f_code) and opcodes.is_raise(step)


def take_off_frame(exception: BaseException, alone: bool = False) -> None:
    """Remove the step of the function that calls this in its ``except`` clause.

    A bare ``raise`` there adds no step, so the program sees the traceback that it would see without ztrace.
    zerorpc, which formats each traceback twice, has one source line less to parse.

    Args:
        exception: with a traceback that begins in the calling function.
        alone: remove the step even if it is the only one.
    """
    traceback = traceback_of(exception)
    if traceback is None or traceback.tb_frame is not sys._getframe(1):
        return
    # The only step shows where the exception was raised, as by a signal handler within the wrapper.
    if alone or traceback.tb_next is not None:
        set_traceback(exception, traceback.tb_next)


def _frame_below(step: TracebackType) -> FrameType:
    """Return the frame that ended with the exception below a step, the step's own if there is none."""
    below = step.tb_next
    return step.tb_frame if below is None else below.tb_frame


def _tag_of(frame: FrameType) -> Tag | None:
    """Return a frame's tag; the function of a debugger, shared by many frames, is none."""
    tag = frame.f_trace
    return tag if type(tag) is Tag else None  # pyright: ignore[reportReturnType]
