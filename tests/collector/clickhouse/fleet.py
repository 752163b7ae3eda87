"""Collectors before one ClickHouse database, and many publishers that know all of them.

One idea: every process is a real one. Publishers print what they have made, and the rest is read from the
collectors' files and from ClickHouse.
"""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.collector.messages import rows
from tests.collector.otlp.sending_on import Running, sending_on

#: Publisher that makes a number of spans, prints its incarnation and ends with its standard input.
_PROGRAM = """
import sys, time
import ztrace
from ztrace import agent
from ztrace.publishing import choosing

choosing.STAY_S = 3.0
endpoints, spans, pause_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
ztrace.configure("maker", endpoints)
print(agent.current_publisher().identity.incarnation.hex(), flush=True)
for number in range(spans):
    with ztrace.span("turn", number=number):
        time.sleep(pause_s)
sys.stdin.readline()
ztrace.shutdown(60)
"""
#: Time for all publishers to end and for collectors to send on, on a busy machine.
LONG_S = 120.0


class Fleet:
    """Running collectors and publishers.

    Attributes:
        paths: files of the collectors.
        endpoints: their addresses.
        collectors: the running ones, by number.
        made: spans that each publisher makes.
    """

    def __init__(self, stack: ExitStack, folder: Path, url: str, count: int) -> None:
        self._stack, self._url = stack, url
        self.paths = [folder / f"journal{number}.db" for number in range(count)]
        self.endpoints = ["tcp://127.0.0.1:0"] * count
        self.collectors: dict[int, Running] = {}
        self.made = 0
        self._programs: list[subprocess.Popen[str]] = []
        for number in range(count):
            self.start(number)

    def start(self, number: int) -> None:
        """Start a collector, at its address if it has run before."""
        options = ("--bind", self.endpoints[number], "--clickhouse", self._url)
        running = self._stack.enter_context(sending_on(self.paths[number], *options))
        self.collectors[number], self.endpoints[number] = running, running.endpoint

    def kill(self, number: int) -> None:
        """Kill a collector."""
        self.collectors.pop(number).kill()

    def count_spans(self, number: int) -> int:
        """Return the spans in a collector's file."""
        return int(rows(self.paths[number], "SELECT count(*) AS n FROM spans")[0]["n"])

    def publish(self, publishers: int, spans: int, pause_s: float = 0.005) -> None:
        """Start publishers."""
        self.made = spans
        arguments = [",".join(self.endpoints), str(spans), str(pause_s)]
        for _ in range(publishers):
            program = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", _PROGRAM, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            self._programs.append(program)
            self._stack.callback(_end, program)

    def finish(self) -> dict[str, str]:
        """End the publishers; return what each has said, by incarnation."""
        said = {}
        for program in self._programs:
            assert program.stdin is not None
            program.stdin.close()
            program.stdin = None
        for program in self._programs:
            incarnation, errors = program.communicate(timeout=LONG_S)
            said[incarnation.strip()] = errors
            assert program.returncode == 0
        return said

    def wait_until_sent(self) -> None:
        """Wait until ClickHouse has everything in the files of the running collectors."""
        query = "SELECT 1 FROM shipping WHERE complete >= (SELECT coalesce(max(id), 0) FROM spans)"
        self.wait(lambda: all(rows(self.paths[number], query) for number in self.collectors))

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait longer than for other conditions: until what has arrived in ClickHouse is counted."""
        deadline_s = time.monotonic() + LONG_S
        while not condition():
            assert time.monotonic() < deadline_s, [each.said() for each in self.collectors.values()]
            time.sleep(0.05)

    def accounts(self, incarnation: str) -> list[dict[str, Any]]:
        """Return the accounts of a publisher, with all collectors that have heard of it."""
        query = "SELECT * FROM publishers JOIN instances ON instances.id = instance WHERE instance_id = ?"
        return [row for path in self.paths for row in rows(path, query, incarnation)]

    def count_stored(self) -> Counter[tuple[bytes, bytes]]:
        """Return how many files have each span."""
        query = "SELECT trace_id, span_id FROM spans"
        return Counter((row["trace_id"], row["span_id"]) for path in self.paths for row in rows(path, query))


@contextmanager
def open_fleet(folder: Path, url: str, count: int) -> Iterator[Fleet]:
    """Run collectors; they and the publishers are killed at the end."""
    with ExitStack() as stack:
        yield Fleet(stack, folder, url, count)


def count_overlaps(accounts: Sequence[dict[str, Any]], paths: Sequence[Path]) -> int:
    """Return how many sequence numbers of a publisher are in ranges of several collectors."""
    received: Counter[int] = Counter()
    for account in accounts:
        received.update(range(account["first_sequence"], account["next_sequence"]))
    for path in paths:
        query = (
            "SELECT first_sequence, next_sequence FROM sequence_ranges JOIN instances ON id = instance"
            " WHERE instance_id = ?"
        )
        for row in rows(path, query, accounts[0]["instance_id"]):
            received.update(range(row["first_sequence"], row["next_sequence"]))
    return sum(number > 1 for number in received.values())


def _end(program: "subprocess.Popen[str]") -> None:
    program.kill()
    program.communicate()
