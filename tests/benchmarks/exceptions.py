"""Cost of recording an exception, as a ratio to `traceback.extract_tb` of the same traceback.

    python -m tests.benchmarks.exceptions

- raised: the span of the origin, with all frames, at several depths of different functions and of one
recursive
  function, including a RecursionError at the limit.
- cold: the span of the origin, with functions not seen before, in files that Python has already read.
- passed: a span that the exception only passes, a few frames further out.
- swallowed: a ``with`` block that raises an exception caught outside, with and without a span.

Each pair is timed alternately; the figure is the median of the ratios. The limit is 2, where raised.
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
from ztrace.exceptions import frames, marks, recording, tracebacks

#: Pairs timed for each figure, and calls per measured time.
ROUNDS, CALLS = 60, 20
DEPTHS = (1, 5, 20, 50, 200, 900)
#: Functions between two spans that an exception passes.
BETWEEN = 5

ORIGIN = SpanContext(b"t" * 16, b"o" * 8)


class Recorder:
    """Publisher that keeps the last record only."""

    room, offset_ns, born_here = 10, 0, True

    def __init__(self) -> None:
        self.queue: deque[Any] = deque(maxlen=1)
        self.register: dict[Any, None] = {}
        self.watched: dict[int, Any] = {}


def main() -> None:
    """Run the benchmark, and print the table."""
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
    """Time recording and `extract_tb` of an exception alternately, and print the ratio."""
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
    """Record an exception as the span of its origin does, without a mark."""
    marks.recent.clear()
    assert recording.record_exception(error, ORIGIN) is not None


def record_new(error: BaseException) -> None:
    """Record an exception whose frames were not seen before."""
    frames._known.clear()
    frames._stacks.clear()
    record_raised(error)


def prepare_passing(folder: Path, depth: int) -> tuple[BaseException, Callable[[BaseException], object]]:
    """Return an exception that has passed an inner span, and a function that records it further out."""
    error = fail(make_chain(folder / f"passing{depth}.py", depth))
    head = error.__traceback__
    for _ in range(BETWEEN):
        assert head is not None
        head = head.tb_next
    whole, inner = error.__traceback__, head
    around = SpanContext(b"t" * 16, b"a" * 8)

    def record(error: BaseException) -> None:
        mark = marks.recent[id(error)].mark
        assert mark is not None
        mark.heads.clear()
        tracebacks.identify(inner, mark.heads)  # type: ignore[arg-type]
        recording.record_exception(error, around)

    recording.record_exception(error.with_traceback(inner), ORIGIN, around)
    error.with_traceback(whole)
    return error, record


def show_swallowed() -> None:
    """Print the cost of a caught exception, with and without a span."""

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
    """Return the exception raised by `work`, without this function's own frame."""
    try:
        work()
    except Exception as error:
        step = error.__traceback__
        return error.with_traceback(step and step.tb_next)
    raise AssertionError


def make_chain(path: Path, depth: int) -> Callable[[], object]:
    """Return the first of a chain of functions, the last of which raises."""
    body = "    amount = 1\n    other = amount + 1\n"
    source = "".join(f"def f{n}():\n{body}    return f{n + 1}()\n\n" for n in range(depth - 1))
    path.write_text(f"{source}def f{depth - 1}():\n{body}    raise ValueError(other)\n")
    linecache.getlines(str(path))
    namespace: dict[str, Any] = {"__name__": path.stem}
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    work: Callable[[], object] = namespace["f0"]
    return work


def recurse(left: int) -> None:
    """Raise at the end of a recursion."""
    if left == 1:
        raise ValueError
    recurse(left - 1)


def recurse_for_ever() -> None:
    """Recurse until Python's recursion limit."""
    recurse_for_ever()


if __name__ == "__main__":
    main()
