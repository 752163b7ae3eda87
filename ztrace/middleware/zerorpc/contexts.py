"""Registry of traced zerorpc contexts: those with ztrace's middleware."""

from typing import Any


class Registered:
    """Marker base class of ztrace's middleware."""


def is_traced(context: Any) -> bool:
    """Return whether a context has ztrace's middleware, and cache a positive answer in the context."""
    traced = any(isinstance(middleware, Registered) for middleware in context._middlewares)
    if traced:
        context.__dict__["_ztrace"] = True  # A middleware is never removed.
    return traced
