"""``@ztrace.trace``: a span for every call of a function.

Plain functions, coroutine functions and generators of both sorts keep their nature. A generator's span lasts
from its first step to its last, and is current only while the generator's own code runs.
"""

import functools
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, TypeVar, cast, overload

from ztrace.context import Context, current_span, make_current
from ztrace.spans import span

Function = TypeVar("Function", bound=Callable[..., Any])


@overload
def trace(function: Function, /) -> Function: ...
@overload
def trace(
    name: str | None = None, /, *, kind: str = "internal", **attributes: Any
) -> Callable[[Function], Function]: ...
def trace(
    function: Callable[..., Any] | str | None = None, /, *, kind: str = "internal", **attributes: Any
) -> Any:
    """Trace a function: ``@ztrace.trace``, or ``@ztrace.trace("name", kind="server", shard=3)``.

    Args:
        function: the function, or the span's name; by default its own qualified name.
        kind: as for `ztrace.span`.
        attributes: set on every span.
    """

    def decorate(function: Function) -> Function:
        return cast(
            Function,
            _wrap(function, name or _name_of(function), kind, attributes),
        )

    if callable(function):
        name = None
        return decorate(function)
    name = function
    return decorate


def _name_of(function: Callable[..., Any]) -> str:
    """Return the qualified name; a partial function, or an object that can be called, has its type's."""
    name: str = getattr(function, "__qualname__", type(function).__qualname__)
    return name.replace("<locals>.", "")


def _wrap(
    function: Callable[..., Any], name: str, kind: str, attributes: dict[str, Any]
) -> Callable[..., Any]:
    import inspect  # Not needed by programs that decorate nothing.

    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def async_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            steps = function(*args, **kwargs)
            traced = span(name, kind=kind, **attributes)
            inside: Context | None = traced.start(activate=False)
            step, sent = steps.asend, None
            try:
                while True:
                    before = current_span()
                    make_current(before if traced.ended else inside)
                    try:
                        item = await step(sent)
                    except StopAsyncIteration:
                        break
                    finally:
                        inside = current_span()
                        make_current(before)
                    try:
                        step, sent = steps.asend, (yield item)
                    except BaseException as thrown:
                        step, sent = steps.athrow, thrown
            except BaseException as exception:
                traced.end(exception)
                raise
            traced.end()

        return async_generator

    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            steps = function(*args, **kwargs)
            traced = span(name, kind=kind, **attributes)
            inside: Context | None = traced.start(activate=False)
            step, sent = steps.send, None
            try:
                while True:
                    before = current_span()
                    make_current(before if traced.ended else inside)
                    try:
                        item = step(sent)
                    except StopIteration as end:
                        result = end.value
                        break
                    finally:
                        inside = current_span()
                        make_current(before)
                    try:
                        step, sent = steps.send, (yield item)
                    except BaseException as thrown:
                        step, sent = steps.throw, thrown
            except BaseException as exception:
                traced.end(exception)
                raise
            traced.end()
            return result

        return generator

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            with span(name, kind=kind, **attributes):
                return await function(*args, **kwargs)

        return coroutine

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with span(name, kind=kind, **attributes):
            return function(*args, **kwargs)

    return call
