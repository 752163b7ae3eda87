"""Registry of traced zerorpc contexts: those with ztrace's middleware, whose hooks have fixed places.

One idea: zerorpc calls hooks in the order of registration, and stops at one that raises. What ztrace loses to
another middleware then depends on who was registered first. So ztrace's hooks are moved to the places where
they lose nothing: those that start a span or read a reply come first, those that send come last.
"""

import functools
import gc
from collections.abc import Callable
from types import MethodType
from typing import Any

from ztrace import diagnostics
from ztrace.exceptions.tracebacks import take_off_frame

#: Hooks of ztrace that run before those of other middleware; the others run after them.
_FIRST = frozenset(
    (
        "get_task_context",
        "load_task_context",
        "server_before_exec",
        "client_after_request",
        "server_inspect_exception",
    )
)


class Registered:
    """Base class of ztrace's middleware.

    Attributes:
        is_alone: no other middleware is registered beside it.
    """

    is_alone = True


def is_traced(context: Any) -> bool:
    """Return whether a context has ztrace's middleware, and cache a positive answer in the context."""
    if context.__dict__.get("_ztrace"):
        return True
    if not any(isinstance(middleware, Registered) for middleware in context._middlewares):
        return False
    context.__dict__["_ztrace"] = True  # A middleware is never removed.
    _place_hooks(context)
    return True


def wrap_register(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Context.register_middleware``, after which ztrace's hooks have to be moved."""

    @functools.wraps(original)
    def register_middleware(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            count = original(self, *args, **kwargs)
        except BaseException as exception:
            take_off_frame(exception)
            raise
        if is_traced(self):
            _place_hooks(self)
        return count

    return register_middleware


def _place_hooks(context: Any) -> None:
    try:
        for middleware in context._middlewares:
            if isinstance(middleware, Registered):
                middleware.is_alone = all(isinstance(each, Registered) for each in context._middlewares)
        for name, hooks in context._hooks.items():
            ours = [hook for hook in hooks if _is_ours(hook)]
            if not ours or len(ours) == len(hooks):
                continue
            others = [hook for hook in hooks if not _is_ours(hook)]
            # A new list: another greenlet may be going through the old one.
            context._hooks[name] = [*ours, *others] if name in _FIRST else [*others, *ours]
    except Exception:
        diagnostics.contain("zerorpc")


def _is_ours(hook: Any) -> bool:
    return type(hook) is MethodType and isinstance(hook.__self__, Registered)


def find_instances(cls: type) -> list[Any]:
    """Return the existing objects of a class and its subclasses."""
    classes = [cls]
    for each in classes:
        classes += type.__subclasses__(each)
    return [found for found in gc.get_referrers(*classes) if type(found) in classes]
