"""CPU time of a collector that many publishers send to, and the bytes of its acknowledgements.

Run by hand: ``python -m tests.benchmarks.publishers [--publishers N] [--spans N]``. Each publisher sends a
message of so many spans a second, at its own moment; all are sockets of this process, the collector is
another. Settling, which the collector does while nothing arrives, is measured apart, and so is what it takes
to start and to let the publishers connect.
"""

import argparse
import tempfile
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path

import msgpack
import zmq

from tests.benchmarks.calls import clock_of
from tests.benchmarks.collector import (
    ROUND_SPANS,
    SERVICES,
    Publisher,
    make_templates,
    moved_on,
    start_collector,
    stop_collector,
)
from ztrace.wire import BYE, DATA

#: Time between two turns, in each of which some of the publishers send.
TURN_S = 0.02


class Small(Publisher):
    """Publisher of small messages."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", endpoint: str, service: str) -> None:
        super().__init__(context, endpoint, service)
        self.ack_bytes = 0

    def drain(self) -> None:
        """Read what the collector has sent."""
        while self.socket.poll(0):
            self.ack_bytes += len(self.socket.recv())


def main() -> None:
    """Run the benchmark, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--publishers", type=int, default=1_000)
    parser.add_argument("--spans", type=int, default=20, help="spans of each publisher a second")
    parser.add_argument("--seconds", type=int, default=10)
    options = parser.parse_args()
    bodies: dict[str, deque[bytes]] = {service: deque() for service in SERVICES}
    templates = make_templates(1)
    for number in range(1 + options.publishers * options.seconds * options.spans // (ROUND_SPANS // 2)):
        for template in templates:
            spans = msgpack.unpackb(moved_on(template.body, number))
            for first in range(0, len(spans) - options.spans, options.spans):
                bodies[template.service].append(msgpack.packb(spans[first : first + options.spans]))
    turns = round(1 / TURN_S)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        process, endpoint = start_collector(Path(folder) / "many.db")
        context = stack.enter_context(zmq.Context(4))
        context.max_sockets = options.publishers + 100
        publishers = []
        for number in range(options.publishers):
            publishers.append(Small(context, endpoint, SERVICES[number % len(SERVICES)]))
            stack.enter_context(publishers[-1].socket)
        connected_s = time.clock_gettime(clock_of(process))
        begin_s, sent = time.monotonic(), 0
        for turn in range(turns * options.seconds):
            for publisher in publishers[turn % turns :: turns]:
                body = bodies[publisher.service].popleft()
                publisher.send(DATA, body, options.spans)
                sent += options.spans
                publisher.drain()
            time.sleep(max(0.0, begin_s + (turn + 1) * TURN_S - time.monotonic()))
        took_s = time.monotonic() - begin_s
        for publisher in publishers:
            publisher.send(BYE, b"", 0)
        time.sleep(2)
        for publisher in publishers:
            publisher.drain()
        megabytes, cpu_s, spare_s = stop_collector(process)
    acknowledged = sum(publisher.ack_bytes for publisher in publishers)
    print(f"{options.publishers:,} publishers, {sent / took_s:,.0f} spans/s")
    print(f"CPU of the collector, µs a span  {1e6 * cpu_s / sent:.1f}")
    print(f"of that for settling             {1e6 * spare_s / sent:.1f}")
    print(f"of that to start and connect     {1e6 * connected_s / sent:.1f}")
    print(f"acknowledgements, MB/s           {acknowledged / took_s / 1e6:.2f}")
    print(f"highest RSS, MB                  {megabytes}")


if __name__ == "__main__":
    main()
