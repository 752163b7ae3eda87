"""``@ztrace.trace``: a span for every call of a function.

Plain functions, coroutine functions and generators of both sorts keep their nature. A generator's span lasts
from its first step to its last, and is current only while the generator's own code runs.
"""

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, TypeVar, cast, overload

from ztrace.spans import current_span, make_current, span

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
            _wrap(function, name or function.__qualname__.replace("<locals>.", ""), kind, attributes),
        )

    if callable(function):
        name = None
        return decorate(function)
    name = function
    return decorate


def _wrap(
    function: Callable[..., Any], name: str, kind: str, attributes: dict[str, Any]
) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def async_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            traced = span(name, kind=kind, **attributes)
            traced.start(activate=False)
            steps = function(*args, **kwargs)
            step, sent = steps.asend, None
            try:
                while True:
                    before = current_span()
                    make_current(before if traced.ended else traced)
                    try:
                        item = await step(sent)
                    except StopAsyncIteration:
                        break
                    finally:
                        make_current(before)
                    try:
                        step, sent = steps.asend, (yield item)
                    except GeneratorExit:
                        await steps.aclose()
                        raise
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
            traced = span(name, kind=kind, **attributes)
            traced.start(activate=False)
            steps = function(*args, **kwargs)
            step, sent = steps.send, None
            try:
                while True:
                    before = current_span()
                    make_current(before if traced.ended else traced)
                    try:
                        item = step(sent)
                    except StopIteration as end:
                        result = end.value
                        break
                    finally:
                        make_current(before)
                    try:
                        step, sent = steps.send, (yield item)
                    except GeneratorExit:
                        steps.close()
                        raise
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
