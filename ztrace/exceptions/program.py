"""Calls into the program's own code, for the texts of exceptions and the sources of loaders.

One idea: whatever the code does, the program goes on as if it had not been called. An exception that the code
raises is discarded, and a span that it leaves open is not current afterwards. But a signal, a kill or a
timeout that arrives meanwhile is for the program, and would have arrived without ztrace as well.
"""

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from ztrace.context import get_current, set_current
from ztrace.exceptions.tracebacks import is_raise, is_throw, set_traceback, traceback_of

#: Flag of code with an argument ``*args``.
_VARARGS = 0x04
#: Exceptions that code raises by a call, and that no other thread or greenlet sends as a rule.
_BY_CALL = (Exception, SystemExit, GeneratorExit)

Subject = TypeVar("Subject")
Answer = TypeVar("Answer")


def call_program(function: Callable[[Subject], Answer], subject: Subject, otherwise: Answer) -> Answer:
    """Return the result of a function that runs the program's code.

    Args:
        function: such as `str`.
        subject: its only argument.
        otherwise: returned if the function raises.

    Raises:
        BaseException: if it arrived from outside while the function ran.
    """
    current = get_current()
    traceback = traceback_of(subject) if issubclass(type(subject), BaseException) else None
    try:
        return function(subject)
    except BaseException as error:
        if is_interrupt(error) and not _put_off(error):
            raise
        return otherwise
    finally:
        if get_current() is not current:
            set_current(current)
        if traceback is not None and traceback_of(subject) is not traceback:
            set_traceback(subject, traceback)  # Its own text has raised it.


def is_interrupt(error: BaseException) -> bool:
    """Return whether an exception arrived from outside, by a signal, a kill or a timeout.

    Code that fails by itself does so with an Exception, by a ``raise`` statement, or by a call that exits.
    """
    innermost = traceback_of(error)
    if innermost is None:
        return False
    while (below := innermost.tb_next) is not None:
        if _is_handler_of(below, innermost):
            return True
        innermost = below
    cls = type(error)
    if issubclass(cls, _BY_CALL) or is_raise(innermost):
        return False
    return issubclass(cls, KeyboardInterrupt) or not is_throw(innermost)


def _is_handler_of(step: TracebackType, above: TracebackType) -> bool:
    """Return whether a step is in the handler of a signal that interrupted the step above it."""
    frame = step.tb_frame
    code = frame.f_code
    has_rest = bool(code.co_flags & _VARARGS)
    if not (code.co_argcount or has_rest):
        return False
    # A handler is given the number of the signal and the interrupted frame, alone or behind others.
    names, values = code.co_varnames, frame.f_locals
    given: list[Any] = [values.get(name) for name in names[: code.co_argcount]]
    if has_rest:
        rest = values.get(names[code.co_argcount + code.co_kwonlyargcount])
        given += rest if type(rest) is tuple else ()
    return any(value is above.tb_frame for value in given)


def _put_off(error: BaseException) -> bool:
    """Restart a gevent timeout that ended a wait of code called by ztrace, and return whether it is one."""
    gevent = sys.modules.get("gevent")
    if not issubclass(type(error), getattr(gevent, "Timeout", ())):
        return False
    error.start()  # type: ignore[attr-defined]
    return True
