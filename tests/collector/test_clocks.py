"""A collector whose clock is set by hand, and real services whose clocks are wrong."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.collector.messages import EPOCH_NS, rows
from tests.ztrace.waiting import wait_for
from ztrace_collector.layout import HOUR_NS, SECOND_NS
from ztrace_collector.service import Collector, Options
from ztrace_collector.storing.retention import Limits
from ztrace_viewer.queries.status import read_status
from ztrace_viewer.queries.stores.sqlite.store import open_file

pytestmark = [pytest.mark.process, pytest.mark.slow]

#: A service whose clock is off, with an ended span and one that is open; it ends with its input.
SERVICE = """
import sys, time
offset_ns, real_ns = int(sys.argv[3]), time.time_ns
time.time_ns = lambda: real_ns() + offset_ns
import ztrace
ztrace.configure(service=sys.argv[1], endpoint=sys.argv[2])
with ztrace.span("before"):
    pass
with ztrace.span("open"):
    sys.stdin.read()
"""
#: Time by which each service's clock is off.
OFFSETS = {"right": 0, "behind": -3 * HOUR_NS, "past": -30 * 365 * 24 * HOUR_NS, "future": 10**18}
DEADLINE_S = 60


class Clock:
    """Wall clock and steady clock of a collector, set by hand."""

    def __init__(self) -> None:
        self.wall_ns, self.steady_ns = EPOCH_NS + HOUR_NS // 2, 0

    def pass_by(self, time_ns: int, jump_ns: int = 0) -> None:
        """Let time pass, and set the wall clock besides."""
        self.steady_ns += time_ns
        self.wall_ns += time_ns + jump_ns


@contextmanager
def collecting(path: Path, clock: Clock, bind: str = "tcp://127.0.0.1:0") -> Iterator[str]:
    """Run a collector that keeps an hour, in a thread, and yield its endpoint."""
    endpoints: list[str] = []
    options = Options(
        bind,
        path,
        limits=Limits(keep_ns=HOUR_NS),
        clock_ns=lambda: clock.wall_ns,
        steady_ns=lambda: clock.steady_ns,
    )
    collector = Collector(options, ready=endpoints.append)
    thread = threading.Thread(target=collector.run)
    thread.start()
    try:
        wait_for(lambda: endpoints or not thread.is_alive())
        yield endpoints[0]
    finally:
        collector.stop()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


@contextmanager
def serving(service: str, endpoint: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a service whose clock is off, and kill it at the end."""
    command = [sys.executable, "-c", SERVICE, service, endpoint, str(OFFSETS[service])]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def states(path: Path, clock: Clock) -> dict[str, str]:
    """Return the state of each service's process."""
    with open_file(path) as db:
        return {each["service"]: each["state"] for each in read_status(db, clock.wall_ns)["publishers"]}


def spans(path: Path, table: str) -> set[str]:
    """Return the services that have spans in a table."""
    sql = f"SELECT DISTINCT service FROM {table} JOIN methods ON methods.id = method"
    return {each["service"] for each in rows(path, sql)}


def test_clocks_that_are_wrong(path: Path) -> None:
    """Jumps of the collector's clock keep nobody alive, and no service's clock makes its traces expire.

    In one test, since a fleet of processes takes seconds to start.
    """
    clock, everybody = Clock(), set(OFFSETS)
    with ExitStack() as fleet:
        with collecting(path, clock) as endpoint:
            processes = {service: fleet.enter_context(serving(service, endpoint)) for service in OFFSETS}
            wait_for(lambda: spans(path, "spans") == spans(path, "unfinished_spans") == everybody)
            # The clock is an hour ahead, one process is killed, and the clock is set back.
            clock.pass_by(10 * SECOND_NS, HOUR_NS)
            wait_for(lambda: set(states(path, clock).values()) == {"live"})
            processes["right"].send_signal(signal.SIGKILL)
            processes["right"].wait(DEADLINE_S)
            clock.pass_by(10 * SECOND_NS, -HOUR_NS)
            left = {service: "silent" if service == "right" else "live" for service in OFFSETS}
            wait_for(lambda: states(path, clock) == left)
            with open_file(path) as db:
                status = read_status(db, clock.wall_ns)
            assert (status["unfinished_running"], status["unfinished_ended"]) == (3, 1)
            # A clock that is set back by more than the age of everything.
            clock.pass_by(10 * SECOND_NS, -100 * 365 * 24 * HOUR_NS // 3)
            wait_for(lambda: states(path, clock) == left)
        # The collector is started again, with the clock put right.
        clock.pass_by(10 * SECOND_NS, 100 * 365 * 24 * HOUR_NS // 3)
        with collecting(path, clock, endpoint):
            wait_for(lambda: states(path, clock) == left)
            assert spans(path, "spans") == everybody
            # All traces expire at the same time: when they have been here for an hour.
            clock.pass_by(2 * HOUR_NS)
            wait_for(lambda: not spans(path, "spans"))
