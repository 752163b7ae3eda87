"""Traced services of the soak: ``python -m tests.soak.service ROLE ENDPOINT [NEXT_ENDPOINT] [RATE]``.

``flood`` makes as many traces as a collector remembers, and ends; ``stock`` answers; ``shop`` answers by
asking ``stock``; ``customer`` asks ``shop`` at a rate, some of it in vain; ``job`` makes some spans and ends,
as a process does that is reloaded.
"""

import sys
import time
from contextlib import suppress

import gevent
import zerorpc

import ztrace

#: Of the numbers asked for, these are unknown, and these take long.
UNKNOWN, SLOW = 10, 25
#: Spans of a job, and seconds for a client's reconnection to a server that was killed.
JOB_SPANS, AGAIN_S = 50, 0.5
#: Spans of a flood, which fill the collector's cache of traces, and 40 MB, more than SQLite's cache; and the
#: spans between two waits for their delivery.
FLOOD_SPANS, FLOOD_AT_ONCE = 60_000, 2_000


class Stock:
    """Server at the end of each call."""

    def reserve(self, number: int) -> int:
        """Reserve an item, which may not exist, or take long."""
        if number % UNKNOWN == 0:
            raise KeyError(f"no item {number}")
        if number % SLOW == 0:
            gevent.sleep(0.05)
        return number


class Shop:
    """Server in the middle of each call."""

    def __init__(self, stock: str) -> None:
        self._stock = zerorpc.Client(stock, timeout=2, heartbeat=2)

    def order(self, number: int) -> int:
        """Order an item from the stock."""
        with ztrace.span("check", number=number, note="x" * 200):
            pass
        return int(self._stock.reserve(number))


def serve(server: object, endpoint: str) -> None:
    """Serve an object until the process is ended."""
    running = zerorpc.Server(server)
    running.bind(endpoint)
    running.run()


def buy(shop: str, rate: float) -> None:
    """Order items from a shop until the process is ended."""
    client = zerorpc.Client(shop, timeout=2, heartbeat=2)
    number = 0
    while True:
        number += 1
        try:
            with ztrace.span("buy"):
                client.order(number)
        except (zerorpc.RemoteError, zerorpc.TimeoutExpired):
            pass
        except zerorpc.LostRemote:
            gevent.sleep(AGAIN_S)
        gevent.sleep(1 / rate)


def main(role: str, endpoint: str, other: str = "", rate: str = "1") -> None:
    """Run a service; settings of ztrace come from the environment."""
    ztrace.configure(service=role)
    ztrace.instrument("zerorpc")
    if role == "stock":
        serve(Stock(), endpoint)
    elif role == "shop":
        serve(Shop(other), endpoint)
    elif role == "flood":
        for number in range(FLOOD_SPANS):
            with ztrace.span("flood", number=number, note="x" * 600):
                pass
            if not number % FLOOD_AT_ONCE:
                ztrace.flush(timeout_s=10)
    elif role == "customer":
        buy(endpoint, float(rate))
    else:
        for number in range(JOB_SPANS):
            with suppress(ValueError), ztrace.span("step", number=number):
                if number % UNKNOWN == 0:
                    raise ValueError(f"step {time.time_ns()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
