"""Middleware for threads: one with the user's work inherits the span that is current where it starts."""

import functools
import sys
import threading
from collections.abc import Callable
from typing import Any

from ztrace import diagnostics
from ztrace.context import Context
from ztrace.exceptions.tracebacks import take_off_frame
from ztrace.middleware.carrying import Carried, inherited_span, is_enabled, is_users_work


def install() -> None:
    """Patch ``threading.Thread.start``, once."""
    if is_enabled():
        _wrap_threads()


@functools.cache
def _wrap_threads() -> None:
    threading.Thread.start = _wrap_start(threading.Thread.start)  # type: ignore[method-assign]


def _wrap_start(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def start(self: threading.Thread) -> None:
        span = inherited_span()
        carried = span is not None and _prepare(self, span)
        try:
            original(self)
        except BaseException as exception:
            take_off_frame(exception)
            if carried:
                self.__dict__.pop("run", None)
            raise

    return start


class _Run(Carried):
    """The ``run`` of a thread that has not started; it removes itself from the thread first."""

    __slots__ = ("_thread",)

    def __init__(self, thread: threading.Thread, span: Context) -> None:
        super().__init__(thread.run, span)
        self._thread = thread

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        self._thread.__dict__.pop("run", None)
        del self._thread  # Or the thread would be kept alive by its own frame.
        try:
            return super().__call__(*args, **kwargs)
        except BaseException as exception:
            take_off_frame(exception)
            raise


def _prepare(thread: threading.Thread, span: Context) -> bool:
    """Replace the ``run`` of a thread that does the user's work by one with a span current."""
    try:
        # An instance's own ``run`` is left alone: other code has wrapped it.
        if "run" in thread.__dict__:
            return False
        function = getattr(thread, "_target", None) or thread.run
        if not is_users_work(function, sys._getframe(2), "threading"):
            return False
        thread.__dict__["run"] = _Run(thread, span)
        return True
    except Exception:
        diagnostics.contain("threads")
        return False
