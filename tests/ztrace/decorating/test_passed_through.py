"""Objects that `ztrace.trace` cannot trace, and wrong arguments: one warning, and the same program."""

import asyncio
import dataclasses
import enum
import functools
import typing
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import wrapt
import zerorpc

import ztrace
from tests.ztrace.decorating.comparing import add, bare
from tests.ztrace.recording import Recorder
from ztrace.records import KIND_NUMBERS


class Job:
    """Class with a method, to be decorated as a whole."""

    def run(self) -> int:
        """Return a number."""
        return 1


@dataclasses.dataclass
class Point:
    """Dataclass to be decorated as a whole."""

    x: int = 0


class Kind(enum.Enum):
    """Enumeration to be decorated as a whole."""

    SMALL = "small"


class Registry(type):
    """Metaclass that would notice a second class."""

    made: typing.ClassVar[list[str]] = []

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> None:
        super().__init__(name, bases, namespace)
        cls.made.append(name)


class Registered(metaclass=Registry):
    """Class of a metaclass, to be decorated as a whole."""


class Handler:
    """Object that is called."""

    def __call__(self, number: int) -> int:
        """Return the number."""
        return number


class AsyncHandler:
    """Object that is called and awaited."""

    async def __call__(self, number: int) -> int:
        """Return the number, later."""
        await asyncio.sleep(0)
        return number


class Reversed(functools.cached_property[Any]):
    """Subclass of a descriptor, which may do anything with the function."""


@wrapt.decorator
def with_instance(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """Return the name of the instance's class with the result."""
    return type(instance).__name__, wrapped(*args, **kwargs)


class Lookup:
    """Class whose methods are wrapped by something else than a function."""

    wrapt = with_instance(lambda self, number: number)

    @functools.singledispatchmethod
    def dispatched(self, number: int) -> int:
        """Return the number."""
        return number


@pytest.mark.parametrize(
    ("decorated", "told"),
    [
        (Job, "the class Job: decorate its methods"),
        (Point, "the class Point"),
        (Kind, "the class Kind"),
        (Registered, "the class Registered"),
        (int, "the class int"),
        (Handler(), "an object of Handler"),
        (AsyncHandler(), "an object of AsyncHandler"),
        (Kind.SMALL, "an object of Kind"),
        (mock.Mock(), "an object of Mock"),
        (mock.AsyncMock(), "an object of AsyncMock"),
        (len, "an object of builtin_function_or_method"),
        (str.upper, "an object of method_descriptor"),
        (Reversed(add), "an object of Reversed"),
        (Lookup.__dict__["wrapt"], "an object of FunctionWrapper"),
        (Lookup.__dict__["dispatched"], "an object of singledispatchmethod"),
        (zerorpc.stream(iter), "an object of stream: put @ztrace.trace directly above the def"),
        (classmethod(Handler()), "an object of Handler"),  # type: ignore[arg-type]
        (staticmethod(len), "an object of builtin_function_or_method"),
        (functools.partialmethod(Handler(), 1), "an object of Handler"),
        (property(None), "an object of NoneType"),
        (object(), "an object of object"),
    ],
    ids=lambda value: value.partition(":")[0] if isinstance(value, str) else "",
)
def test_an_object_that_cannot_be_traced_is_returned_with_a_warning(
    recorder: Recorder, caplog: pytest.LogCaptureFixture, decorated: Any, told: str
) -> None:
    """Classes, callables, proxies and other descriptors stay the same objects, and one warning says so."""
    for trace in (ztrace.trace, ztrace.trace("name", shard=1)):
        caplog.clear()
        assert trace(decorated) is decorated
        (message,) = caplog.messages
        assert told in message
    if isinstance(decorated, mock.NonCallableMock):
        assert decorated.mock_calls == []
    assert Registry.made == ["Registered"]


@pytest.mark.parametrize("order", ["above", "below"])
def test_a_stream_of_zerorpc_stays_one(recorder: Recorder, order: str) -> None:
    """Above and below ``@zerorpc.stream``, the method keeps its pattern and yields its items."""
    above = ztrace.trace if order == "above" else bare
    below = ztrace.trace if order == "below" else bare

    class Service:
        @above  # type: ignore[untyped-decorator]
        @zerorpc.stream  # type: ignore[untyped-decorator]
        @below  # type: ignore[untyped-decorator]
        def count(self, limit: int) -> Iterator[int]:
            """Yield numbers."""
            yield from range(limit)

    method: Any = Service().count
    assert (method.pattern, method.__name__) == (zerorpc.stream.pattern, "count")
    assert list(method(3)) == [0, 1, 2]
    assert len(recorder.spans) == (order == "below")


def test_implementations_of_a_generic_method_can_be_traced(recorder: Recorder) -> None:
    """Functions registered with a generic method are traced each, and dispatched by their hints."""

    class Holder:
        @functools.singledispatchmethod
        @ztrace.trace
        def work(self, value: object) -> str:
            return "object"

        @work.register
        @ztrace.trace("of int")
        def _(self, value: int) -> str:
            return "int"

    assert (Holder().work("a"), Holder().work(1)) == ("object", "int")
    assert [span.name for span in recorder.spans] == [
        "test_implementations_of_a_generic_method_can_be_traced.Holder.work",
        "of int",
    ]


def test_a_name_can_be_given_by_keyword(recorder: Recorder) -> None:
    """``name=`` names the span, with and without the function, and is no attribute."""

    @ztrace.trace(name="charge", shard=1)
    def work() -> None:
        pass

    work()
    ztrace.trace(add, name="sum", kind="client")(1)
    assert [(span.name, span.attributes) for span in recorder.spans] == [
        ("charge", {"shard": 1}),
        ("sum", None),
    ]


@pytest.mark.parametrize(
    ("arguments", "named", "told"),
    [
        ((42,), {}, "a name of type int: give a str"),
        ((b"charge",), {}, "a name of type bytes"),
        ((["charge"],), {}, "a name of type list"),
        ((), {"name": 42}, "a name of type int"),
        ((), {"name": mock.Mock()}, "a name of type Mock"),
        ((), {"kind": "sever"}, "an unknown kind: give one of internal"),
        ((), {"kind": 3}, "an unknown kind"),
        ((), {"kind": None}, "an unknown kind"),
        ((), {"kind": ["client"]}, "an unknown kind"),
    ],
)
def test_wrong_arguments_are_ignored_with_a_warning(
    recorder: Recorder,
    caplog: pytest.LogCaptureFixture,
    arguments: tuple[Any, ...],
    named: dict[str, Any],
    told: str,
) -> None:
    """A wrong name or kind is reported and replaced by the default; the function is traced."""
    traced = ztrace.trace(*arguments, **named)(add)
    (message,) = caplog.messages
    assert told in message
    assert traced(1) == 2
    assert (recorder.span.name, recorder.span.kind) == ("add", KIND_NUMBERS["internal"])
