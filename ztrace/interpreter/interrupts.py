"""Exceptions that reach ztrace's code from outside: of signal handlers, timeouts, tracers and other threads.

One idea: an interrupt is the program's, so no guard of ztrace's keeps one, and it may arrive at any
instruction. `is_interrupt` tells interrupts from failures by the frames of the traceback. `cover` closes the
gaps that the compiler leaves in a ``try`` statement around a function's whole body: the first instruction,
where CPython runs pending signal handlers, is outside.
"""

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final, TypeVar

from ztrace.interpreter.opcodes import is_raise, is_throw

Function = TypeVar("Function", bound=Callable[..., Any])

#: Latest Python whose exception tables are known to have the layout that `cover` reads and writes.
_LATEST: Final = (3, 14)
#: Flag of code with an argument ``*args``.
_VARARGS: Final = 0x04
#: First part of the file names of the code that imports modules.
_IMPORTS: Final = "<frozen importlib."
#: Events at which a trace function is called before an instruction.
_EVENTS: Final = ("line", "opcode")
#: Packages whose functions switch between greenlets.
_SWITCHES: Final = frozenset(("gevent", "greenlet", "eventlet"))
#: Packages, beside the standard library, whose exceptions are raised by calls that ztrace makes.
_CALLED: Final = frozenset(("ztrace", "zmq", "msgpack", "opentelemetry"))

_traceback_of = BaseException.__dict__["__traceback__"].__get__
_arguments_of = BaseException.__dict__["args"].__get__


def is_interrupt(error: BaseException) -> bool:
    """Return whether a guard of ztrace's code is to raise an exception again, and not to contain it."""
    return not issubclass(type(error), Exception) or has_arrived(error)


def has_arrived(error: BaseException) -> bool:
    """Return whether an exception arrived from outside the code that was left with it.

    A signal handler or tracer has raised it in the interrupted frame, it was thrown into a waiting
    greenlet, or another thread has sent it (``PyThreadState_SetAsyncExc``). Code that fails by itself does
    so by a ``raise`` statement, by a call that raises an Exception, or by a call that exits.
    """
    innermost = _traceback_of(error)
    if innermost is None:
        return False
    while (below := innermost.tb_next) is not None:
        if _is_handler(below.tb_frame, innermost.tb_frame):
            return True
        innermost = below
    cls = type(error)
    if _is_switch(innermost.tb_frame):
        return True
    if is_raise(innermost) or issubclass(cls, (SystemExit, GeneratorExit)):
        return False
    if issubclass(cls, Exception):
        return _was_sent(error)
    return issubclass(cls, KeyboardInterrupt) or not is_throw(innermost)


def is_traced(error: BaseException) -> bool:
    """Return whether a trace function raised an exception: it alone can raise before any instruction."""
    step = _traceback_of(error)
    while step is not None and (below := step.tb_next) is not None:
        if _is_handler(below.tb_frame, step.tb_frame):
            return any(type(value) is str and value in _EVENTS for value in _arguments(below.tb_frame))
        step = below
    return False


def _is_handler(frame: FrameType, interrupted: FrameType) -> bool:
    """Return whether a frame is a signal handler's or tracer's: it was called with the interrupted frame."""
    return any(_leads_to(value, interrupted) for value in _arguments(frame))


def _leads_to(value: object, interrupted: FrameType) -> bool:
    """Return whether a value is a frame, or that of an import in it, which tracebacks may leave out."""
    while value is not interrupted:
        if type(value) is not FrameType or not value.f_code.co_filename.startswith(_IMPORTS):
            return False
        value = value.f_back
    return True


def _arguments(frame: FrameType) -> list[Any]:
    """Return the positional arguments of a frame."""
    code = frame.f_code
    has_rest = bool(code.co_flags & _VARARGS)
    if not (code.co_argcount or has_rest):
        return []
    names, values = code.co_varnames, frame.f_locals
    given: list[Any] = [values.get(name) for name in names[: code.co_argcount]]
    if has_rest:
        rest = values.get(names[code.co_argcount + code.co_kwonlyargcount])
        given += rest if type(rest) is tuple else ()
    return given


def _is_switch(frame: FrameType) -> bool:
    """Return whether a greenlet waits in a frame, so that what was thrown into it surfaces there."""
    module = dict.get(frame.f_globals, "__name__")
    package = module.partition(".")[0] if type(module) is str else ""
    return package in _SWITCHES and frame.f_code.co_name.endswith("switch")


def _was_sent(error: BaseException) -> bool:
    """Return whether another thread has sent an Exception that no ``raise`` statement has raised.

    Functions written in C raise builtin exceptions, and those of their own packages, with arguments. A sent
    exception is one that the interpreter has made of its class, without any.
    """
    cls = type(error)
    package = str(cls.__module__).partition(".")[0]
    if package not in sys.stdlib_module_names and package not in _CALLED:
        return True
    return not _arguments_of(error) and not issubclass(cls, (MemoryError, StopIteration))


def cover(function: Function) -> Function:
    """Extend the ``try`` statement that is a function's whole body over its entry and its returns.

    A function is left as it is where its exception table does not have the known layout.

    Source: CPython, Objects/exception_handling_notes.txt; InternalDocs/exception_handling.md since 3.14.
    """
    code = function.__code__
    entries = list(_read_table(code.co_exceptiontable))
    if sys.version_info[:2] > _LATEST or _write_table(entries) != code.co_exceptiontable:
        return function
    covered: list[tuple[int, int, int, int]] = []
    outermost: tuple[int, int] | None = None
    for start, end, target, depth in entries:
        if outermost is None:
            start, outermost = 0, (target, depth)
        elif covered[-1][1] < start and covered[-1][2:] == outermost:
            covered[-1] = (covered[-1][0], start, *outermost)
        covered.append((start, end, target, depth))
    function.__code__ = code.replace(co_exceptiontable=_write_table(covered))
    return function


def _read_table(table: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield the start, end, target and depth of each entry of an exception table, counted in instructions."""
    numbers: list[int] = []
    number = 0
    for byte in table:
        number = number << 6 | byte & 63
        if not byte & 64:
            numbers.append(number)
            number = 0
    for start, length, target, depth in zip(*[iter(numbers)] * 4, strict=False):
        yield start, start + length, target, depth


def _write_table(entries: list[tuple[int, int, int, int]]) -> bytes:
    table = bytearray()
    for start, end, target, depth in entries:
        first = len(table)
        for number in (start, end - start, target, depth):
            shift = max(0, number.bit_length() - 1) // 6 * 6
            while shift:
                table.append(64 | number >> shift & 63)
                shift -= 6
            table.append(number & 63)
        table[first] |= 128
    return bytes(table)
