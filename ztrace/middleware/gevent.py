"""Middleware for gevent: a greenlet with the user's work inherits the span current where it is spawned."""

import functools
import sys
from collections.abc import Callable
from contextvars import Context
from typing import Any

from gevent.greenlet import Greenlet
from gevent.threadpool import ThreadPool

from ztrace import diagnostics, spans
from ztrace.context import get_current, make_current
from ztrace.middleware.carrying import carry, is_enabled, is_users_work


def install() -> None:
    """Register a spawn callback with gevent, and patch its thread pool, once."""
    if is_enabled():
        _hook_spawning()


@functools.cache
def _hook_spawning() -> None:
    Greenlet.add_spawn_callback(_inherit)
    ThreadPool.spawn = _wrap_spawn(ThreadPool.spawn)


def _inherit(greenlet: Any) -> None:
    """Start a greenlet with the current span in a context that is otherwise as empty as gevent's own."""
    span = get_current()
    if span is None or spans.publisher is None or greenlet.gr_context is not None:
        return
    try:
        if is_users_work(getattr(greenlet, "_run", None), sys._getframe(1), "gevent"):
            context = Context()
            context.run(make_current, span)
            greenlet.gr_context = context
    except Exception:
        diagnostics.contain("gevent")


def _wrap_spawn(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def spawn(self: Any, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return original(self, carry(func), *args, **kwargs)

    return spawn
