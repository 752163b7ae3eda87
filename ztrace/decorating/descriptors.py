"""Objects around a function that `ztrace.trace` rebuilds: descriptors, methods, partial functions and caches.

One idea: only exact types are taken apart. A subclass, a proxy or any other callable may do anything with the
function inside, so it stays as it is; it is not even asked for an attribute, since a proxy or a mock would
answer with the program's own code.
"""

import functools
import sys
from collections.abc import Callable
from types import FrameType, FunctionType, MethodType
from typing import Any, Final

from ztrace import diagnostics
from ztrace.exceptions.tracebacks import take_off_frame

Function = Callable[..., Any]
#: Trace any object; returns the same object if it cannot be traced.
Trace = Callable[[Any], Any]
#: Wrap an object that is called as a function.
Wrap = Callable[[Function], Function]

#: Attributes that the type of a compiled function, of Cython or Nuitka, has in common with FunctionType.
_ATTRIBUTES: Final = frozenset(("__code__", "__defaults__", "__globals__", "__get__"))

#: Flags of the code of generator functions, asynchronous ones included, and of coroutine functions.
_GENERATORS, _COROUTINE = 0x20 | 0x200, 0x80

#: Functions in one another that are looked through.
_MAX_WRAPPERS = 20


def is_function(decorated: Any) -> bool:
    """Return whether an object is a function, compiled ones included."""
    kind = type(decorated)
    return kind is FunctionType or _ATTRIBUTES.issubset(vars(kind))


def flags_of(function: Any) -> int:
    """Return the flags of the code that a function, method or partial runs, 0 for any other callable."""
    function = _innermost(function)
    flags: int = function.__code__.co_flags if is_function(function) else 0
    return flags


def _innermost(function: Any) -> Any:
    while (kind := type(function)) is functools.partial or kind is MethodType:
        function = function.func if kind is functools.partial else function.__func__
    return function


def wraps_coroutine_function(function: Any) -> bool:
    """Return whether a function wraps a coroutine function, so that its calls may return a coroutine."""
    for _ in range(_MAX_WRAPPERS):
        if not is_function(function):
            return False
        if function.__code__.co_flags & _COROUTINE:
            return True
        function = vars(function).get("__wrapped__")
    return False


def keep_identity(wrapper: Function, function: Any) -> Function:
    """Copy name, documentation and attributes of a function to its wrapper, and return the wrapper.

    A function that wraps another one keeps it as ``__wrapped__``: programs reach the inner function there.
    """
    functools.update_wrapper(wrapper, function)
    vars(wrapper).update(getattr(function, "__dict__", {}))
    return wrapper


def is_entering(frame: FrameType) -> bool:
    """Return whether a frame enters a context manager of `contextlib`, which a generator holds open."""
    contextlib = sys.modules.get("contextlib")
    return contextlib is not None and frame.f_code in (
        contextlib._GeneratorContextManager.__enter__.__code__,
        contextlib._AsyncGeneratorContextManager.__aenter__.__code__,
    )


def rebuild_manager(function: Any, trace: Trace) -> Function | None:
    """Rebuild a function made by `contextlib` around its traced generator: the span lasts through the block.

    Returns:
        None if the function is not made by ``contextmanager`` or ``asynccontextmanager``.
    """
    contextlib = sys.modules.get("contextlib")
    if contextlib is None:
        return None
    for decorate in (contextlib.contextmanager, contextlib.asynccontextmanager):
        if function.__code__ in decorate.__code__.co_consts:
            inner = function.__closure__[0].cell_contents
            if flags_of(inner) & _GENERATORS:
                return keep_identity(decorate(trace(inner)), function)
    return None


def rebuild(holder: Any, trace: Trace, wrap: Wrap) -> Any:
    """Return an object of the same kind around the traced function, or the same object with a warning.

    Args:
        holder: the decorated object, which is no function.
        trace: traces the object within.
        wrap: wraps an object whose calls are to be traced.
    """
    kind = type(holder)
    for known, build in _KNOWN:
        if kind is known:
            return build(holder, trace, wrap)
    if issubclass(kind, type):
        diagnostics.warn(f"cannot trace the class {_name_type(holder)}: decorate its methods instead")
    else:
        diagnostics.warn(
            f"cannot trace an object of {_name_type(kind)}: put @ztrace.trace directly above the def of the"
            " function that is called, below other decorators"
        )
    return holder


def _name_type(kind: type) -> str:
    return type.__getattribute__(kind, "__qualname__")  # type: ignore[no-any-return]


def _rebuild_method(holder: Any, trace: Trace, wrap: Wrap) -> Any:
    """Rebuild a classmethod or staticmethod."""
    traced = trace(holder.__func__)
    if traced is holder.__func__:
        return holder
    new = type(holder)(traced)
    vars(new).update(vars(holder))
    return new


def _rebuild_bound(holder: MethodType, trace: Trace, wrap: Wrap) -> Any:
    traced = trace(holder.__func__)
    return holder if traced is holder.__func__ else MethodType(traced, holder.__self__)


def _rebuild_property(holder: property, trace: Trace, wrap: Wrap) -> Any:
    """Rebuild a property with a traced getter."""
    traced = trace(holder.fget)
    return holder if traced is holder.fget else holder.getter(traced)


def _rebuild_cached(holder: "functools.cached_property[Any]", trace: Trace, wrap: Wrap) -> Any:
    traced = trace(holder.func)
    if traced is holder.func:
        return holder
    new = functools.cached_property(traced)
    vars(new).update({**vars(holder), "func": traced})
    return new


def _rebuild_partialmethod(holder: "functools.partialmethod[Any]", trace: Trace, wrap: Wrap) -> Any:
    traced = trace(holder.func)
    if traced is holder.func:
        return holder
    new = functools.partialmethod(traced, *holder.args, **holder.keywords)
    vars(new).update({**vars(holder), "func": traced})
    return new


class TracedPartial(functools.partial[Any]):
    """Partial function whose calls are traced; it is pickled as the plain one."""

    __slots__ = ("_traced",)

    _traced: Function

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function within a span."""
        try:
            return self._traced(*args, **kwargs)
        except BaseException as exception:
            take_off_frame(exception, alone=True)
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        return (functools.partial, *super().__reduce__()[1:])

    def __repr__(self) -> str:
        return repr(functools.partial(self.func, *self.args, **self.keywords))


def _rebuild_partial(holder: "functools.partial[Any]", trace: Trace, wrap: Wrap) -> Any:
    new = TracedPartial(holder.func, *holder.args, **holder.keywords)
    vars(new).update(vars(holder))
    new._traced = functools.update_wrapper(wrap(holder), _innermost(holder))  # Coroutines have its name.
    return new


def _rebuild_cache(holder: Any, trace: Trace, wrap: Wrap) -> Any:
    """Wrap a cache of `functools.lru_cache`, hits included, in a function: its type has no subclasses."""
    traced: Any = wrap(holder)
    traced.cache_info, traced.cache_clear = holder.cache_info, holder.cache_clear
    return traced


#: The types that are rebuilt.
_KNOWN: Final[tuple[tuple[Any, Callable[[Any, Trace, Wrap], Any]], ...]] = (
    (classmethod, _rebuild_method),
    (staticmethod, _rebuild_method),
    (property, _rebuild_property),
    (functools.cached_property, _rebuild_cached),
    (functools.partialmethod, _rebuild_partialmethod),
    (functools.partial, _rebuild_partial),
    (functools._lru_cache_wrapper, _rebuild_cache),
    (MethodType, _rebuild_bound),
)
