"""Time for which starting to trace blocks a program: ``python -m tests.faults.starting ENDPOINT WAYS``.

One idea: each process can be measured once, so it prints its figures as a line of JSON and exits.
"""

import json
import sys
import time
from itertools import pairwise
from typing import NamedTuple


class Start(NamedTuple):
    """Times that blocked the program, in ms.

    Attributes:
        loading: importing the modules that `configure` needs, mainly pyzmq.
        configure: the call of `configure`.
        first: the first span, which starts the thread and its socket.
        second: the second span, which finds both running.
    """

    loading: float
    configure: float
    first: float
    second: float


def measure(endpoint: str) -> Start:
    """Start tracing, and return the times of the steps."""
    import ztrace

    begun_s = time.perf_counter()
    # Imported here, so that `configure` is measured without its imports.
    import ztrace.publishing.link
    import ztrace.publishing.publisher

    loaded_s = time.perf_counter()
    ztrace.configure("start", endpoint)
    configured_s = time.perf_counter()
    with ztrace.span("first"):
        pass
    first_s = time.perf_counter()
    with ztrace.span("second"):
        pass
    moments_s = (begun_s, loaded_s, configured_s, first_s, time.perf_counter())
    return Start(*(1000 * (after - before) for before, after in pairwise(moments_s)))


def main() -> None:
    """Measure in the main thread, a greenlet or a task."""
    endpoint, ways = sys.argv[1:]
    if ways == "gevent":
        from gevent import monkey

        monkey.patch_all()
        import gevent

        start = gevent.spawn(measure, endpoint).get()
    elif ways == "asyncio":
        import asyncio

        async def work() -> Start:
            return measure(endpoint)

        start = asyncio.run(work())
    else:
        start = measure(endpoint)
    print(json.dumps(start))


if __name__ == "__main__":
    main()
