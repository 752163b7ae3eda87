"""Program with process pools: ``python -m tests.ztrace.middleware.pooling METHOD ENDPOINT TRACED``.

Every way of handing a task to a pool of processes, each within a span named after it, with the outcome
printed. METHOD starts the children; TRACED is "both", "neither", "child" or "parent", as the side that
records.
"""

import multiprocessing
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable
from concurrent.futures import CancelledError, ProcessPoolExecutor
from functools import partial
from typing import Any

import ztrace


class Order:
    """An order, which can be pickled."""

    def place(self, article: str) -> str:
        """Return the article."""
        return f"placed {article}"


def double(number: int, self: int = 0) -> int:
    """Return twice the number, within a span."""
    with ztrace.span("inner"):
        return 2 * number + self


def refuse(article: str) -> None:
    """Raise an exception with an attribute that is sent along."""
    error = KeyError(article)
    error.shelf = 3  # type: ignore[attr-defined]
    raise error


def wait(gate: str) -> None:
    """Wait until the other end of a FIFO is opened."""
    with open(gate):
        pass


def make_unpicklable() -> Any:
    """Return a result that cannot be sent."""
    return lambda: 1


def leave() -> None:
    """End the child at once."""
    os._exit(3)


def start(endpoint: str, traced: str) -> None:
    """Begin a child: one that was forked may record already, and one that was spawned does not."""
    if traced in ("both", "child"):
        ztrace.configure("child", endpoint)
        ztrace.instrument("executors")
    else:
        ztrace.shutdown()


def attempt(name: str, work: Callable[[], Any]) -> None:
    """Do the work within a span, and print its outcome or its exception, with the remote traceback."""
    try:
        with ztrace.span(name):
            print(name, work())
    except BaseException as error:
        text = "".join(traceback.format_exception(error))
        functions = re.findall(r", in (\w+)", text)
        said = re.sub("0x[0-9a-f]+", "…", str(error))
        print(name, type(error).__name__, said, sorted(vars(error)), functions, "middleware/tasks" in text)


def use_executor(method: str, begin: partial[None]) -> None:
    """Submit tasks to an executor."""
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, context, begin) as executor:
        attempt("submit", lambda: executor.submit(double, 21).result())
        attempt("keyword", lambda: executor.submit(double, 20, self=2).result())
        attempt("method", lambda: executor.submit(Order().place, "lamp").result())
        attempt("map", lambda: list(executor.map(double, [1, 2], chunksize=2)))
        attempt("error", lambda: executor.submit(refuse, "piano").result())
        attempt("unpicklable", lambda: str(executor.submit(make_unpicklable).exception())[:9])
        attempt("unpicklable task", lambda: str(executor.submit(lambda: 1).exception())[:9])
        gate = os.path.join(tempfile.mkdtemp(), "gate")
        os.mkfifo(gate)
        executor.submit(wait, gate)
        waiting = [executor.submit(double, number) for number in range(9)]
        cancelled = waiting[-1].cancel()
        with open(gate, "w"):
            pass
        print("cancelled", cancelled, waiting[-1].cancelled())
        try:
            waiting[-1].result()
        except CancelledError as error:
            print(repr(error))
    with ProcessPoolExecutor(1, context, begin) as executor:
        attempt("broken", lambda: executor.submit(leave).result())


def use_pool(method: str, begin: partial[None]) -> None:
    """Hand tasks to a pool of the multiprocessing package."""
    with multiprocessing.get_context(method).Pool(1, begin) as pool:
        attempt("apply", lambda: pool.apply(double, (21,)))
        attempt("apply_async", lambda: pool.apply_async(func=double, args=(21,), callback=print).get())
        attempt("pool map", lambda: pool.map(double, [1, 2, 3], 2))
        attempt("empty map", lambda: pool.map(double, []))
        attempt("starmap", lambda: pool.starmap(double, [(1, 2)]))
        attempt("imap", lambda: list(pool.imap(double, [1, 2])))
        attempt("imap_unordered", lambda: list(pool.imap_unordered(double, [1, 2], chunksize=2)))
        attempt("pool error", lambda: pool.apply(refuse, ("piano",)))
        attempt("map error", lambda: pool.map(refuse, ["piano"]))
        attempt("imap error", lambda: list(pool.imap(refuse, ["piano"])))
        attempt("pool unpicklable", lambda: pool.apply(make_unpicklable))
        pool.close()
        pool.join()


def main(method: str, endpoint: str, traced: str) -> None:
    """Run every scenario."""
    if traced in ("both", "parent"):
        ztrace.configure("parent", endpoint)
        ztrace.instrument("executors")
    begin = partial(start, endpoint, traced)
    use_executor(method, begin)
    use_pool(method, begin)


if __name__ == "__main__":
    main(*sys.argv[1:])
