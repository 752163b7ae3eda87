"""Collector process that sends spans on, and functions that feed it.

One idea: the process is the real command, observed through its file, its stderr and the receivers.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import zmq
from click.testing import CliRunner

from tests.collector.messages import Sender, rows
from tests.ztrace.waiting import DEADLINE_S, wait_for
from ztrace.records import Span
from ztrace.wire import ACK, WELCOME, unpack_acks
from ztrace_viewer.cli import ztrace

_COMMAND = "import sys; from ztrace_viewer.entry import main; sys.exit(main())"


class Running:
    """Collector process, from start to end.

    Attributes:
        process: the collector.
        path: its database.
        endpoint: the address for publishers.
    """

    def __init__(self, path: Path, log: Path, options: Sequence[str], environment: dict[str, str]) -> None:
        self.path = path
        self._log = log
        arguments = ["collect", "--bind", "tcp://127.0.0.1:0", "--db", str(path), *options]
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", _COMMAND, *arguments],
                stderr=errors,
                env={**os.environ, **environment},
            )
        self.endpoint = wait_for(self._find_endpoint)

    def _find_endpoint(self) -> str:
        found = re.search(r"collecting at (\S+)", self.said())
        assert found or self.process.poll() is None, self.said()
        return found[1] if found else ""

    def said(self) -> str:
        """Return the collector's stderr."""
        return self._log.read_text()

    def stop(self) -> str:
        """Interrupt the collector as Ctrl-C does; return its stderr."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(DEADLINE_S) == 0, self.said()
        return self.said()

    def kill(self) -> None:
        """Kill the collector, and wait for its exit."""
        self.process.kill()
        self.process.wait()

    def find_child(self) -> int:
        """Wait for the sending process, and return its pid."""
        return int(wait_for(lambda: _children(self.process.pid))[0])

    def feed(self, sender: Sender, *batches: Sequence[Span]) -> None:
        """Publish batches, and wait until they are acknowledged."""
        self.publish(sender, *(sender.data(*batch) for batch in batches))

    def publish(self, sender: Sender, *messages: list[bytes]) -> None:
        """Publish messages, and wait until they are acknowledged."""
        with zmq.Context() as context, context.socket(zmq.DEALER) as publisher:
            publisher.linger = 0
            publisher.setsockopt(zmq.PROBE_ROUTER, 1)
            publisher.connect(self.endpoint)
            wait_for(lambda: publisher.poll(50) and publisher.recv() == WELCOME)
            for message in messages:
                publisher.send_multipart(message)

            def is_stored() -> bool:
                frame = publisher.recv() if publisher.poll(20) else b"\0"
                return frame.startswith(ACK) and unpack_acks(frame).get(sender.incarnation) == sender.sequence

            wait_for(is_stored)


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@contextmanager
def sending_on(path: Path, *options: str, **environment: str) -> Iterator[Running]:
    """Run a collector; its processes are killed at the end."""
    log = path.parent / f"{len(list(path.parent.iterdir()))}.log"
    with ExitStack() as stack:
        running = Running(path, log, options, environment)

        @stack.callback
        def end() -> None:
            children = _children(running.process.pid) if running.process.poll() is None else []
            running.kill()
            wait_for(lambda: not any(is_alive(int(child)) for child in children))

        yield running


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def destinations(path: Path) -> list[dict[str, Any]]:
    """Return the rows of destinations, ordered by URL."""
    return rows(path, "SELECT * FROM destinations ORDER BY url")


def refused(path: Path) -> dict[str, int]:
    """Return the number of refused spans by reason, over all destinations."""
    found = rows(path, "SELECT reason, sum(count) AS n FROM destination_refusals GROUP BY reason")
    return {each["reason"]: each["n"] for each in found}


def status(path: Path, *options: str) -> str:
    """Return the output of ``ztrace status``."""
    result = CliRunner().invoke(ztrace, ["status", "--db", str(path), *options])
    assert result.exit_code == 0, result.output
    return result.output
