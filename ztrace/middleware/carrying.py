"""Inheritance of the current span by work that runs elsewhere: threads, executors, greenlets.

One idea: only ztrace's own context variable is carried, never the program's. Work inherits the span that was
current where it was started or submitted, except for the long-lived loops of libraries, which would give all
later work of a connection or a pool to the request that happened to start it. Spans that begin long after the
inherited span has ended are traces of their own (`ztrace.lifecycle.parts.INHERITED_NS`).
"""

import functools
import os
from collections.abc import Callable
from types import FrameType, FunctionType, MethodType
from typing import Any

from ztrace import spans
from ztrace.context import Context, get_current, make_current
from ztrace.exceptions.frames import is_own
from ztrace.exceptions.ownership import is_in_app
from ztrace.exceptions.tracebacks import take_off_frame
from ztrace.settings import is_off

#: Callers looked at to find the code that starts a thread or greenlet: a few levels of a library.
_MAX_CALLERS = 8
#: Partials, methods and wrappers of decorators around a function that are looked through.
_MAX_WRAPPERS = 8


def is_enabled() -> bool:
    """Return whether context is to be carried: ``ZTRACE_CARRY=off`` switches it off."""
    return not is_off(os.environ.get("ZTRACE_CARRY"))


def inherited_span() -> Context | None:
    """Return the span that work started here inherits, None if there is none."""
    return None if spans.publisher is None else get_current()


class Carried:
    """A callable that runs with a span current, and restores what was current in its thread before."""

    __slots__ = ("_function", "_span")

    def __init__(self, function: Callable[..., Any], span: Context) -> None:
        self._function = function
        self._span = span

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Callable[..., Any]]]:
        """Pickle the bare function: a span means nothing in another process or interpreter."""
        return _itself, (self._function,)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function with its span current."""
        before = get_current()
        make_current(self._span)
        try:
            return self._function(*args, **kwargs)
        except BaseException as exception:
            take_off_frame(exception)
            raise
        finally:
            make_current(before)


def _itself(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def carry(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with the current span bound to it, or unchanged if no span is current."""
    span = inherited_span()
    return function if span is None else Carried(function, span)


def is_users_work(function: object, starter: FrameType | None, machinery: str) -> bool:
    """Return whether a thread or greenlet does the user's work: it runs user code, or user code starts it.

    Args:
        function: that it runs.
        starter: frame that starts it.
        machinery: name of the top-level package that starts threads or greenlets for its callers.
    """
    inner = _innermost(function)
    if type(inner) is FunctionType and is_in_app(inner.__code__.co_filename, inner.__module__ or ""):
        return True
    for _ in range(_MAX_CALLERS):
        if starter is None:
            return False
        name = dict.get(starter.f_globals, "__name__")
        if type(name) is not str or name.partition(".")[0] != machinery:
            return is_own(starter)
        starter = starter.f_back
    return False


def _innermost(function: Any) -> Any:
    """Return the function in methods, partials and the wrappers of decorators, or any other callable."""
    for _ in range(_MAX_WRAPPERS):
        kind = type(function)  # `isinstance` would ask the object for its class.
        if issubclass(kind, functools.partial):
            function = function.func
        elif kind is MethodType:
            function = function.__func__
        elif kind is FunctionType and "__wrapped__" in function.__dict__:
            function = function.__dict__["__wrapped__"]
        else:
            break
    return function
