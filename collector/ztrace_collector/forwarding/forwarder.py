"""Forwarding as seen from the collector: a process that sends, and its reports.

One idea: the collector never waits for it. A thread reads the process's reports and wakes the collector's
loop, which writes them between two transactions, confirms them, and restarts the process after its death.
What is sent, and the lines between both, are a `Sending`'s matter.
"""

import contextlib
import logging
import math
import sqlite3
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ztrace_collector.forwarding.child import FINISH
from ztrace_collector.storing.defects import contained
from ztrace_collector.storing.writer import Writer

#: Time at the end for destinations to accept what is stored.
FINISH_S = 3.0
#: First and longest delay before a restart of the process; delays double.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
#: Lifetime of a process after which its next restart has the first delay again.
LIVED_S = 60.0

_log = logging.getLogger(__name__)


class Sending(Protocol):
    """Kind of forwarding: its process, and the lines between the process and the collector.

    Attributes:
        module: the module that the process runs; its argument is the number of a log level.
        option: the option that names the destinations.
    """

    module: str
    option: str

    def register(self, db: sqlite3.Connection) -> bytes:
        """Write that the destinations are in use, and return the first line for the process."""
        ...

    def read_line(self, line: bytes) -> Any:
        """Parse a line of the process: a report, or a str for the user."""
        ...

    def write_reports(self, db: sqlite3.Connection, reports: Sequence[Any]) -> None:
        """Apply reports in their order."""
        ...

    def confirm(self, reports: Sequence[Any]) -> bytes:
        """Return the lines that tell the process that its reports are written."""
        ...

    def read_behind(self, db: sqlite3.Connection) -> list[tuple[str, int]]:
        """Return the destinations with unsent spans, and their numbers of unsent spans."""
        ...


class _Process:
    """Forwarding process, with the thread that reads its output."""

    def __init__(
        self, module: str, orders: bytes, heard: Callable[[bytes], None], ended: Callable[[], None]
    ) -> None:
        self.started_s = time.monotonic()
        level = str(_log.getEffectiveLevel())
        # In its own session, since Ctrl-C is for the collector, which ends the process in time.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, level],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._heard, self._ended = heard, ended
        self.tell(orders)
        self._thread = threading.Thread(target=self._hear, name="forwarding", daemon=True)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """True once the process has ended and all its output has been read."""
        return not self._thread.is_alive()

    def tell(self, line: bytes) -> None:
        """Write a line to the process, which reads at once and never has much to read."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # The process has died, and its thread reports that.
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def end(self) -> int:
        """Kill the process if it is running, and return its exit status."""
        self._process.kill()
        self._thread.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # Unwritten lines do not matter any more.
                pipe.close()
        return self._process.wait()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith(b"\n"):  # The last line of a killed process may be incomplete.
                self._heard(line)
        self._ended()


class Forwarder:
    """Forwarding of one kind while the collector runs."""

    def __init__(self, sending: Sending, *, say: Callable[[str], None], wake: Callable[[], None]) -> None:
        """Store the settings; the first `step` starts the process.

        Args:
            sending: the kind.
            say: prints a line for the user.
            wake: makes the collector's loop call `step`; thread-safe.
        """
        self._sending = sending
        self._say = say
        self._wake = wake
        self._process: _Process | None = None
        self._lines: deque[bytes] = deque()
        #: Opening of the file that the process reads, and the time from which a process may be started.
        self._opening = 0
        self._start_s = 0.0
        self._pause_s = FIRST_PAUSE_S

    def wait_s(self) -> float:
        """Return the time until `step` has work, unless `wake` is called."""
        return math.inf if self._process else max(0.0, self._start_s - time.monotonic())

    def step(self, writer: Writer) -> None:
        """Write pending reports, and start the process if it is not running."""
        if self._process and writer.opening != self._opening:
            # The file has been replaced or opened again, and pending reports belong to the previous one.
            self.close()
        self._write_down(writer)
        if self._process and self._process.has_ended:
            self._write_down(writer)
            if self._lines:
                return  # Reports cannot be written at the moment, so the positions in the file are outdated.
            self._bury(self._process)
        if self._process is None and time.monotonic() >= self._start_s:
            self._start(writer)

    def restart(self) -> None:
        """End the process after an internal error; `step` restarts it later, from the written positions."""
        self.close()
        self._put_off()

    def finish(self, writer: Writer) -> None:
        """Give destinations a moment to accept pending spans, and write and report the positions."""
        if self._process is not None and not writer.holding:
            self._wait(self._process, writer)
        behind: list[tuple[str, int]] = []
        writer.write_beside(lambda db: behind.extend(self._sending.read_behind(db)))
        for url, count in behind:
            spans = "1 span has" if count == 1 else f"{count:,} spans have"
            self._say(
                f"{spans} not been sent to {url} yet;"
                f" the next collector with that {self._sending.option} sends the rest"
            )

    def close(self) -> None:
        """Kill the process; spans that it has not reported are sent again after the next start."""
        if self._process:
            self._process.end()
        self._process = None
        self._lines.clear()

    def _wait(self, process: _Process, writer: Writer) -> None:
        deadline_s = time.monotonic() + FINISH_S
        process.tell(FINISH)
        while time.monotonic() < deadline_s and not writer.holding:
            ended = process.has_ended
            self._write_down(writer)
            if ended:
                return
            time.sleep(0.005)
        process.end()
        self._write_down(writer)

    def _start(self, writer: Writer) -> None:
        orders: list[bytes] = []
        if not writer.write_beside(lambda db: orders.append(self._sending.register(db))):
            return
        self._opening = writer.opening
        try:
            self._process = _Process(self._sending.module, orders[-1], self._hear, self._wake)
            _log.info("sending on in a process of its own: %s", self._sending.module)
        except OSError as error:
            self._put_off()
            self._say(f"cannot start the forwarding process: {error.strerror}; retrying")

    def _hear(self, line: bytes) -> None:
        self._lines.append(line)
        self._wake()

    def _write_down(self, writer: Writer) -> None:
        """Write pending reports, print lines for the user, and confirm what is written."""
        lines = list(self._lines)
        heard = [self._sending.read_line(line) for line in lines]
        reports = [each for each in heard if not isinstance(each, str)]
        if reports and not writer.write_beside(lambda db: self._sending.write_reports(db, reports)):
            return
        for _ in lines:
            self._lines.popleft()
        for each in heard:
            if isinstance(each, str):
                self._say(each)
        if reports and self._process:
            self._process.tell(self._sending.confirm(reports))

    def _bury(self, process: _Process) -> None:
        status = process.end()
        self._process = None
        if time.monotonic() - process.started_s > LIVED_S:
            self._pause_s = FIRST_PAUSE_S
        self._put_off()
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        self._say(f"the forwarding process {how}; restarting it")

    def _put_off(self) -> None:
        self._start_s = time.monotonic() + self._pause_s
        self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s)


class Forwarders:
    """All kinds of forwarding of a collector."""

    def __init__(
        self, sendings: Sequence[Sending], *, say: Callable[[str], None], wake: Callable[[], None]
    ) -> None:
        self._forwarders = [Forwarder(sending, say=say, wake=wake) for sending in sendings]

    def wait_s(self) -> float:
        """Return the time until `step` has work, unless it is woken."""
        return min((forwarder.wait_s() for forwarder in self._forwarders), default=math.inf)

    def step(self, writer: Writer) -> None:
        """Run a step of each; one with an internal error is restarted later."""
        for forwarder in self._forwarders:
            with contained(_log, "sending spans on"):
                forwarder.step(writer)
                continue
            forwarder.restart()

    def finish(self, writer: Writer) -> None:
        """Give destinations a moment to accept pending spans, and report the positions."""
        for forwarder in self._forwarders:
            with contained(_log, "sending spans on before the end"):
                forwarder.finish(writer)

    def close(self) -> None:
        """Kill the processes."""
        for forwarder in self._forwarders:
            forwarder.close()
