"""Which zerorpc contexts are traced: those that ztrace's middleware is registered with."""

from typing import Any


class Registered:
    """What ztrace's middleware is known by among the others of a context."""


def is_traced(context: Any) -> bool:
    """Tell whether a context has ztrace's middleware; what every call asks first is kept in the context."""
    traced = any(isinstance(middleware, Registered) for middleware in context._middlewares)
    if traced:
        context.__dict__["_ztrace"] = True  # A middleware is never removed.
    return traced
