"""Local variables as short texts, made without running the program's code."""

import enum
import sys
from types import FrameType
from typing import Any

import pytest

from ztrace.exceptions.locals import MAX_NAMES, MAX_VALUE, describe, name_class, read_locals


class Hostile:
    """Object whose methods all raise."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError

    def __repr__(self) -> str:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __hash__(self) -> int:
        return 1

    def __len__(self) -> int:
        raise RuntimeError


class Text(str):
    """Text subclass whose representation raises."""

    __slots__ = ()

    def __repr__(self) -> str:
        raise RuntimeError


class Items(list[int]):
    """List subclass whose iteration raises."""

    def __iter__(self) -> Any:
        raise RuntimeError


class Colour(enum.IntEnum):
    """Integer subclass with named values."""

    RED = 1


CYCLE: list[Any] = [1]
CYCLE.append(CYCLE)


VALUES: list[tuple[object, str]] = [
    (None, "None"),
    (True, "True"),
    (12, "12"),
    (1.5, "1.5"),
    (2j, "2j"),
    ("a'b\n", '"a\'b\\n"'),
    (b"\xff", "b'\\xff'"),
    (bytearray(b"a"), "bytearray(b'a')"),
    ([1, "a"], "[1, 'a']"),
    ((1,), "(1,)"),
    ((), "()"),
    ({"a": [1]}, "{'a': [1]}"),
    ({1}, "{1}"),
    (list(range(20)), "[0, 1, 2, 3, 4, 5, 6, 7, …]"),
    ([[[[1]]]], "[[[[…]]]]"),
    (CYCLE, "[1, [1, [1, […]]]]"),
    (1 << 10_000, "<int of 10001 bits>"),
    (Hostile(), f"<{__name__}.Hostile>"),
    ([Hostile()], f"[<{__name__}.Hostile>]"),
    (Text("secret"), f"<{__name__}.Text>"),
    (Items(), f"<{__name__}.Items>"),
    (Colour.RED, f"<{__name__}.Colour>"),
    (object(), "<object>"),
    (len, "<builtin_function_or_method>"),
]


# Parametrized by index, since pytest would call the values' own methods for the test ids.
@pytest.mark.parametrize("number", range(len(VALUES)))
def test_values(number: int) -> None:
    """Builtin scalars and containers of them are written out, and other values are shown as their class."""
    value, text = VALUES[number]
    assert describe(value) == text


@pytest.mark.parametrize("value", ["x" * 10_000_000, b"x" * 10_000_000, ["x" * 1000] * 1000, {"x" * 500: 1}])
def test_long_values_are_cut(value: object) -> None:
    """A long value is truncated with an ellipsis, which marks secrets that may be truncated."""
    text = describe(value)
    assert len(text) == MAX_VALUE
    assert text.endswith("…")


def test_a_class_that_hides_its_name() -> None:
    """A class is named without calling its metaclass."""

    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            raise RuntimeError

    class Hidden(metaclass=Meta):
        pass

    assert name_class(Hidden).endswith("<locals>.Hidden")


def frame_with(**names: Any) -> FrameType:
    """Return the frame of a function that has the local variables."""
    namespace: dict[str, Any] = {}
    source = f"def make({', '.join(names)}):\n    return sys._getframe()\n"
    exec(source, {"sys": sys}, namespace)
    frame: FrameType = namespace["make"](**names)
    return frame


def test_names() -> None:
    """Arguments come first, and the number of names is limited."""
    assert read_locals(frame_with(card="visa", amount=1)) == {"card": "'visa'", "amount": "1"}
    many = read_locals(frame_with(**{f"a{number}": number for number in range(50)}))
    assert list(many) == [f"a{number}" for number in range(MAX_NAMES)]


def test_what_the_compiler_and_modules_keep_is_left_out() -> None:
    """Iterators of comprehensions and a module's special names are omitted."""

    def work() -> Any:
        return next(sys._getframe() for _ in [1])

    assert ".0" not in read_locals(work())
    namespace: dict[str, Any] = {"__name__": "app", "sys": sys}
    exec("amount = 1\nframe = sys._getframe()", namespace)
    assert read_locals(namespace["frame"]) == {"sys": "<module>", "amount": "1", "frame": "<frame>"}


def test_namespaces_of_the_programs_own_are_not_asked() -> None:
    """A namespace of a dict subclass, which runs the program's code when iterated, is omitted."""

    class Names(dict[str, Any]):
        def __iter__(self) -> Any:
            raise RuntimeError

    names = Names()
    exec("frame = sys._getframe()", {"sys": sys}, names)
    assert read_locals(names["frame"]) == {}
