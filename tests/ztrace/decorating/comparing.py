"""Stand-ins and facts for comparing a decorated object with the undecorated one."""

import asyncio
import inspect
import typing
from collections.abc import Callable
from typing import Any

#: Decorator under test, or `bare` in its place.
Decorator = Callable[[Any], Any]
#: Use of a decorated object; returns what the program sees.
Case = Callable[[Decorator], list[object]]


def bare(decorated: Any) -> Any:
    """Return the object undecorated, for comparison."""
    return decorated


def add(first: int, second: int = 1) -> int:
    """Return the sum of two numbers."""
    return first + second


async def add_later(first: int, second: int = 1) -> int:
    """Return the sum of two numbers, later."""
    await asyncio.sleep(0)
    return first + second


def facts(function: Any) -> list[object]:
    """Return the facts about a callable that programs and frameworks ask for."""
    is_routine = inspect.isroutine(function)
    return [
        [getattr(function, name, None) for name in ("__name__", "__qualname__", "__module__", "__doc__")],
        str(inspect.signature(function)),
        getattr(function, "__isabstractmethod__", None),
        callable(function),
        inspect.isfunction(function),
        inspect.ismethod(function),
        is_routine,
        inspect.iscoroutinefunction(function),
        inspect.isgeneratorfunction(function),
        inspect.isasyncgenfunction(function),
        typing.get_type_hints(function) if is_routine else None,
        inspect.unwrap(function).__code__ if is_routine else None,
        inspect.getsource(function) if is_routine else None,
    ]
