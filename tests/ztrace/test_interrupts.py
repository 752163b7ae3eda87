"""Exceptions that arrive in ztrace's own code: the program gets each one, and the spans stay sound."""

import _thread
import ctypes
import gc
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import Context
from types import FrameType
from typing import Any

import gevent
import pytest

import ztrace
from tests.ztrace.interrupting import EVENTS, FOLDER, Interrupter, Kill, Limit, interrupt
from tests.ztrace.programs import run_program
from tests.ztrace.recording import Recorder
from ztrace import spans
from ztrace.context import SpanContext, get_current
from ztrace.interpreter.interrupts import cover, is_interrupt
from ztrace.interpreter.opcodes import opcode_of
from ztrace.spans import Span

SPANS = spans.__file__

REMOTE = SpanContext(b"T" * 16, b"S" * 8, (1, "vendor=1"))
HEADER = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=1"}


def leave_a_span() -> None:
    """Enter and leave the block of a span within another one."""
    with ztrace.span("a", x=1), ztrace.span("b") as span:
        span.set(y=2)


def leave_a_span_with_an_error() -> None:
    """Leave the block of a span with an exception."""
    try:
        with ztrace.span("a"):
            raise KeyError("x")
    except KeyError:
        return


def serve() -> None:
    """Leave the block of a span that has a parent, links and a reply."""
    with ztrace.span("a", kind="server", parent=REMOTE, links=[REMOTE]) as span:
        span.reply()


def end_by_hand() -> None:
    """Start and end a span by hand, and inner spans last."""
    outer, inner = ztrace.span("a"), ztrace.span("b")
    try:
        outer.start()
        inner.start()
    finally:
        try:
            outer.end()
        finally:
            inner.end()


def use_again() -> None:
    """Use a span for the second time."""
    with POLL:
        POLL.set(x=1)


POLL = ztrace.span("poll")


def read_a_generator() -> None:
    """Read a generator that holds a span open, and work beside it."""

    def rows() -> Iterator[int]:
        with ztrace.span("rows"):
            yield 1

    for _ in rows():
        with ztrace.span("a"):
            pass


def pass_context_on() -> None:
    """Write a context into a carrier, and read one."""
    ztrace.inject({})
    ztrace.extract(HEADER)


def ask_for_the_current_span() -> None:
    """Set an attribute of the current span, and of one that records nothing."""
    ztrace.current_span().set(x=1)
    Context().run(ztrace.current_span).set(x=1)


SCENARIOS = [
    leave_a_span,
    leave_a_span_with_an_error,
    serve,
    end_by_hand,
    use_again,
    read_a_generator,
    pass_context_on,
    ask_for_the_current_span,
]


@pytest.mark.parametrize("error", [Limit, Kill])
@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_exception_at_any_place_is_the_programs(
    recorder: Recorder,
    counts: dict[str, int],
    scenario: Callable[[], None],
    event: str,
    error: type[BaseException],
) -> None:
    """Wherever in ztrace's code a tracer raises, at each line and instruction, the program gets the
    exception, and what was current before is again.
    """
    for number in range(100_000):
        interrupter = Interrupter(event, number, error)
        with ztrace.span("outer") as outer:
            caught = interrupt(scenario, interrupter)
            assert_sound(recorder, outer)
        assert counts == {}
        assert (type(caught) is error) is interrupter.raised
        if not interrupter.raised:
            break
        recorder.queue.clear()
    assert number > 5


def assert_sound(recorder: Recorder, outer: Span) -> None:
    """Assert that only the outer span runs, none is recorded twice, and the next one is recorded."""
    assert get_current() is outer
    assert list(recorder.register) == [outer]
    assert outer.open_children == 0
    assert len({span.span_id for span in recorder.spans}) == len(recorder.spans)
    with ztrace.span("later"):
        pass
    assert recorder.spans[-1].name == "later"
    assert recorder.spans[-1].parent_id == outer.span_id


def test_a_span_whose_end_is_interrupted_is_recorded(recorder: Recorder) -> None:
    """A span whose block was entered is recorded once, wherever in its end the exception arrives."""
    for number in range(1000):
        interrupter = Interrupter(EVENTS[0], number, Limit)
        span = ztrace.span("a").start()
        interrupt(span.end, interrupter)
        assert span.ended
        assert recorder.span.span_id == span.span_id
        recorder.queue.clear()
        if not interrupter.raised:
            break
    assert number > 20


def test_a_record_that_is_taken_at_once_is_not_made_again(recorder: Recorder) -> None:
    """A publisher that takes a record before the exception of a signal handler arrives gets no second one."""
    taken = []

    def take(frame: FrameType, event: str, function: Any) -> None:
        if event == "c_return" and function.__name__ == "append" and frame.f_code.co_filename == SPANS:
            taken.append(recorder.queue.popleft())
            raise Limit

    span = ztrace.span("a").start()
    sys.setprofile(take)
    try:
        with pytest.raises(Limit):
            span.end()
    finally:
        sys.setprofile(None)
    assert span.ended
    assert (len(taken), len(recorder.queue), get_current()) == (1, 0, None)


def test_an_error_whose_recording_is_interrupted_is_recorded(recorder: Recorder) -> None:
    """An exception that is being recorded when another one arrives is recorded at its origin."""
    for number in range(0, 5000, 3):
        interrupter = Interrupter("line", number, Limit)
        with ztrace.span("outer") as outer:
            inner = ztrace.span("inner").start()
            error = catch(KeyError("x"))
            caught = interrupt(lambda: inner.end(error), interrupter)  # noqa: B023
            outer.end(error)
        first, second = recorder.spans
        assert first.exception is not None
        assert second.exception is not None
        assert (first.exception[0], second.exception[0]) == ("KeyError", "KeyError")
        assert (first.exception[4], second.exception[4]) == ("raised", "passed")
        assert first.exception[5:7] == second.exception[5:7] == (first.trace_id, first.span_id)
        recorder.queue.clear()
        if not interrupter.raised:
            break
        assert type(caught) is Limit
    assert number > 50


def catch(error: Exception) -> Exception:
    """Raise an exception, and return it with its traceback."""
    try:
        raise error
    except Exception as caught:
        return caught


def raise_limit(*_: object) -> None:
    """Handle a signal as libraries for time limits do."""
    raise Limit


def raise_kill(number: int, frame: FrameType | None) -> None:
    """Handle a signal with what is no Exception."""
    raise Kill


class Alarm:
    """Timer whose signal interrupts this thread."""

    def __init__(self, handler: Any) -> None:
        self._handler = handler

    def set(self, delay_s: float) -> None:
        """Have the signal come after a delay."""
        signal.signal(signal.SIGALRM, self._handler)
        signal.setitimer(signal.ITIMER_REAL, delay_s)

    def stop(self) -> None:
        """Stop the timer, if it still runs."""
        signal.setitimer(signal.ITIMER_REAL, 0)


class Sender:
    """Timer in another thread, which sends an exception to this one."""

    def __init__(self, error: type[BaseException]) -> None:
        self._error = ctypes.py_object(error)
        self._target = ctypes.c_ulong(threading.get_ident())
        self._sent = _thread.allocate_lock()

    def set(self, delay_s: float) -> None:
        """Send the exception after a delay."""
        self._sent.acquire()
        # No Thread: where one is freed, Python calls a function that drops whatever arrives in it.
        _thread.start_new_thread(self._send, (delay_s,))

    def _send(self, delay_s: float) -> None:
        time.sleep(delay_s)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(self._target, self._error)
        self._sent.release()

    def stop(self) -> None:
        """Wait until the exception is sent."""
        self._sent.acquire()


TIMERS: dict[str, tuple[Callable[[], Alarm | Sender], type[BaseException]]] = {
    "soft": (lambda: Alarm(raise_limit), Limit),
    "hard": (lambda: Alarm(raise_kill), Kill),
    "keyboard": (lambda: Alarm(signal.default_int_handler), KeyboardInterrupt),
    "sent": (lambda: Sender(Limit), Limit),
    "sent builtin": (lambda: Sender(TimeoutError), TimeoutError),
}


@pytest.fixture
def no_callbacks() -> Iterator[None]:
    """Remove callbacks of garbage collection, such as hypothesis has: Python drops what arrives in them."""
    before = gc.callbacks[:]
    gc.callbacks.clear()
    yield
    gc.callbacks[:] = before


@pytest.fixture
def switching() -> Iterator[None]:
    """Let threads take turns more often than every five milliseconds, for a `Sender` to be on time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def alarm_handler() -> Iterator[None]:
    """Stop the timer after the test, and put the handler of SIGALRM back."""
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("kind", TIMERS)
def test_an_exception_at_any_time_is_the_programs(
    recorder: Recorder,
    counts: dict[str, int],
    alarm_handler: None,
    no_callbacks: None,
    switching: None,
    kind: str,
    scenario: Callable[[], None],
) -> None:
    """The program gets each exception of a signal handler, and each that another thread sends to it, while
    it does nothing but make spans.
    """
    make, error = TIMERS[kind]
    dice = random.Random(kind)
    for _ in range(25):
        timer = make()
        with ztrace.span("outer") as outer:
            with pytest.raises(error):
                repeat(scenario, timer, dice.uniform(0.0001, 0.002))
            assert_sound(recorder, outer)
        assert counts == {}
        recorder.queue.clear()


def repeat(scenario: Callable[[], None], timer: Alarm | Sender, delay_s: float) -> None:
    """Run a scenario again and again until the timer interrupts."""
    deadline_s = time.monotonic() + 10
    timer.set(delay_s)
    try:
        while time.monotonic() < deadline_s:
            scenario()
    finally:
        timer.stop()


def test_a_greenlets_timeout_is_the_programs(counts: dict[str, int]) -> None:
    """A timeout that ends a wait of ztrace's, by whatever exception, goes to the program."""

    class Carrier(dict[str, str]):
        def get(self, key: str, default: Any = None) -> Any:
            gevent.sleep(30)

    for error, kind in ((Limit, Limit), (TimeoutError("slow"), TimeoutError), (None, gevent.Timeout)):
        with pytest.raises(kind), gevent.Timeout(0.001, error):
            ztrace.extract(Carrier())
    assert counts == {}


class Refusal(Exception):
    """An exception of a program's own class."""


class Refusing(dict[str, str]):
    """Carrier that takes nothing."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def get(self, key: str, default: Any = None) -> Any:
        """Refuse to be read."""
        raise self._error

    def __setitem__(self, key: str, value: str) -> None:
        raise self._error


@pytest.mark.parametrize("error", [Refusal("no"), Refusal(), ValueError(), KeyError("x"), RecursionError()])
def test_what_a_carrier_raises_is_contained(
    recorder: Recorder, counts: dict[str, int], error: Exception
) -> None:
    """What code that ztrace calls raises by itself is counted and not raised into the program."""
    with ztrace.span("a"):
        ztrace.inject(Refusing(error))
        assert ztrace.extract(Refusing(error)) is None
    assert (counts.pop("inject"), counts.pop("extract")) == (1, 1)


def test_a_kill_in_a_carrier_is_the_programs(recorder: Recorder) -> None:
    """What is no Exception goes through every guard."""
    with ztrace.span("a"), pytest.raises(Kill):
        ztrace.inject(Refusing(Kill()))


@pytest.mark.parametrize(
    "work",
    [lambda: 1 / 0, lambda: dict[str, int]()["x"], lambda: int("x"), [].pop, lambda: b"\xff".decode()],
)
def test_failures_are_no_interrupts(work: Callable[[], object]) -> None:
    """Exceptions that a ``raise`` statement, an operator or a function written in C raises are failures."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        work()
    assert not is_interrupt(caught.value)


@pytest.mark.parametrize("place", ["_find_and_load", "_call_with_frames_removed"])
def test_what_arrives_in_an_import_is_an_interrupt(place: str) -> None:
    """Tracebacks leave out some frames of an import that ztrace makes, in which the exception arrived."""

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_name == place:
            raise Limit
        return trace

    def load() -> None:
        import colorsys  # noqa: F401

    sys.modules.pop("colorsys", None)
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with pytest.raises(Limit) as caught:
            load()
    finally:
        sys.settrace(before)
    assert is_interrupt(caught.value)


def test_a_full_stack_leaves_spans_sound(recorder: Recorder, counts: dict[str, int]) -> None:
    """Recursion until the stack is full, with a span at each level, ends each span that was entered."""
    entered = 0

    def recurse() -> None:
        nonlocal entered
        with ztrace.span("a"):
            entered += 1
            recurse()

    with ztrace.span("outer") as outer:
        with pytest.raises(RecursionError):
            recurse()
        assert_sound(recorder, outer)
    assert len(recorder.spans) >= entered
    counts.clear()


def test_interrupts_in_quick_succession_leave_spans_sound(
    recorder: Recorder, counts: dict[str, int], alarm_handler: None, no_callbacks: None
) -> None:
    """Signals that keep coming, while the exception of the one before is being dealt with, leave no span
    open.
    """

    def handle(_: int, frame: FrameType | None) -> None:
        if frame is not None and frame.f_code.co_filename.startswith(FOLDER):
            raise Limit

    leave_a_span_with_an_error()  # The first exception that is recorded reads a file or two.
    signal.signal(signal.SIGALRM, handle)
    for _ in range(10):
        with ztrace.span("outer") as outer:
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0002)
            for _ in range(20):
                with pytest.raises(Limit):
                    leave_spans()
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert_sound(recorder, outer)
        recorder.queue.clear()


def leave_spans() -> None:
    """Enter and leave spans until a signal interrupts."""
    while True:
        leave_a_span()


def test_covering_keeps_a_function_as_it_is() -> None:
    """A covered function has the same signature, lines and results."""

    def divide(left: int, right: int = 1) -> float | None:
        """Divide."""
        try:
            return left / right
        except ZeroDivisionError:
            return None

    before = divide.__code__
    assert cover(divide) is divide
    assert list(divide.__code__.co_lines()) == list(before.co_lines())
    assert divide.__code__.co_code == before.co_code
    assert (divide(1, 2), divide(1, 0), divide.__defaults__) == (0.5, None, (1,))


@pytest.mark.parametrize("table", [b"\x7f", b"\x80\x02", bytes(9), b"\xff" * 8])
def test_covering_leaves_alone_what_it_cannot_read(table: bytes) -> None:
    """A function whose exception table has another layout, as of a later Python, is not changed."""

    def divide(left: int) -> float:
        """Divide."""
        return 1 / left

    strange = divide.__code__ = divide.__code__.replace(co_exceptiontable=table)
    assert cover(divide).__code__ is strange


def test_instructions_that_do_not_exist_are_in_no_code() -> None:
    """A later Python may lack an instruction that is looked for."""
    assert opcode_of("NO_SUCH_INSTRUCTION") not in range(256)


@pytest.mark.process
def test_finalizers_may_make_and_end_spans() -> None:
    """Objects that are collected at any moment may make spans of their own, and end those they hold open."""
    for mode in ("release", "rows", "traced_rows"):
        done = run_program(COLLECTED, mode)
        assert done.stdout == "through\n"


#: Garbage in cycles whose finalizers start and end spans, made within spans: it is collected whenever ztrace
#: allocates an object. Python 3.11 crashed within ``ContextVar.set``.
COLLECTED = """
import sys
import ztrace
from ztrace import spans
from ztrace.context import get_current
from tests.ztrace.recording import Recorder

spans.publisher = Recorder(room=100)

class Lease:
    def __init__(self):
        self.me = self
    @ztrace.trace
    def release(self):
        pass
    def __del__(self):
        self.release()

class Node:
    def __init__(self, rows):
        self.me, self.rows = self, rows
        next(rows)

def rows():
    with ztrace.span("rows"):
        while True:
            yield 1

@ztrace.trace
def traced_rows():
    while True:
        yield 1

make = {
    "release": Lease, "rows": lambda: Node(rows()), "traced_rows": lambda: Node(traced_rows())
}[sys.argv[1]]
for _ in range(6000):
    with ztrace.span("work"):
        make()
print("through")
"""
