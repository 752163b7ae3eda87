"""Processes of a fault: collectors, makers of spans and proxies, all ended with their `Stage`.

One idea: every wait has a deadline, and every process started is killed at the end by its own id, even if
stopped.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Protocol, Self, TypeVar

from tests.faults.board import Board
from tests.faults.making import Plan, Seen
from tests.faults.proxy import Proxy
from tests.ports import find_port

#: Root of the checkout.
ROOT = Path(__file__).parents[2]
#: Import path of the packages, independent of an installation.
PATHS = os.pathsep.join(str(ROOT / part) for part in ("", "collector", "viewer"))
#: Deadline of everything but the making of spans.
DEADLINE_S = 60.0
#: Console script, independent of its installed location.
COMMAND = "import sys; from ztrace_viewer.entry import main; sys.exit(main())"
#: Environment without settings.
NOTHING: Mapping[str, str] = MappingProxyType({})

T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
    """Poll until the condition is true, and return its result; fail at the deadline."""
    end_s = time.monotonic() + deadline_s
    while not (result := condition()):
        assert time.monotonic() < end_s, f"{deadline_s:.0f} s passed without: {what}"
        time.sleep(0.005)
    return result


class Server(Protocol):
    """Destination of spans, ztrace's or the peer's."""

    @property
    def endpoint(self) -> str:
        """Address of the server."""
        ...

    def start(self, wait: bool = True) -> None:
        """Start or restart the server."""
        ...

    def kill(self) -> None:
        """Kill the server by SIGKILL."""
        ...

    def pause(self) -> None:
        """Stop the server by SIGSTOP."""
        ...

    def resume(self) -> None:
        """Continue the server by SIGCONT."""
        ...


class Stage:
    """Folder, and the processes that work in it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._processes: list[subprocess.Popen[str]] = []
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # The whole process group, children included.
            process.communicate()
        self._stack.close()

    def name(self, stem: str) -> Path:
        """Return a new path in the folder."""
        self._number += 1
        return self.folder / f"{stem}{self._number}"

    def start(
        self,
        *arguments: str,
        log: Path | None = None,
        asked: bool = False,
        environment: Mapping[str, str] = NOTHING,
    ) -> "subprocess.Popen[str]":
        """Start Python with these arguments.

        Args:
            arguments: the arguments of Python.
            log: the file to which standard error is appended.
            asked: whether to open a pipe to standard input.
            environment: variables in addition to this process's.
        """
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ZTRACE_")}
        with open(log or self.name("log"), "a") as said:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.PIPE if asked else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                start_new_session=True,
                env={**kept, "PYTHONPATH": PATHS, **environment},
            )
        self._processes.append(process)
        return process

    def forget(self, process: "subprocess.Popen[str]") -> None:
        """Release a process that has ended."""
        process.communicate()
        self._processes.remove(process)

    def collector(self, *options: str, folder: Path | None = None, started: bool = True) -> "Collector":
        """Return a collector, started unless requested otherwise."""
        collector = Collector(self, options, (folder or self.folder) / "faults.db")
        if started:
            collector.start()
        return collector

    def maker(self, plan: Plan, environment: Mapping[str, str] = NOTHING) -> "MakerProcess":
        """Start a maker of spans, and wait until it is ready."""
        return MakerProcess(self, plan, environment)

    def command(self, *arguments: str) -> str:
        """Run a ``ztrace`` command to its end, and return its output."""
        process = self.start("-c", COMMAND, *arguments)
        out, _ = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, arguments
        self.forget(process)
        return out

    def proxy(self, target: str, ack_loss: float = 0.0) -> Proxy:
        """Start a proxy in front of the target; it is stopped with the stage."""
        return self.enter(Proxy(target, ack_loss))

    def board(self, path: Path) -> Board:
        """Map a board shared with a process of the stage."""
        return self.enter(closing(Board(path)))

    def enter(self, manager: AbstractContextManager[T]) -> T:
        """Enter a context that ends with the stage."""
        return self._stack.enter_context(manager)


class Collector:
    """``ztrace collect`` process that can be killed and restarted on the same port."""

    def __init__(self, stage: Stage, options: Sequence[str], database: Path) -> None:
        self.database = database
        self.endpoint = f"tcp://127.0.0.1:{find_port()}"
        self._stage = stage
        self._options = options
        self._log = stage.name("collector")
        self._process: subprocess.Popen[str] | None = None

    @property
    def process(self) -> "subprocess.Popen[str]":
        """Current process of the collector."""
        assert self._process is not None
        return self._process

    def start(self, wait: bool = True) -> None:
        """Start the collector, and wait until it listens."""
        bind = ("collect", "--bind", self.endpoint, "--db", str(self.database))
        before = self.log().count("collecting at")
        self._process = self._stage.start("-c", COMMAND, *bind, *self._options, log=self._log)
        if wait:
            wait_for(
                lambda: self.log().count("collecting at") > before or self.process.poll() is not None,
                "the collector listens",
            )
            assert self.process.poll() is None, self.log()

    def log(self) -> str:
        """Return the collector's stderr."""
        return self._log.read_text() if self._log.exists() else ""

    def kill(self) -> None:
        """Kill the collector by SIGKILL."""
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def stop(self) -> None:
        """Terminate the collector, and assert that its exit status is 0."""
        self.process.terminate()
        assert self.process.wait(DEADLINE_S) == 0, self.log()

    def pause(self) -> None:
        """Stop the collector by SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue the collector by SIGCONT."""
        self.process.send_signal(signal.SIGCONT)


class MakerProcess:
    """Process that runs `tests.faults.making`."""

    def __init__(self, stage: Stage, plan: Plan, environment: Mapping[str, str]) -> None:
        path = stage.name("board")
        self.board = stage.board(path)
        self._plan = plan
        self.process = stage.start(
            "-m", "tests.faults.making", str(path), json.dumps(plan._asdict()), environment=environment
        )
        wait_for(lambda: self.board["ready"] or self.process.poll() is not None, "the maker is ready")
        assert self.process.poll() is None

    @property
    def made(self) -> int:
        """Number of spans ended."""
        return self.board["ended"]

    def go(self) -> None:
        """Tell the maker to start."""
        self.board["go"] = 1

    def end(self, deadline_s: float = 0.0) -> Seen:
        """Stop making spans, and return the results once all are delivered."""
        self.board["stop"] = 1
        return self.wait(deadline_s)

    def wait(self, deadline_s: float = 0.0) -> Seen:
        """Wait for the maker's end, and return the results."""
        out, _ = self.process.communicate(timeout=deadline_s or self._plan.seconds + 2 * DEADLINE_S)
        assert self.process.returncode == 0
        return Seen(*json.loads(out))

    def kill(self) -> None:
        """Kill the maker by SIGKILL."""
        self.process.kill()
        self.process.wait(DEADLINE_S)


def ask(port: int, requests: int) -> None:
    """Wait until a server of HTTP answers, and have it answer requests, some at once for several workers."""
    wait_for(lambda: _answers(port), "the server answers")
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: _answers(port), range(requests - 1)))


def _answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read() == b"ok"
    except ConnectionRefusedError:
        return False
    finally:
        connection.close()
