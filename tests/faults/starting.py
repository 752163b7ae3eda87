"""How long beginning to trace stops a program: ``python -m tests.faults.starting ENDPOINT WAYS``.

One idea: every process can be measured once, so this one prints its figures as a line of JSON and ends.
"""

import json
import sys
import time
from itertools import pairwise
from typing import NamedTuple


class Start(NamedTuple):
    """What stopped the program, in ms.

    Attributes:
        loading: importing what `configure` imports, pyzmq before all.
        configure: `configure` itself.
        first: the first span, which starts the thread and its socket.
        second: the second span, which finds both.
    """

    loading: float
    configure: float
    first: float
    second: float


def measure(endpoint: str) -> Start:
    """Begin to trace."""
    import ztrace

    begun_s = time.perf_counter()
    # What `configure` imports, so that it is not counted with what it does.
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
    """Measure it where the program runs: in its main thread, a greenlet or a task."""
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
