"""Calls into the program's own code, for the texts of exceptions and the sources of loaders.

One idea: the program continues as if the code had not been called, whatever the code does. An exception that
the code raises is discarded, and a span that it leaves open is not current afterwards. But a signal, a kill
or a timeout that arrives meanwhile is for the program, and would have arrived without ztrace as well.
"""

import sys
from collections.abc import Callable
from typing import TypeVar

from ztrace.context import get_current, make_current
from ztrace.exceptions.tracebacks import set_traceback, traceback_of
from ztrace.interpreter.interrupts import has_arrived

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
        if has_arrived(error) and not _put_off(error):
            raise
        return otherwise
    finally:
        if get_current() is not current:
            make_current(current)
        if traceback is not None and traceback_of(subject) is not traceback:
            set_traceback(subject, traceback)  # Its own text has raised it.


def _put_off(error: BaseException) -> bool:
    """Restart a gevent timeout that ended a wait of code called by ztrace, and return whether it is one."""
    gevent = sys.modules.get("gevent")
    if not issubclass(type(error), getattr(gevent, "Timeout", ())):
        return False
    error.start()  # type: ignore[attr-defined]
    return True
