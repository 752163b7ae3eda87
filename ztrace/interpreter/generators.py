"""Generators that a loop reads: their frames, and whether one of them waits for its reader.

One idea: a span that a generator holds open across a ``yield`` is current for the generator's own code alone.
The reader in a ``for`` or ``async for`` loop continues with its own work at each ``yield``, and may never
return. A generator that is advanced by a call instead, as context managers and fixtures are, exists to hold
its span open around the work of others, so its span stays current.
"""

from types import FrameType
from typing import Final

from ztrace.interpreter.opcodes import opcode_of

#: Flags of the code of generators and asynchronous generators, as in `inspect`.
GENERATOR_FLAGS: Final = 0x20 | 0x200

#: Callers looked at to find the generator around a span: context managers within others, and their libraries.
_MAX_CALLERS = 32
#: Bits of RESUME's argument that tell what a generator resumes from, and their value after an ``await``.
#: Source: CPython, documentation of `dis`, opcode RESUME.
_RESUMED_FROM, _AWAIT = 3, 3


def find_generator(frame: FrameType | None) -> FrameType | None:
    """Return the innermost frame of a generator that a loop reads, from ``frame`` outwards."""
    for _ in range(_MAX_CALLERS):
        if frame is None:
            break
        caller = frame.f_back
        if frame.f_code.co_flags & GENERATOR_FLAGS and caller is not None and _is_at_loop(caller):
            return frame
        frame = caller
    return None


def is_waiting(frame: FrameType) -> bool:
    """Return whether a generator has yielded to its reader: it does not run, and awaits nothing itself."""
    if frame.f_back is not None:
        return False
    code, index = frame.f_code.co_code, frame.f_lasti
    resume = opcode_of("RESUME")
    # Up to 3.12 the last instruction is the yield, and from 3.13 on the RESUME after it.
    while index < len(code) and code[index] != resume:
        index += 2
    return index >= len(code) or code[index + 1] & _RESUMED_FROM != _AWAIT


def _is_at_loop(frame: FrameType) -> bool:
    """Return whether a frame takes the next item in a ``for`` or ``async for`` loop."""
    code, index = frame.f_code.co_code, frame.f_lasti
    while code[index] == opcode_of("CACHE"):
        index -= 2
    if code[index] != opcode_of("SEND"):
        return code[index] == opcode_of("FOR_ITER")
    index -= 2  # The None that is sent first; before it stands where the awaitable came from.
    while code[index] in (opcode_of("LOAD_CONST"), opcode_of("EXTENDED_ARG")):
        index -= 2
    return code[index] == opcode_of("GET_ANEXT")
