"""Cases of decorated functions: generic, abstract, special, and made by other decorators."""

import abc
import asyncio
import contextlib
import enum
import functools
import inspect
import sys
import types
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any

import pytest

from tests.ztrace.decorating.comparing import Decorator, add_later, facts


def case_singledispatch(trace: Decorator) -> list[object]:
    """Register implementations with a generic function, and dispatch to them."""

    @trace
    @functools.singledispatch
    def work(value: object) -> str:
        return "object"

    @work.register  # type: ignore[untyped-decorator]
    def _(value: int) -> str:
        return "int"

    work.register(str, lambda value: "str")
    about = [work.dispatch(bool)(True), sorted(kind.__name__ for kind in work.registry)]
    return [work(None), work(1), work("a"), *about, *facts(work)]


def case_contextmanager(trace: Decorator) -> list[object]:
    """Enter a context manager, let it swallow an exception, and use it as a decorator."""
    seen: list[object] = []

    @trace
    @contextlib.contextmanager
    def block(name: str) -> Iterator[str]:
        """Note the start and the end."""
        seen.append("start")
        try:
            yield name
        except KeyError:
            seen.append("caught")
        finally:
            seen.append("end")

    with block("a") as entered:
        seen.append(entered)
        raise KeyError
    block("b")(lambda: seen.append("called"))()
    return [*seen, *facts(block)]


def case_asynccontextmanager(trace: Decorator) -> list[object]:
    """Enter an asynchronous context manager."""
    seen: list[object] = []

    @trace
    @contextlib.asynccontextmanager
    async def block(name: str) -> AsyncIterator[str]:
        seen.append("start")
        yield name
        seen.append("end")

    async def main() -> None:
        async with block("a") as entered:
            seen.append(entered)

    asyncio.run(main())
    return [*seen, *facts(block)]


def case_abstract_method(trace: Decorator) -> list[object]:
    """Fail to make an instance of a class that lacks a traced abstract method and property."""

    class Base(abc.ABC):
        @trace
        @abc.abstractmethod
        def work(self) -> None: ...

        @trace  # type: ignore[prop-decorator]
        @property
        @abc.abstractmethod
        def total(self) -> int: ...

        @trace
        @classmethod
        @abc.abstractmethod
        def make(cls) -> None: ...

    with pytest.raises(TypeError) as raised:
        Base()  # type: ignore[abstract]
    return [str(raised.value), sorted(Base.__abstractmethods__)]


def case_sync_wrapper_of_a_coroutine_function(trace: Decorator) -> list[object]:
    """Await the coroutine that a plain function returns for the coroutine function within."""

    def retry(function: Callable[..., Awaitable[int]]) -> Callable[..., Awaitable[int]]:
        @functools.wraps(function)
        def call(*args: Any) -> Awaitable[int]:
            return function(*args)

        return call

    work = trace(retry(add_later))
    waiting = work(1)
    about = [type(waiting), waiting.__name__, waiting.__qualname__, work.__wrapped__ is add_later]
    return [asyncio.run(waiting), *about, *facts(work)]


def case_sync_wrapper_that_runs_a_coroutine_function(trace: Decorator) -> list[object]:
    """Call a plain function that runs the coroutine function within."""

    @functools.wraps(add_later)
    def run(*args: int) -> int:
        return asyncio.run(add_later(*args))

    return [trace(run)(1, 2)]


def case_awaitable_generator(trace: Decorator) -> list[object]:
    """Await a generator of `types.coroutine`."""

    @trace
    @types.coroutine
    def pause() -> Generator[None, None, str]:
        yield
        return "done"

    async def main() -> str:
        result: str = await pause()
        return result

    return [asyncio.run(main()), *facts(pause)]


def case_marked_coroutine_function(trace: Decorator) -> list[object]:
    """Call a plain function that a mark declares a coroutine function: its body runs at the call."""
    seen: list[object] = []

    def work(number: int) -> Awaitable[int]:
        seen.append("called")
        return add_later(number)

    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(work)
    traced = trace(work)
    waiting = traced(1)
    seen.append("awaited")
    return [asyncio.run(waiting), seen, inspect.iscoroutinefunction(traced)]


def case_special_methods(trace: Decorator) -> list[object]:
    """Decorate methods that Python binds by their name and by their being functions."""

    class Base:
        subclasses: typing.ClassVar[list[str]] = []

        @trace
        def __new__(cls, *args: int) -> Any:
            return object.__new__(cls)

        @trace
        def __init__(self, number: int) -> None:
            self.number = number

        @trace
        def __init_subclass__(cls) -> None:
            cls.subclasses.append(cls.__name__)

        @trace
        def __len__(self) -> int:
            return self.number

        @trace
        def __class_getitem__(cls, item: object) -> tuple[str, object]:
            return cls.__name__, item

    class Sub(Base):
        pass

    return [len(Base(1)), len(Sub(2)), Base.subclasses, Sub["a"]]


def case_enum_method(trace: Decorator) -> list[object]:
    """Decorate a method of an enumeration, which is no member."""

    class Color(enum.Enum):
        RED = 1

        @trace
        def work(self) -> str:
            return self.name.lower()

    return [Color.RED.work(), [member.name for member in Color]]


def case_overridden(trace: Decorator) -> list[object]:
    """Call the traced method of a base class with ``super()``."""

    class Base:
        @trace
        def work(self) -> str:
            return "base"

    class Sub(Base):
        @trace
        def work(self) -> str:
            return f"sub of {super().work()}"

    return [Sub().work()]
