"""``@ztrace.trace``: a span for every call of a function.

One idea: the decorated object keeps its kind. Each sort of function is wrapped by a function of the same
sort, here. Descriptors and partial functions are rebuilt around the wrapped function, in `descriptors`. Every
other object is returned unchanged, with a warning.
"""

import sys
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from types import CoroutineType
from types import coroutine as make_awaitable
from typing import Any, Final, TypeVar, overload

from ztrace import diagnostics
from ztrace.context import Context, get_current, make_current
from ztrace.decorating.descriptors import (
    flags_of,
    is_entering,
    is_function,
    keep_identity,
    rebuild,
    rebuild_manager,
    wraps_coroutine_function,
)
from ztrace.exceptions.tracebacks import take_off_frame
from ztrace.records import KIND_NUMBERS
from ztrace.spans import DEFAULT_KIND, Span, span

Decorated = TypeVar("Decorated")

#: Flags of code objects: `inspect` has names for them, and takes long to import.
_GENERATOR, _COROUTINE, _AWAITABLE_GENERATOR, _ASYNC_GENERATOR = 0x20, 0x80, 0x100, 0x200

#: Types of a first argument that is a name, valid or not, instead of the object to decorate.
_NAMES: Final = (str, bytes, int, float, tuple, list, dict, set, frozenset, type(None))


@overload
def trace(
    positional_name: str | None = None,
    /,
    *,
    name: str | None = None,
    kind: str = DEFAULT_KIND,
    **attributes: Any,
) -> Callable[[Decorated], Decorated]: ...
@overload
def trace(
    function: Decorated, /, *, name: str | None = None, kind: str = DEFAULT_KIND, **attributes: Any
) -> Decorated: ...
def trace(function: Any = None, /, *, name: Any = None, kind: str = DEFAULT_KIND, **attributes: Any) -> Any:
    """Trace a function: ``@ztrace.trace``, or ``@ztrace.trace("name", kind="server", shard=3)``.

    Args:
        function: the function, or the span's name.
        name: of the span; by default the function's qualified name.
        kind: as for `ztrace.span`.
        attributes: set on every span.

    Returns:
        An object of the same kind as the function; the same object if it cannot be traced.
    """
    is_name = issubclass(type(function), _NAMES) and not callable(function)
    if is_name and function is not None:
        name = function

    def decorate(decorated: Any) -> Any:
        try:
            return _trace(decorated, _valid_name(name), _valid_kind(kind), attributes)
        except Exception:
            diagnostics.contain("trace")
            return decorated

    return decorate if is_name else decorate(function)


def _valid_name(name: Any) -> str | None:
    if name is None or issubclass(type(name), str):
        return name  # type: ignore[no-any-return]
    diagnostics.warn(f"ztrace.trace ignores a name of type {type(name).__name__}: give a str")
    return None


def _valid_kind(kind: Any) -> str:
    if issubclass(type(kind), str) and kind in KIND_NUMBERS:
        return kind  # type: ignore[no-any-return]
    diagnostics.warn(f"ztrace.trace ignores an unknown kind: give one of {', '.join(KIND_NUMBERS)}")
    return DEFAULT_KIND


def _trace(decorated: Any, name: str | None, kind: str, attributes: dict[str, Any]) -> Any:
    """Return a traced object of the same kind, or the same object if it cannot be traced."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        wrapper = _wrap(function, flags_of(function), name or _name_of(function), kind, attributes)
        return keep_identity(wrapper, function)

    def trace_inner(inner: Any) -> Any:
        return _trace(inner, name, kind, attributes)

    if is_function(decorated):
        return rebuild_manager(decorated, trace_inner) or wrap(decorated)
    return rebuild(decorated, trace_inner, wrap)


def _name_of(function: Callable[..., Any]) -> str:
    """Return the qualified name of a function, or of the type of a partial function."""
    name: str = getattr(function, "__qualname__", type(function).__qualname__)
    return name.replace("<locals>.", "")


def _wrap(
    function: Callable[..., Any], flags: int, name: str, kind: str, attributes: dict[str, Any]
) -> Callable[..., Any]:
    """Return a function of the same sort, by its flags, that calls the function within a span."""
    if flags & _ASYNC_GENERATOR:

        async def async_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            steps = function(*args, **kwargs)
            traced = span(name, kind=kind, **attributes)
            in_block = is_entering(sys._getframe(1))
            inside: Context | None = traced.start(activate=in_block)
            step, sent = steps.asend, None
            try:
                while True:
                    before = get_current()
                    if not in_block:
                        make_current(before if traced.ended else inside)
                    try:
                        item = await step(sent)
                    except StopAsyncIteration:
                        break
                    finally:
                        if not in_block:
                            inside = get_current()
                            make_current(before)
                    try:
                        step, sent = steps.asend, (yield item)
                    except BaseException as thrown:
                        take_off_frame(thrown, alone=True)
                        step, sent = steps.athrow, thrown
            except BaseException as exception:
                try:
                    take_off_frame(exception)
                finally:
                    traced.end(exception)
                raise
            traced.end()

        return async_generator

    if flags & _GENERATOR:

        def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            steps = function(*args, **kwargs)
            traced = span(name, kind=kind, **attributes)
            in_block = is_entering(sys._getframe(1))
            inside: Context | None = traced.start(activate=in_block)
            step, sent = steps.send, None
            try:
                while True:
                    before = get_current()
                    if not in_block:
                        make_current(before if traced.ended else inside)
                    try:
                        item = step(sent)
                    except StopIteration as end:
                        result = end.value
                        break
                    finally:
                        if not in_block:
                            inside = get_current()
                            make_current(before)
                    try:
                        step, sent = steps.send, (yield item)
                    except BaseException as thrown:
                        take_off_frame(thrown, alone=True)
                        step, sent = steps.throw, thrown
            except BaseException as exception:
                try:
                    take_off_frame(exception)
                finally:
                    traced.end(exception)
                raise
            traced.end()
            return result

        return make_awaitable(generator) if flags & _AWAITABLE_GENERATOR else generator

    if flags & _COROUTINE:

        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            try:
                with span(name, kind=kind, **attributes):
                    try:
                        return await function(*args, **kwargs)
                    except BaseException as exception:
                        take_off_frame(exception)  # Before the span ends, which remembers the traceback.
                        raise
            except BaseException as exception:
                take_off_frame(exception, alone=True)  # Arguments that do not fit are rejected here.
                raise

        return coroutine

    if wraps_coroutine_function(function):

        def call_for_coroutine(*args: Any, **kwargs: Any) -> Any:
            before = get_current()
            traced = span(name, kind=kind, **attributes)
            try:
                traced.start()
                result = function(*args, **kwargs)
                if traced.ended or type(result) is not CoroutineType:
                    traced.end()
                    return result
                make_current(before)
                return _outlast(result, traced)
            except BaseException as exception:
                try:
                    take_off_frame(exception)
                finally:
                    traced.end(exception)
                take_off_frame(exception, alone=True)
                raise

        return call_for_coroutine

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            with span(name, kind=kind, **attributes):
                try:
                    return function(*args, **kwargs)
                except BaseException as exception:
                    take_off_frame(exception)
                    raise
        except BaseException as exception:
            take_off_frame(exception, alone=True)
            raise

    return call


def _outlast(result: Coroutine[Any, Any, Any], traced: Span) -> Coroutine[Any, Any, Any]:
    """Return a coroutine to stand for the one that a call returned, and end the span of the call with it."""

    async def coroutine() -> Any:
        before = get_current()
        try:
            make_current(traced)
            return await result
        except BaseException as exception:
            try:
                take_off_frame(exception)
            finally:
                traced.end(exception)
            raise
        finally:
            traced.end()
            make_current(before)

    def close() -> None:  # Closed or interrupted before its first step, it runs none of its code.
        result.close()
        traced.end()

    new = coroutine()
    for name in ("__name__", "__qualname__"):
        setattr(new, name, getattr(result, name))
    weakref.finalize(new, close).atexit = False
    return new
