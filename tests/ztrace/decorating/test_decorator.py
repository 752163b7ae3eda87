"""The `ztrace.trace` decorator: each kind of function stays what it is and has a span per call."""

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing

import pytest

import ztrace
from tests.ztrace.recording import Clock, Recorder
from ztrace.context import get_current
from ztrace.records import ERROR, KIND_NUMBERS, OK


@ztrace.trace
def double(number: int, *, plus: int = 0) -> int:
    """Return twice the number."""
    return 2 * number + plus


@ztrace.trace
async def double_later(number: int) -> int:
    """Return twice the number, later."""
    await asyncio.sleep(0)
    return 2 * number


@ztrace.trace
def echo(first: int) -> Generator[int, int, str]:
    """Yield the sent numbers until one is negative."""
    sent = first
    while sent >= 0:
        with ztrace.span("step"):
            pass
        sent = yield sent
    return "done"


@ztrace.trace
async def echo_later(first: int) -> AsyncGenerator[int, int]:
    """Yield the sent numbers until one is negative."""
    sent = first
    while sent >= 0:
        with ztrace.span("step"):
            await asyncio.sleep(0)
        sent = yield sent


class Till:
    """Class with a traced method of each kind."""

    def __init__(self) -> None:
        self.sum = 0

    @ztrace.trace
    def add(self, amount: int) -> int:
        """Add an amount to the sum."""
        self.sum += amount
        return self.sum

    @classmethod
    @ztrace.trace
    def make(cls) -> "Till":
        """Return a new till."""
        return cls()

    @staticmethod
    @ztrace.trace
    def parse(amount: str) -> int:
        """Parse an amount as an integer."""
        return int(amount)


def test_a_function_is_called_within_a_span(recorder: Recorder) -> None:
    """Arguments and result pass unchanged, and the span has the function's qualified name."""
    assert double(3, plus=1) == 7
    assert recorder.span.name == "double"


def test_methods_are_traced(recorder: Recorder) -> None:
    """Instance, class and static methods work, and their spans are named with the class."""
    till = Till.make()
    assert (till.add(Till.parse("5")), till.sum) == (5, 5)
    assert [span.name for span in recorder.spans] == ["Till.make", "Till.parse", "Till.add"]


def test_a_name_kind_and_attributes_can_be_given(recorder: Recorder) -> None:
    """The decorator takes the arguments of `span`, and attributes set during one call stay with its span."""

    @ztrace.trace("charge", kind="server", shard=3)
    def anything() -> None:
        span = ztrace.current_span()
        assert isinstance(span, ztrace.Span)
        span.set(calls=len(recorder.spans))

    anything()
    anything()
    first, second = recorder.spans
    assert (first.name, first.kind) == ("charge", KIND_NUMBERS["server"])
    assert (first.attributes, second.attributes) == ({"shard": 3, "calls": 0}, {"shard": 3, "calls": 1})


def test_empty_parentheses_are_the_same_as_none(recorder: Recorder) -> None:
    """``@trace()`` names the span after the function."""

    @ztrace.trace()
    def inner() -> None:
        pass

    inner()
    assert recorder.span.name == "test_empty_parentheses_are_the_same_as_none.inner"


def test_objects_that_can_be_called_are_traced(recorder: Recorder) -> None:
    """A callable without a name of its own, such as a partial function, is named after its type."""
    assert ztrace.trace(functools.partial(divmod, 7))(2) == (3, 1)
    assert recorder.span.name == "partial"


def test_metadata_is_kept() -> None:
    """Name, docstring and signature are kept, and the original function is reachable."""
    assert (double.__name__, double.__doc__) == ("double", "Return twice the number.")
    assert list(inspect.signature(double).parameters) == ["number", "plus"]
    assert inspect.unwrap(double) is not double


def test_each_sort_stays_what_it_is() -> None:
    """`inspect` classifies a decorated function as it does the original."""
    kinds = (
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
    )
    found = [
        [is_kind(function) for is_kind in kinds] for function in (double, double_later, echo, echo_later)
    ]
    assert found == [
        [False, False, False],
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]


def test_an_exception_passes(recorder: Recorder) -> None:
    """An uncaught exception ends the span with an error and reaches the caller."""
    with pytest.raises(ValueError, match="invalid literal"):
        Till.parse("five")
    assert recorder.span.status == ERROR


def test_a_coroutine_is_awaited_within_a_span(recorder: Recorder) -> None:
    """The span is current while the coroutine runs, not while it waits to be awaited."""

    async def main() -> int:
        waiting = double_later(4)
        with ztrace.span("caller"):
            return await waiting

    assert asyncio.run(main()) == 8
    assert recorder.parents() == {"double_later": "caller", "caller": None}


def test_a_generators_span_lasts_from_its_first_step_to_its_last(recorder: Recorder, clock: Clock) -> None:
    """Sent and returned values pass through a generator, whose span is current only inside its steps."""
    steps = echo(1)
    clock.pass_ns(1000)
    assert next(steps) == 1
    assert get_current() is None
    clock.pass_ns(20)
    with ztrace.span("between"):
        assert steps.send(5) == 5
        with pytest.raises(StopIteration) as stop:
            steps.send(-1)
    assert stop.value.value == "done"
    assert recorder.named("echo").duration_ns == 20
    steps_spans = [span for span in recorder.spans if span.name == "step"]
    assert {span.parent_id for span in steps_spans} == {recorder.named("echo").span_id}
    assert recorder.named("between").parent_id is None


def test_yield_from_passes_the_result_on(recorder: Recorder) -> None:
    """A generator that delegates to a traced one receives its result."""

    def outer() -> Generator[int, int, str]:
        return (yield from echo(-1))

    with pytest.raises(StopIteration) as stop:
        next(outer())
    assert stop.value.value == "done"
    assert recorder.span.status == OK


def test_a_span_open_across_a_yield_is_current_again(recorder: Recorder) -> None:
    """A block inside a generator is the parent of the generator's spans before and after a yield."""

    @ztrace.trace("generator")
    def steps() -> Generator[int, None, None]:
        with ztrace.span("inner"):
            yield 1
            with ztrace.span("leaf"):
                yield 2

    with ztrace.span("caller") as caller:
        for _ in steps():
            assert ztrace.current_span() is caller
    assert recorder.parents() == {
        "leaf": "inner",
        "inner": "generator",
        "generator": "caller",
        "caller": None,
    }


def test_what_is_thrown_into_a_generator_arrives(recorder: Recorder) -> None:
    """A generator can handle a thrown exception, and an uncaught one ends its span with an error."""

    @ztrace.trace("generator")
    def patient() -> Generator[str, None, None]:
        try:
            yield "first"
        except KeyError:
            yield "caught"

    steps = patient()
    assert next(steps) == "first"
    assert steps.throw(KeyError()) == "caught"
    assert recorder.spans == []
    with pytest.raises(ValueError, match="no"):
        steps.throw(ValueError("no"))
    assert recorder.span.status == ERROR


def test_a_closed_generator_has_not_failed(recorder: Recorder) -> None:
    """Closing a generator runs its cleanup within its span and is no error."""

    @ztrace.trace("generator")
    def tidy() -> Generator[int, None, None]:
        try:
            yield 1
        finally:
            with ztrace.span("end"):
                pass

    steps = tidy()
    next(steps)
    steps.close()
    assert recorder.parents() == {"end": "generator", "generator": None}
    assert recorder.named("generator").status == OK


def test_an_abandoned_generator_ends_its_span(recorder: Recorder) -> None:
    """A generator abandoned half way is closed by Python, which ends its span."""
    steps = echo(1)
    next(steps)
    del steps
    assert recorder.named("echo").status == OK


def test_a_generator_that_was_never_begun_has_no_span(recorder: Recorder) -> None:
    """A generator closed before its first step has no span."""
    echo(1).close()
    assert recorder.spans == []


def test_wrong_arguments_leave_nothing_open(recorder: Recorder) -> None:
    """A generator function called with wrong arguments raises and leaves the caller no open child."""
    with ztrace.span("caller") as caller:
        with pytest.raises(TypeError, match="argument"):
            next(echo())  # type: ignore[call-arg]
        assert caller.open_children == 0
    assert recorder.span.name == "caller"


def test_an_async_generator_is_traced(recorder: Recorder) -> None:
    """Sent values pass through an async generator, whose span is current inside until the last step."""

    async def main() -> list[int]:
        steps = echo_later(1)
        with ztrace.span("caller") as caller:
            answers = [await anext(steps)]
            assert ztrace.current_span() is caller
            answers.append(await steps.asend(7))
            with pytest.raises(StopAsyncIteration):
                await steps.asend(-1)
        return answers

    assert asyncio.run(main()) == [1, 7]
    assert recorder.named("echo_later").status == OK
    steps = [span for span in recorder.spans if span.name == "step"]
    assert {span.parent_id for span in steps} == {recorder.named("echo_later").span_id}
    assert recorder.named("echo_later").parent_id == recorder.named("caller").span_id


def test_an_async_generator_can_be_closed_and_thrown_into(recorder: Recorder) -> None:
    """An async generator's cleanup runs within its span on closing and on a thrown exception."""

    @ztrace.trace("generator")
    async def patient() -> AsyncGenerator[str, None]:
        try:
            yield "first"
        except KeyError:
            yield "caught"
        finally:
            with ztrace.span("end"):
                await asyncio.sleep(0)

    async def main() -> None:
        async with aclosing(patient()) as steps:
            assert await anext(steps) == "first"
            assert await steps.athrow(KeyError()) == "caught"
        failing = patient()
        await anext(failing)
        with pytest.raises(ValueError, match="no"):
            await failing.athrow(ValueError("no"))

    asyncio.run(main())
    closed, failed = (span for span in recorder.spans if span.name == "generator")
    assert (closed.status, failed.status) == (OK, ERROR)
    ends = [span.parent_id for span in recorder.spans if span.name == "end"]
    assert ends == [closed.span_id, failed.span_id]


def test_a_span_open_across_an_async_yield_is_current_again(recorder: Recorder) -> None:
    """A block inside an async generator is the parent of its spans before and after a yield."""

    @ztrace.trace("generator")
    async def steps() -> AsyncGenerator[int, None]:
        with ztrace.span("inner"):
            yield 1
            with ztrace.span("leaf"):
                await asyncio.sleep(0)

    async def main() -> None:
        with ztrace.span("caller") as caller:
            async for _ in steps():
                assert ztrace.current_span() is caller

    asyncio.run(main())
    assert recorder.parents() == {
        "leaf": "inner",
        "inner": "generator",
        "generator": "caller",
        "caller": None,
    }


def test_unconfigured_everything_works(counts: dict[str, int]) -> None:
    """Without a publisher, each kind of function behaves as it does undecorated."""

    async def main() -> None:
        assert await double_later(1) == 2
        assert [item async for item in take_two()] == [1, 2]

    @ztrace.trace
    async def take_two() -> AsyncGenerator[int, None]:
        yield 1
        yield 2

    asyncio.run(main())
    steps = echo(1)
    assert (next(steps), steps.send(2)) == (1, 2)
    with pytest.raises(StopIteration):
        steps.send(-1)
    assert double(1) == 2
    assert get_current() is None
    assert counts == {}
