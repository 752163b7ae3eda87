"""The processes of a fault: collectors, makers of spans, proxies; all end with their `Stage`, come what may.

One idea: whatever is waited for has a deadline, and whatever was started is killed at the end by its own
number, also if it stands still.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Protocol, Self, TypeVar

from tests.faults.board import Board
from tests.faults.making import Plan, Seen
from tests.faults.proxy import Proxy

#: The checkout.
ROOT = Path(__file__).parents[2]
#: Where its packages are found, whatever else is installed.
PATHS = os.pathsep.join(str(ROOT / part) for part in ("", "collector", "viewer"))
#: What anything but the making of spans may take.
DEADLINE_S = 60.0
#: The ``ztrace`` command, wherever it is installed.
COMMAND = "import sys; from ztrace_viewer.entry import main; sys.exit(main())"
#: No settings beyond the defaults.
NOTHING: Mapping[str, str] = MappingProxyType({})

T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
    """Return the condition's result once it is true."""
    end_s = time.monotonic() + deadline_s
    while not (result := condition()):
        assert time.monotonic() < end_s, f"{deadline_s:.0f} s passed without: {what}"
        time.sleep(0.005)
    return result


class Server(Protocol):
    """What spans are sent to: a fault does not know whose it is."""

    @property
    def endpoint(self) -> str:
        """Where to send to."""

    def start(self, wait: bool = True) -> None:
        """Start it, again if it has been ended."""

    def kill(self) -> None:
        """End it as by kill -9."""

    def pause(self) -> None:
        """Let it stand still."""

    def resume(self) -> None:
        """Let it go on."""


class Stage:
    """A folder and the processes that work in it."""

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
                os.killpg(process.pid, signal.SIGKILL)  # With the children that it has.
            process.communicate()
        self._stack.close()

    def name(self, stem: str) -> Path:
        """Return a path that nothing has yet."""
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
            arguments: Python's.
            log: what it says on standard error is appended here.
            asked: have a pipe to its standard input.
            environment: what is added to ours.
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

    def collector(self, *options: str, folder: Path | None = None, started: bool = True) -> "Collector":
        """Return a collector, listening unless it is to be started later."""
        collector = Collector(self, options, (folder or self.folder) / "faults.db")
        if started:
            collector.start()
        return collector

    def maker(self, plan: Plan, environment: Mapping[str, str] = NOTHING) -> "MakerProcess":
        """Start a maker of spans and wait until it is ready to make some."""
        return MakerProcess(self, plan, environment)

    def command(self, *arguments: str) -> str:
        """Run a ``ztrace`` command to its end, and return what it prints."""
        process = self.start("-c", COMMAND, *arguments)
        out, _ = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, arguments
        return out

    def proxy(self, target: str, ack_loss: float = 0.0) -> Proxy:
        """Start a proxy."""
        return self.enter(Proxy(target, ack_loss))

    def board(self, path: Path) -> Board:
        """Map a board that a process of the stage is to map as well."""
        return self.enter(closing(Board(path)))

    def enter(self, manager: AbstractContextManager[T]) -> T:
        """Enter a context that ends with the stage."""
        return self._stack.enter_context(manager)


class Collector:
    """``ztrace collect`` in a process, which may be ended and started again at the same port."""

    def __init__(self, stage: Stage, options: Sequence[str], database: Path) -> None:
        self.database = database
        self.endpoint = f"tcp://127.0.0.1:{free_port()}"
        self._stage = stage
        self._options = options
        self._log = stage.name("collector")
        self._process: subprocess.Popen[str] | None = None

    @property
    def process(self) -> "subprocess.Popen[str]":
        """The process there is now."""
        assert self._process is not None
        return self._process

    def start(self, wait: bool = True) -> None:
        """Start it."""
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
        """Return what it has said."""
        return self._log.read_text() if self._log.exists() else ""

    def kill(self) -> None:
        """End it as by kill -9."""
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def stop(self) -> None:
        """End it as by SIGTERM; it has to end well."""
        self.process.terminate()
        assert self.process.wait(DEADLINE_S) == 0, self.log()

    def pause(self) -> None:
        """Let it stand still."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)


class MakerProcess:
    """A process of `tests.faults.making`."""

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
        """How many spans it has ended."""
        return self.board["ended"]

    def go(self) -> None:
        """Let it make spans."""
        self.board["go"] = 1

    def end(self, deadline_s: float = 0.0) -> Seen:
        """Let it stop, and return what it saw once it has delivered the rest."""
        self.board["stop"] = 1
        return self.wait(deadline_s)

    def wait(self, deadline_s: float = 0.0) -> Seen:
        """Return what it saw once it has come to its end."""
        out, _ = self.process.communicate(timeout=deadline_s or self._plan.seconds + 2 * DEADLINE_S)
        assert self.process.returncode == 0
        return Seen(*json.loads(out))

    def kill(self) -> None:
        """End it as by kill -9."""
        self.process.kill()
        self.process.wait(DEADLINE_S)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
