"""What recording an exception costs, as a ratio to `traceback.extract_tb` of the same traceback.

    python -m tests.benchmarks.exceptions

- raised: the span in which an exception began, with all its frames, at several depths of different functions,
  and of one function that calls itself; at the recursion's limit as RecursionError has it.
- cold: likewise, of functions that are seen for the first time, in files that Python has read before.
- passed: a span that it only passes, a few frames further out.
- swallowed: a ``with`` block that raises and has its exception caught, with a span and without one.

Each pair is timed in turns; the figure is the median of the ratios. The promise is 2 at most, where raised.
"""

import linecache
import statistics
import tempfile
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import ztrace
from ztrace import spans
from ztrace.context import SpanContext
from ztrace.exceptions import frames, recording, tracebacks

#: Pairs timed for each figure, and calls in a row for one time.
ROUNDS, CALLS = 60, 20
DEPTHS = (1, 5, 20, 50, 200, 900)
#: Functions between two spans that an exception passes.
BETWEEN = 5

ORIGIN = SpanContext(b"t" * 16, b"o" * 8)


class Recorder:
    """What spans are handed to, in place of a publisher."""

    room, offset_ns = 10, 0

    def __init__(self) -> None:
        self.queue: deque[Any] = deque(maxlen=1)
        self.register: dict[Any, None] = {}


def main() -> None:
    """Print the table."""
    print(f"{'':34}{'frames':>8}{'extract_tb µs':>15}{'ztrace µs':>11}{'ratio':>7}")
    with tempfile.TemporaryDirectory() as folder:
        for depth in DEPTHS:
            error = fail(make_chain(Path(folder) / f"chain{depth}.py", depth))
            show("raised, different functions", error, record_raised)
        for depth in DEPTHS[2:]:
            error = fail(lambda depth=depth: recurse(depth))  # type: ignore[misc]
            show("raised, recursion", error, record_raised)
        show("raised, RecursionError", fail(recurse_for_ever), record_raised)
        for depth in DEPTHS[:4]:
            error = fail(make_chain(Path(folder) / f"cold{depth}.py", depth))
            show("raised, first time", error, record_new)
        for depth in DEPTHS[2:5]:
            show(f"passed, {BETWEEN} frames further out", *prepare_passing(Path(folder), depth))
    show_swallowed()


def show(what: str, error: BaseException, record: Callable[[BaseException], object]) -> None:
    """Time recording and `extract_tb` of an exception in turns, and print them with their ratio."""
    times: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        plain = time_calls(lambda: traceback.extract_tb(error.__traceback__))
        times.append((plain, time_calls(lambda: record(error))))
    plain, ours = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(ours / plain for plain, ours in times)
    depth = len(traceback.extract_tb(error.__traceback__))
    print(f"{what:34}{depth:8}{plain / 1000:15.1f}{ours / 1000:11.1f}{ratio:7.2f}")


def time_calls(call: Callable[[], object]) -> float:
    """Return the time of one call, in ns."""
    start_ns = perf_counter_ns()
    for _ in range(CALLS):
        call()
    return (perf_counter_ns() - start_ns) / CALLS


def record_raised(error: BaseException) -> None:
    """Record an exception as the span does in which it began: it has no mark."""
    error.__dict__.clear()
    assert recording.record_exception(error, ORIGIN) is not None


def record_new(error: BaseException) -> None:
    """Record an exception whose frames were not seen before."""
    frames._known.clear()
    frames._stacks.clear()
    record_raised(error)


def prepare_passing(folder: Path, depth: int) -> tuple[BaseException, Callable[[BaseException], object]]:
    """Return an exception that has left a span and come further out, and what a span there does with it."""
    error = fail(make_chain(folder / f"passing{depth}.py", depth))
    head = error.__traceback__
    for _ in range(BETWEEN):
        assert head is not None
        head = head.tb_next
    whole, inner = error.__traceback__, head
    around = SpanContext(b"t" * 16, b"a" * 8)

    def record(error: BaseException) -> None:
        mark = error.__dict__["__ztrace_origin__"]
        mark[3].clear()
        tracebacks.identify(inner, mark[3])  # type: ignore[arg-type]
        recording.record_exception(error, around)

    recording.record_exception(error.with_traceback(inner), ORIGIN, around)
    error.with_traceback(whole)
    return error, record


def show_swallowed() -> None:
    """Print what a failure that is caught costs, with a span and without one."""

    def plain() -> None:
        try:
            raise ValueError
        except ValueError:
            pass

    def traced() -> None:
        try:
            with ztrace.span("a"):
                raise ValueError
        except ValueError:
            pass

    spans.publisher = Recorder()  # type: ignore[assignment]
    times = [(time_calls(plain), time_calls(traced)) for _ in range(ROUNDS * 10)]
    spans.publisher = None
    without, with_span = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"{'raised and caught in one function':34}{1:8}{without / 1000:15.1f}{with_span / 1000:11.1f}")


def fail(work: Callable[[], object]) -> Exception:
    """Return the exception that something raises, without this function's own frame."""
    try:
        work()
    except Exception as error:
        step = error.__traceback__
        return error.with_traceback(step and step.tb_next)
    raise AssertionError


def make_chain(path: Path, depth: int) -> Callable[[], object]:
    """Return the first of functions that call each other, the last of which raises."""
    body = "    amount = 1\n    other = amount + 1\n"
    source = "".join(f"def f{n}():\n{body}    return f{n + 1}()\n\n" for n in range(depth - 1))
    path.write_text(f"{source}def f{depth - 1}():\n{body}    raise ValueError(other)\n")
    linecache.getlines(str(path))
    namespace: dict[str, Any] = {"__name__": path.stem}
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    work: Callable[[], object] = namespace["f0"]
    return work


def recurse(left: int) -> None:
    """Fail so deep down."""
    if left == 1:
        raise ValueError
    recurse(left - 1)


def recurse_for_ever() -> None:
    """Fail where Python does."""
    recurse_for_ever()


if __name__ == "__main__":
    main()
