"""Bytecode instructions: their numbers, and what a frame of a traceback was at when it was left."""

import functools
from types import TracebackType


@functools.cache
def opcode_of(name: str) -> int:
    """Return the number of an instruction; -1, which no code has, for one that this Python does not know."""
    import opcode  # Needed by few programs.

    return opcode.opmap.get(name, -1)


def prepare() -> None:
    """Import the module of the numbers now: guards need it where no descriptor is left to read it with."""
    for name in ("RAISE_VARARGS", "YIELD_VALUE", "RETURN_GENERATOR"):
        opcode_of(name)


def is_raise(step: TracebackType) -> bool:
    """Return whether a step of a traceback is at a ``raise`` statement that names an exception."""
    at = step.tb_lasti
    code = step.tb_frame.f_code.co_code  # Without the interpreter's specialized instructions.
    return 0 <= at < len(code) - 1 and code[at] == opcode_of("RAISE_VARARGS") and code[at + 1] > 0


def is_throw(step: TracebackType) -> bool:
    """Return whether an exception was thrown into a generator or coroutine that did not run."""
    at = step.tb_lasti
    code = step.tb_frame.f_code.co_code
    waiting = (opcode_of("YIELD_VALUE"), opcode_of("RETURN_GENERATOR"))
    # From Python 3.13 on a step is behind the instruction where the code waits.
    return any(0 <= place < len(code) and code[place] in waiting for place in (at, at - 2))
