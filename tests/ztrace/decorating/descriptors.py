"""Cases of decorated descriptors, methods, partial functions and caches."""

import asyncio
import functools
import inspect
import types
import warnings
from typing import Any

from tests.ztrace.decorating.comparing import Decorator, add, add_later, facts


def case_classmethod(trace: Decorator) -> list[object]:
    """Call a classmethod through the class, a subclass and an instance."""

    class Base:
        @trace
        @classmethod
        def make(cls, number: int) -> tuple[str, int]:
            """Return the class's name and the number."""
            return cls.__name__, number

    class Sub(Base):
        pass

    kept = Base.__dict__["make"]
    return [Base.make(1), Sub.make(2), Sub().make(3), type(kept), kept.__doc__, *facts(Base.make)]


def case_staticmethod(trace: Decorator) -> list[object]:
    """Call a staticmethod through the class, an instance and by itself."""

    class Holder:
        @trace
        @staticmethod
        def work(first: int, second: int) -> int:
            return first + second

        kept = work

    return [Holder.work(1, 2), Holder().work(3, 4), Holder.__dict__["work"](5, 6), *facts(Holder.work)]


def case_property(trace: Decorator) -> list[object]:
    """Read, set and delete a property whose setter was added afterwards."""

    class Holder:
        def __init__(self) -> None:
            self.kept: object = 1

        @trace  # type: ignore[prop-decorator]
        @property
        def total(self) -> object:
            """Return what is kept."""
            return self.kept

        @total.setter
        def total(self, value: object) -> None:
            self.kept = value

        @total.deleter
        def total(self) -> None:
            self.kept = "deleted"

    holder = Holder()
    seen: list[object] = [holder.total]
    holder.total = 2
    seen.append(holder.total)
    del holder.total
    kept = Holder.__dict__["total"]
    return [*seen, holder.total, type(kept), kept.__doc__, Holder.total is kept]


def case_cached_property(trace: Decorator) -> list[object]:
    """Read a cached property twice, and again once it is deleted."""
    computed = []

    class Holder:
        @trace  # type: ignore[prop-decorator]
        @functools.cached_property
        def total(self) -> object:
            """Compute the total."""
            computed.append(1)
            return len(computed)

    holder = Holder()
    seen = [holder.total, holder.total, dict(vars(holder))]
    del holder.total
    kept = Holder.__dict__["total"]
    return [*seen, holder.total, type(kept), kept.attrname, kept.__doc__, Holder.total is kept]


def case_cached_property_set_later(trace: Decorator) -> list[object]:
    """Replace a cached property of a finished class, which names it no second time."""

    class Holder:
        @functools.cached_property
        def total(self) -> object:
            return 1

    Holder.total = trace(Holder.__dict__["total"])  # type: ignore[method-assign]
    return [Holder().total]


def case_partialmethod(trace: Decorator) -> list[object]:
    """Call a partial method of a function and of a classmethod."""

    class Holder:
        def work(self, first: int, second: int) -> tuple[str, int, int]:
            return type(self).__name__, first, second

        bound = trace(functools.partialmethod(work, 3))
        made = trace(functools.partialmethod(classmethod(lambda cls, number: (cls.__name__, number)), 4))

    kept = Holder.__dict__["bound"]
    about = [type(kept), kept.args, kept.keywords, str(inspect.signature(Holder.bound))]
    return [Holder().bound(5), Holder.made(), *about]


def case_partial(trace: Decorator) -> list[object]:
    """Call a partial function, and use it as an attribute of a class, which does not bind it."""
    plain = functools.partial(add, second=2)
    plain.note = "kept"  # type: ignore[attr-defined]
    partial = trace(plain)

    class Holder:
        work = partial

    with warnings.catch_warnings(record=True) as warned:  # Of Python 3.13, that it will be bound some day.
        warnings.simplefilter("always")
        called = Holder().work(2)
    nested = functools.partial(partial, 7)
    about = [partial.func is add, partial.args, partial.keywords, partial.note, repr(partial)]
    is_partial = isinstance(partial, functools.partial)
    messages = [str(warning.message) for warning in warned]
    return [partial(1), called, messages, nested(), is_partial, *about, str(inspect.signature(partial))]


def case_partial_coroutine_function(trace: Decorator) -> list[object]:
    """Await what a partial of a coroutine function returns."""
    partial = trace(functools.partial(add_later, 4))
    waiting = partial()
    about = [type(waiting), waiting.__qualname__, inspect.iscoroutinefunction(partial)]
    return [asyncio.run(waiting), *about]


def case_partial_of_coroutine_method(trace: Decorator) -> list[object]:
    """Await what a partial of a bound coroutine method returns."""

    class Holder:
        async def work(self, number: int) -> int:
            return await add_later(number)

    partial = trace(functools.partial(Holder().work, 4))
    return [asyncio.run(partial()), inspect.iscoroutinefunction(partial)]


def case_compiled_function(trace: Decorator) -> list[object]:
    """Call a method that is a function of another type, as a compiler of Python makes them."""

    class Compiled:
        __code__ = property(lambda self: add.__code__)
        __defaults__ = property(lambda self: add.__defaults__)
        __globals__ = property(lambda self: add.__globals__)
        __qualname__ = "compiled"

        def __get__(self, instance: object, owner: type | None = None) -> Any:
            return self if instance is None else types.MethodType(self, instance)

        def __call__(self, holder: object, number: int) -> tuple[str, int]:
            return type(holder).__name__, number

    class Holder:
        work = trace(Compiled())

    return [Holder().work(1), Holder.work(Holder(), number=2)]


def case_bound_method(trace: Decorator) -> list[object]:
    """Call a bound method, and use it as an attribute of another class, which does not rebind it."""

    class Holder:
        def work(self, number: int) -> tuple[str, int]:
            return type(self).__name__, number

    holder = Holder()
    method = trace(holder.work)

    class Other:
        work = method

    return [method(1), Other().work(2), method.__self__ is holder, *facts(method)]


def case_lru_cache(trace: Decorator) -> list[object]:
    """Use the cache of a function, its figures, and the function within."""

    @trace
    @functools.lru_cache(maxsize=2)
    def work(key: str) -> str:
        """Return the key in capitals."""
        return key.upper()

    seen = [work("a"), work("a"), work.cache_info(), work.cache_parameters()]
    inner = [work.__wrapped__("b"), work.cache_info().currsize]
    work.cache_clear()
    about = [work.__name__, work.__doc__, str(inspect.signature(work)), inspect.unwrap(work).__code__]
    return [*seen, *inner, work.cache_info(), *about]


def case_cached_method(trace: Decorator) -> list[object]:
    """Call a cached method through an instance."""

    class Holder:
        @trace
        @functools.cache  # noqa: B019
        def work(self, key: str) -> tuple[str, str]:
            return type(self).__name__, key

    return [Holder().work("a"), Holder.work.cache_info().misses]
