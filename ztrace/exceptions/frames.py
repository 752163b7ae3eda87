"""Records of a traceback's frames, readable without the source.

One idea: omitted frames cost next to nothing. Steps are folded and capped as pairs of frame and line; only
those that remain are looked up, and most are known from earlier exceptions.
"""

import sys
from collections.abc import Sequence
from types import CodeType, FrameType, TracebackType
from typing import NamedTuple

from ztrace.exceptions.ownership import is_in_app
from ztrace.exceptions.program import call_program
from ztrace.exceptions.tracebacks import Heads, is_copy, is_known
from ztrace.libraries import HIDDEN_PACKAGES
from ztrace.records import MAX_CODE, FrameRecord

#: Frames kept of one exception: the way into the program, and the surroundings of the failure.
OUTERMOST, INNERMOST = 10, 40

#: Longest cycle of frames that is folded: mutual recursion rarely has more than two or three functions.
_MAX_CYCLE = 4
#: Callers read at most: a RecursionError has 1,000 unless the program raises the limit.
_MAX_STEPS = 2000
#: Frame records cached: few places raise, and a program has some thousand functions.
_MAX_KNOWN = 4096
#: Stacks cached, and steps of one: a program fails in few places, reached by few paths.
_MAX_STACKS, _MAX_STACK = 512, 100

#: Flag of a generator's code, whose frame has a caller only while it runs.
_GENERATOR = 0x20

#: A frame and its line.
Step = tuple[FrameType, int]

#: Keep frames of ztrace and of RPC libraries, and read local variables; set by `ztrace.agent`.
show_all = False
show_locals = False

_known: dict[tuple[str, int, str, str], FrameRecord] = {}
_stacks: dict[tuple[int, ...], "Stack"] = {}


class Stack(NamedTuple):
    """Record of a traceback, or of its part between two spans.

    Attributes:
        frames: folded and capped, without those of ztrace and RPC libraries.
        in_app: whether one of the frames, omitted or not, is the user's own.
        codes: code of all frames, kept alive because its addresses identify the stack.
    """

    frames: Sequence[FrameRecord]
    in_app: bool
    codes: Sequence[CodeType]


def read_stack(
    traceback: TracebackType | None,
    known: Heads | None = None,
    last: TracebackType | None = None,
) -> Stack:
    """Return the record of a traceback, cached for tracebacks with the same steps.

    Args:
        traceback: as for `read_steps`.
        known: as for `read_steps`.
        last: as for `read_steps`.
    """
    codes: list[CodeType] = []
    places: list[int] = [show_all]
    step = traceback
    while step is not None and not (known and is_known(step, known)):
        frame = step.tb_frame
        codes.append(frame.f_code)
        places += (id(frame.f_code), step.tb_lasti, id(frame.f_globals))
        if step is last:
            break
        step = step.tb_next
    key = tuple(places)
    stack = _stacks.get(key)
    if stack is None or show_locals:
        steps = read_steps(traceback, known, last)
        stack = Stack(record_frames(steps), any(is_own(frame) for frame, _ in steps), codes)
        if len(codes) <= _MAX_STACK and not show_locals and not any(map(is_copy, codes)):
            if len(_stacks) >= _MAX_STACKS:
                _stacks.clear()
            _stacks[key] = stack
    return stack


def read_steps(
    traceback: TracebackType | None,
    known: Heads | None = None,
    last: TracebackType | None = None,
) -> list[Step]:
    """Return a traceback's frames and lines, outermost first.

    Args:
        traceback: its head, where the exception was caught.
        known: steps to stop before.
        last: step to stop after.
    """
    steps: list[Step] = []
    lines: dict[tuple[int, int], int] = {}
    step = traceback
    while step is not None:
        at = step.tb_lasti
        if known and is_known(step, known):
            break
        frame = step.tb_frame
        # CPython computes a line from the beginning of the code each time, and recursion has few lines.
        key = (id(frame.f_code), at)
        line = lines.get(key)
        if line is None:
            lines[key] = line = step.tb_lineno or 0
        steps.append((frame, line))
        if step is last:
            break
        step = step.tb_next
    return steps


def read_callers(frame: FrameType) -> list[Step]:
    """Return the callers of a frame, outermost first."""
    steps: list[Step] = []
    caller = _caller_of(frame)
    while caller is not None and len(steps) < _MAX_STEPS:
        steps.append((caller, caller.f_lineno or 0))
        caller = caller.f_back
    return steps[::-1]


def find_caller(frame: FrameType) -> list[Step]:
    """Return the nearest caller of a frame in the user's own code, as a list of at most one step."""
    caller = _caller_of(frame)
    for _ in range(_MAX_STEPS):
        if caller is None:
            break
        if is_own(caller):
            return [(caller, caller.f_lineno or 0)]
        caller = caller.f_back
    return []


def _caller_of(frame: FrameType) -> FrameType | None:
    """Return the caller of a frame; for a generator that has ended, the caller of this module."""
    caller = frame.f_back
    if caller is None and frame.f_code.co_flags & _GENERATOR:
        caller = sys._getframe(1)
    return caller


def is_own(frame: FrameType) -> bool:
    """Return whether a frame runs the user's own code."""
    return is_in_app(frame.f_code.co_filename, _module_of(frame))


def is_internal(traceback: TracebackType | None) -> bool:
    """Return whether ztrace or an RPC library caught an exception that has passed no code of the user's."""
    if traceback is None or show_all or not _is_hidden(traceback.tb_frame):
        return False
    return not read_stack(traceback).in_app


def record_frames(steps: Sequence[Step]) -> list[FrameRecord]:
    """Return the records of steps, folded and capped, without those of ztrace and RPC libraries."""
    folded = _fold(steps if show_all else _shown(steps))
    left_out = len(folded) - OUTERMOST - INNERMOST
    omitted = 0
    if left_out > 0:
        omitted = sum(weight for _, _, _, weight in folded[OUTERMOST : OUTERMOST + left_out])
        del folded[OUTERMOST : OUTERMOST + left_out]
    return [
        _record(frame, line, repeats, omitted if place == OUTERMOST else 0)
        for place, (frame, line, repeats, _) in enumerate(folded)
    ]


def _shown(steps: Sequence[Step]) -> list[Step]:
    hidden: dict[int, bool] = {}
    shown = []
    for step in steps:
        code = id(step[0].f_code)
        is_hidden = hidden.get(code)
        if is_hidden is None:
            hidden[code] = is_hidden = _is_hidden(step[0])
        if not is_hidden:
            shown.append(step)
    return shown


def _is_hidden(frame: FrameType) -> bool:
    return _module_of(frame).partition(".")[0] in HIDDEN_PACKAGES


def _fold(steps: Sequence[Step]) -> list[tuple[FrameType, int, int, int]]:
    """Return each step with its repeats, alone or as the end of a cycle, and the steps that it stands for."""
    keys = [(id(frame.f_code), line) for frame, line in steps]
    count = len(keys)
    if len(set(keys)) == count:
        return [(frame, line, 0, 1) for frame, line in steps]
    folded = []
    place = 0
    while place < count:
        key, length, repeats = keys[place], 1, 0
        for cycle in range(1, _MAX_CYCLE + 1):
            end = place + cycle
            if end >= count or keys[end] != key:
                continue
            again = keys[place:end]
            while keys[end : end + cycle] == again:
                end += cycle
            repeats = (end - place) // cycle - 1
            if repeats:
                length, place = cycle, end - cycle  # The innermost cycle is kept.
                break
        for frame, line in steps[place : place + length - 1]:
            folded.append((frame, line, 0, 1))
        frame, line = steps[place + length - 1]
        folded.append((frame, line, repeats, 1 + repeats * length))
        place += length
    return folded


def _record(frame: FrameType, line: int, repeats: int, omitted: int) -> FrameRecord:
    code = frame.f_code
    function = code.co_qualname
    if function == "<module>":
        function = code.co_name  # A copied traceback has the name alone.
    key = (code.co_filename, line, function, _module_of(frame))
    record = _known.get(key)
    if record is None:
        source = _read_line(key[0], line, frame)
        record = FrameRecord(key[0], line, key[2], key[3], source, is_in_app(key[0], key[3]))
        if len(_known) >= _MAX_KNOWN:
            _known.clear()
        _known[key] = record
    if repeats or omitted:
        record = record._replace(repeats=repeats, omitted=omitted)
    if show_locals and record.in_app:
        from ztrace.exceptions.locals import read_locals

        record = record._replace(locals=read_locals(frame))
    return record


def _read_line(file: str, line: int, frame: FrameType) -> str:
    import linecache  # Not needed by programs without exceptions.

    if len(linecache.cache.get(file, ())) == 4:  # Read before.
        code = linecache.getline(file, line)
    else:
        # The module's loader, which may be the program's, is asked for sources that are in no file.
        code = call_program(lambda at: linecache.getline(file, at, frame.f_globals), line, "")
    return str.__str__(code).strip()[:MAX_CODE]


def _module_of(frame: FrameType) -> str:
    name = dict.get(frame.f_globals, "__name__")
    return name if type(name) is str else ""
