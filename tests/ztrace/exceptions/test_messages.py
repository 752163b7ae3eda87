"""Messages of exceptions: made once, cut, and without harm whatever the program's code does."""

import builtins
import contextlib
import enum
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ztrace
from tests.ztrace.recording import Recorder, record_of, run
from ztrace.context import SpanContext, get_current
from ztrace.exceptions import frames
from ztrace.exceptions.messages import MAX_MESSAGE, message_of
from ztrace.exceptions.recording import record_exception

FAILED = "<no message: __str__ failed>"


class Stop(BaseException):
    """Exception that no ``except Exception`` catches."""


class Asked(Exception):
    """Exception that counts how often its text is made, and does something each time."""

    def __init__(self, work: Callable[["Asked"], object] = lambda _: None) -> None:
        super().__init__()
        self.times = 0
        self.work = work

    def __str__(self) -> str:
        self.times += 1
        self.work(self)
        return "text"


def fail(error: BaseException) -> Callable[[], object]:
    """Return a function that raises the error."""

    def work() -> None:
        raise error

    return work


_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=9),
    st.binary(max_size=9),
    st.just(bytearray(b"\x00'")),
    st.just(sys.version_info),
    st.sampled_from(signal.Signals),
)
_HASHABLE = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=9), st.just((1,)))
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(_HASHABLE, inner, max_size=4),
        st.sets(_HASHABLE, max_size=4),
        st.frozensets(_HASHABLE, max_size=4),
    ),
    max_leaves=12,
)
_CLASSES = st.sampled_from([ValueError, KeyError, OSError, ImportError, SystemExit, Stop, SyntaxError])


@given(_CLASSES, st.lists(_VALUES, max_size=2))
def test_a_message_is_the_text_of_the_exception(cls: type[BaseException], arguments: list[Any]) -> None:
    """The message written from the arguments equals the text that Python makes of them."""
    try:
        error = cls(*arguments)
    except TypeError:  # SyntaxError wants a place as its second argument.
        return
    assert message_of(error) == str(error)


def endless() -> list[Any]:
    """Return a list that holds itself."""
    items: list[Any] = [1]
    items.append({"again": items})
    return items


@pytest.mark.parametrize(
    "value",
    [
        "x" * 50_000,
        b"x" * 50_000,
        [{"id": number, "name": "x" * 20} for number in range(20_000)],
        {number: {number} for number in range(20_000)},
        [[[["x" * 100] * 100] * 100] * 10],
        endless(),
    ],
)
def test_a_huge_message_is_cut(value: object) -> None:
    """The message of a huge or endless value is the beginning of its text."""
    for error in (ValueError(value), KeyError(value), ValueError(value, value), OSError(value)):
        text, message = str(error), message_of(error)
        assert message == (text if len(text) <= MAX_MESSAGE else text[:MAX_MESSAGE] + "…")


def test_deep_and_large_values_have_a_message() -> None:
    """Values of which Python makes no text have a message all the same."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert message_of(ValueError(deep)) == "[" * 21 + "..." + "]" * 21
    assert message_of(ValueError(1 << 100_000)) == "<int of 100001 bits>"


def test_little_of_a_huge_value_is_made_into_text(recorder: Recorder) -> None:
    """Objects in the arguments are asked for their text as long as there is room for it, and once."""
    times = 0

    class Row:
        def __repr__(self) -> str:
            nonlocal times
            times += 1
            return "a row"

    error = ValueError([Row() for _ in range(100_000)])
    run(fail(error), "outer", "middle", "inner")
    assert record_of(recorder, "outer").message.startswith("[a row, a row, ")
    assert times == pytest.approx(MAX_MESSAGE / len("a row, "), abs=2)


def test_a_message_is_made_once(recorder: Recorder) -> None:
    """The text of an exception is made at its origin, and again only if it is raised again."""
    error = Asked()
    run(fail(error), "outer", "middle", "inner")
    assert [span.exception[1] for span in recorder.spans if span.exception] == ["text"] * 3
    assert error.times == 1
    run(fail(error), "other")
    assert error.times == 2


def test_causes_and_members_are_asked_once(recorder: Recorder) -> None:
    """A cause or member that is recorded with several exceptions is asked for its text once."""
    cause, member = Asked(), Asked()

    def work() -> None:
        try:
            raise cause
        except Asked:
            for name in "abc":
                run(fail(ExceptionGroup("many", [member])), name)
            raise

    run(work, "outer")
    assert [record_of(recorder, name).causes[0][1] for name in "abc"] == ["text"] * 3
    assert (cause.times, member.times) == (1, 1)


def recurse(error: Asked) -> None:
    """Make the text by making the text."""
    error.times -= 1
    str(error)


def raise_itself_in_a_span(error: Asked) -> None:
    """Raise the exception whose text is asked for, through a span."""
    with ztrace.span("str"):
        raise error


def leave_a_span_open(error: Asked) -> None:
    """Start a span and forget it."""
    open_spans.append(ztrace.span("open").start())


open_spans: list[ztrace.Span] = []


def raise_stop(_: object) -> NoReturn:
    """Raise what no ``except Exception`` catches."""
    raise Stop


def raise_interrupt(_: object) -> NoReturn:
    """Raise by a statement what a signal raises as a rule."""
    raise KeyboardInterrupt


def raise_stop_below(_: object) -> NoReturn:
    """Raise it in a generator that is called by C code."""

    def steps() -> Any:
        yield raise_stop(0)

    list(steps())
    raise AssertionError


@pytest.mark.parametrize(
    "work",
    [
        raise_stop,
        raise_stop_below,
        raise_interrupt,
        recurse,
        raise_itself_in_a_span,
        lambda _: sys.exit(4),
        lambda _: builtins.exit(4),
        lambda _: 1 / 0,
        lambda _: (_ for _ in ()).throw(GeneratorExit),
        lambda _: (_ for _ in ()).throw(Stop),
        lambda _: gevent.sleep(object()),  # pyright: ignore[reportArgumentType]
    ],
)
def test_what_a_text_raises_is_dropped(recorder: Recorder, work: Callable[[Asked], object]) -> None:
    """Whatever ``__str__`` raises, the program gets its own exception, as it was."""
    error, plain = Asked(work), Asked()
    assert run(fail(error), "outer", "inner") is error
    assert run(fail(plain), "outer plain", "inner plain") is plain
    record = record_of(recorder, "inner")
    assert (record.how, record.message, record_of(recorder, "outer").message) == ("raised", FAILED, FAILED)
    assert error.__context__ is error.__cause__ is None
    assert error.times <= 1
    assert depth_of(error) == depth_of(plain)


def depth_of(error: BaseException) -> int:
    """Return the number of steps of an exception's traceback."""
    step, depth = error.__traceback__, 0
    while step is not None:
        step, depth = step.tb_next, depth + 1
    return depth


def test_a_span_that_a_text_leaves_open_is_not_current(recorder: Recorder) -> None:
    """A span that ``__str__`` starts and never ends is not the parent of the program's later spans."""
    run(fail(Asked(leave_a_span_open)), "a")
    assert get_current() is None
    open_spans.pop().end()


@pytest.mark.parametrize("handler", ["function", "method", "star"])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError, SystemExit])
def test_a_signal_that_arrives_in_a_text_reaches_the_program(handler: str, kind: type[BaseException]) -> None:
    """What a signal's handler raises while ``__str__`` runs is not dropped with the failures of the text."""

    class Handlers:
        def method(self, number: int, frame: FrameType | None) -> None:
            raise kind

    def function(number: int, frame: FrameType | None) -> None:
        raise kind

    def star(*_: object) -> None:
        fail(kind())()

    handlers: dict[str, Callable[..., None]] = {
        "function": function,
        "method": Handlers().method,
        "star": star,
    }
    before = signal.signal(signal.SIGUSR1, handlers[handler])
    try:
        with pytest.raises(kind):
            record_exception(Asked(hear_signal), SpanContext(bytes(16), bytes(8)))
    finally:
        signal.signal(signal.SIGUSR1, before)


def hear_signal(_: object) -> None:
    """Send this process a signal, and wait for its handler."""
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(10)


def test_ctrl_c_in_a_text_reaches_the_program(recorder: Recorder) -> None:
    """Ctrl-C, whose handler is C code, interrupts the program though its code was called by ztrace."""

    def interrupt(_: object) -> None:
        signal.raise_signal(signal.SIGINT)
        time.sleep(10)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        error = run(fail(Asked(interrupt)), "a")
    finally:
        signal.signal(signal.SIGINT, before)
    assert type(error) is KeyboardInterrupt
    assert type(error.__context__) is Asked


def test_a_timeout_of_gevents_in_a_text_is_not_lost(recorder: Recorder) -> None:
    """A timeout that ends a wait within ``__str__`` comes to the program later, instead of its exception."""
    error = Asked(lambda _: gevent.sleep(10))
    seen: list[BaseException] = []
    with gevent.Timeout(0.02, False) as timeout:  # pyright: ignore[reportArgumentType]
        seen.append(run(fail(error), "a"))
        with contextlib.suppress(gevent.Timeout):
            gevent.sleep(10)
            raise AssertionError
        assert not timeout.pending
    assert seen == [error]


def test_a_timeout_that_is_over_does_not_come_back(recorder: Recorder) -> None:
    """A timeout that ended a wait within ``__str__`` ends with the program's block."""
    with gevent.Timeout(0.02):
        run(fail(Asked(lambda _: gevent.sleep(10))), "a")
    gevent.sleep(0.1)


def test_a_kill_in_a_text_reaches_the_greenlet(recorder: Recorder) -> None:
    """A greenlet that is killed while ``__str__`` waits ends."""
    greenlet = gevent.spawn(run, fail(Asked(lambda _: gevent.sleep(10))), "a")
    gevent.sleep(0.02)
    greenlet.kill(timeout=5)
    assert greenlet.dead
    assert type(greenlet.value) is gevent.GreenletExit


class Loud(enum.Enum):
    """Values whose text raises."""

    ONE = 1

    def __str__(self) -> str:
        raise Stop

    __repr__ = __str__


def test_objects_in_the_arguments_may_have_no_text() -> None:
    """An object whose text raises is named by its class where it is one of several."""
    assert message_of(ValueError(Loud.ONE)) == FAILED
    assert message_of(ValueError(1, Loud.ONE)) == f"(1, <{__name__}.Loud>)"
    assert message_of(KeyError(Loud.ONE)) == f"<{__name__}.Loud>"


def test_a_class_may_lie_about_itself(recorder: Recorder) -> None:
    """Classes and metaclasses that answer questions by raising are recorded, and nothing is asked of them."""

    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            raise Stop(name)

        def __instancecheck__(cls, instance: object) -> bool:
            raise Stop

        def __subclasscheck__(cls, subclass: object) -> bool:
            return True  # Python asks this where the exception is raised.

        __hash__ = __eq__ = __instancecheck__  # type: ignore[assignment]

    def refuse(self: object) -> NoReturn:
        raise Stop

    names = ("args", "__class__", "__cause__", "__context__", "__traceback__", "__notes__", "__dict__")
    liar = Meta("Liar", (Exception,), dict.fromkeys(names, property(refuse)))
    error: Exception = Exception.__new__(liar, "said")  # type: ignore[arg-type]
    same = run(fail(error), "outer", "inner") is error
    assert same  # An assertion that fails asks the class for its name.
    record = record_of(recorder, "inner")
    assert (record.type, record.message) == (f"{__name__}.Liar", "said")
    assert record_of(recorder, "outer").how == "passed"


def test_a_loader_may_fail(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader of the program's that raises when it is asked for a source leaves a frame without code."""

    class Loader:
        def get_source(self, name: str) -> str:
            raise Stop

    frames._known.clear()
    namespace: dict[str, Any] = {"__name__": "made", "__loader__": Loader()}
    exec(compile("def work():\n    raise ValueError\n", "/nowhere/made.py", "exec"), namespace)
    error = run(namespace["work"], "a")
    assert type(error) is ValueError
    assert record_of(recorder, "a").frames[-1][:5] == ("/nowhere/made.py", 2, "work", "made", "")
