"""Collectors that listen for OTLP: in a thread of this process, or as the real command."""

import asyncio
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import uvicorn

from tests.ztrace.waiting import wait_for
from ztrace.addresses import Address
from ztrace_collector import service
from ztrace_collector.otlp.listening import http_connections
from ztrace_collector.otlp.listening.servers import Listening, Servers
from ztrace_collector.receiving.inbox import Inbox
from ztrace_collector.service import Collector, Options

#: Console script, independent of its installed location.
MAIN = "import sys; from ztrace_viewer.entry import main; sys.exit(main())"
#: Longer than any condition takes: only a failing test reaches it.
DEADLINE_S = 60
ANY_PORT = Address("127.0.0.1", 0)
#: Time in which an idle collector writes what it has counted, half a second elsewhere
IDLE_S = 0.02
#: Period in which connections are checked for timeouts, a second elsewhere
LOOK_S = 0.1


class Running(NamedTuple):
    """Collector that listens for OTLP.

    Attributes:
        endpoint: the address for publishers.
        http: the address for OTLP over HTTP.
        grpc: the address for OTLP over gRPC, or None.
        said: the lines reported by the listener.
        known: the refusals in the file that earlier tests have caused.
    """

    path: Path
    endpoint: str
    http: Address
    grpc: Address | None
    collector: Collector
    said: list[str]
    known: dict[str, int] = {}  # noqa: RUF012

    @property
    def url(self) -> str:
        """URL of the OTLP endpoint."""
        return f"http://{self.http}/v1/traces"


@contextmanager
def running(path: Path, *, grpc: bool = False) -> Iterator[Running]:
    """Run a collector in a thread; it is stopped at the end."""
    servers: list[Servers] = []
    endpoints: list[str] = []
    said: list[str] = []
    others = _listening_threads()

    def listen(inbox: Inbox, say: Callable[[str], None]) -> Servers:
        servers.append(Servers(Listening(ANY_PORT, ANY_PORT if grpc else None), inbox, said.append))
        return servers[0]

    options = Options("tcp://127.0.0.1:0", path, companions=[listen])
    collector = Collector(options, ready=endpoints.append)
    thread = threading.Thread(target=collector.run, name="collector")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "IDLE_S", IDLE_S)
        patch.setattr(http_connections, "LOOK_S", LOOK_S)
        patch.setattr(uvicorn.Server, "main_loop", _await_exit)
        thread.start()
        try:
            wait_for(lambda: endpoints or not thread.is_alive())
            assert servers[0].http is not None
            yield Running(path, endpoints[0], servers[0].http, servers[0].grpc, collector, said)
        finally:
            collector.stop()
            thread.join(DEADLINE_S)
    assert not thread.is_alive()
    assert _listening_threads() == others


async def _await_exit(server: uvicorn.Server) -> None:
    while not server.should_exit:  # uvicorn's own loop looks every tenth of a second.
        await asyncio.sleep(0.005)


def _listening_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if "otlp" in each.name]


class Started(NamedTuple):
    """Running command that listens for OTLP.

    Attributes:
        line: its first line of output.
    """

    process: "subprocess.Popen[str]"
    path: Path
    endpoint: str
    line: str
    http: str
    grpc: str

    def stop(self) -> str:
        """Interrupt the command as Ctrl-C does; return the rest of its output."""
        self.process.send_signal(signal.SIGINT)
        _, written = self.process.communicate(timeout=DEADLINE_S)
        assert self.process.returncode == 0, written
        return written


@contextmanager
def started(path: Path, *options: str, name: str = "collect") -> Iterator[Started]:
    """Run ``ztrace collect`` or ``up`` on free ports; the process is killed at the end."""
    command = [sys.executable, "-c", MAIN, name, "--bind", "tcp://127.0.0.1:0", "--db", str(path)]
    listening = ["--otlp-listen", "127.0.0.1:0", "--otlp-grpc-listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*command, *listening, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    with process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.match(
                r"ztrace: collecting at (\S+) into .*, OTLP at (http://\S+) and grpc://([\d.:]+);", line
            )
            assert found is not None, line + process.stderr.read()
            yield Started(process, path, found[1], line, found[2], found[3])
        finally:
            process.kill()


def count_spans(path: Path) -> int:
    """Return a file's number of spans."""
    with closing(sqlite3.connect(path)) as db:
        count: int = db.execute("SELECT count(*) FROM spans").fetchone()[0]
        return count


def refusals(path: Path) -> dict[str, int]:
    """Return the counts of refusals by reason."""
    with closing(sqlite3.connect(path)) as db:
        return dict(db.execute("SELECT reason, count FROM refusals"))
