"""Processes of a test: a collector, services that call each other, and a caller."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any, Self, TypeVar

from tests.ztrace.middleware.zerorpc.journal import Entry, read_events, read_journals
from tests.ztrace.middleware.zerorpc.origins import Places, Ways, compare_ways
from tests.ztrace.middleware.zerorpc.trees import Node, Unlogged, compare, predict_scenario
from tests.ztrace.waiting import wait_for
from ztrace.middleware import carriers
from ztrace_viewer.documents.status import StatusDocument
from ztrace_viewer.documents.trees import TreeDocument
from ztrace_viewer.queries.database import open_database
from ztrace_viewer.queries.status import read_status
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.traces import read_tree

#: Longer than any condition takes: only a failing test reaches it.
DEADLINE_S = 60.0

#: Root of the checkout, where the test modules can be run.
_ROOT = Path(__file__).parents[4]

_COLLECT = (
    "import sys; from pathlib import Path; from ztrace_collector.service import Options, collect;"
    "options = Options('tcp://127.0.0.1:0', Path(sys.argv[1]));"
    "collect(options, ready=lambda endpoint: print(endpoint, flush=True))"
)

T = TypeVar("T")


class Child:
    """Process that answers one line per line; its standard error is appended to a file."""

    def __init__(self, errors: Path, *command: str, **environment: str) -> None:
        self._unread = b""
        with errors.open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=_ROOT,
                env={**os.environ, **environment},
                bufsize=0,
            )
        self.pid = self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_S)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()

    def say(self, line: str) -> None:
        """Send a line to the process."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")

    def hear(self) -> str:
        """Return the next line of output, or fail at the deadline."""
        assert self.process.stdout is not None
        deadline_s = time.monotonic() + DEADLINE_S
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, deadline_s - time.monotonic()))
            assert ready, "no answer"
            received = os.read(self.process.stdout.fileno(), 1 << 20)
            assert received, f"ended with status {self.process.wait(DEADLINE_S)}"
            self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def ask(self, command: object) -> dict[str, Any]:
        """Send a command and return the answer."""
        self.say(command if isinstance(command, str) else json.dumps(command))
        answer = json.loads(self.hear())
        assert isinstance(answer, dict)
        return answer

    def finish(self) -> int:
        """Close the process's standard input, which ends it; return its exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(DEADLINE_S)


class Collected:
    """Collector process and its database."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "traces.db"
        self.errors = folder / "collector.err"
        self._child = Child(self.errors, "-W", "error", "-c", _COLLECT, str(self.path))
        self.endpoint = self._child.hear()

    def stop(self) -> None:
        """Stop the collector, which stores everything received, and assert that it printed no error."""
        with self._child:
            self._child.process.send_signal(signal.SIGTERM)
            assert self._child.process.wait(DEADLINE_S) == 0
            assert self.errors.read_text() == ""

    def tree(self, trace_id: str) -> TreeDocument:
        """Return a stored tree, as ``ztrace show --json`` does."""
        with open_file(self.path) as db:
            return read_tree(db, bytes.fromhex(trace_id))

    def count_spans(self, trace_id: str) -> int:
        """Return the number of a trace's stored spans."""
        return int(self.value("SELECT count(*) FROM spans WHERE trace_id = ?", bytes.fromhex(trace_id)))

    def value(self, query: str, *parameters: object) -> Any:
        """Return the single value that a query selects."""
        with open_database(self.path) as db:
            return db.execute(query, parameters).fetchone()[0]

    def find_traces(self, token: str) -> list[str]:
        """Return the traces that contain the server span of a call, found by its token."""
        with open_database(self.path) as db:
            rows = db.execute(
                "SELECT DISTINCT trace_id FROM spans WHERE json_extract(attributes, '$.scenario') = ?",
                (token,),
            )
            return [trace_id.hex() for (trace_id,) in rows]

    def status(self) -> StatusDocument:
        """Return the status document, as ``ztrace status --json`` does."""
        with open_file(self.path) as db:
            return read_status(db, time.time_ns())


class Fleet:
    """Three services, each calling the next, and a driver; all traced or all untraced."""

    def __init__(self, folder: Path, collected: Collected | None, tokens: "count[int]") -> None:
        self.folder = folder
        self.collected = collected
        self.errors = folder / "errors.txt"
        self.services: dict[str, Child] = {}
        self.endpoints: dict[str, dict[str, str]] = {}
        self.places = Places()
        self._tokens = tokens
        self._stack = ExitStack()
        self._traced = ["--ztrace", collected.endpoint] if collected else []
        upstream: list[str] = []
        for name in ("back", "middle", "front"):
            self.start_service(name, *upstream)
            upstream = ["--upstream", self.endpoints[name]["rpc"]]
        self.driver = self.start_driver()

    def start_service(self, name: str, *options: str) -> Child:
        """Start another service, which scenarios find by its name."""
        child = self._start("server", name, *self._traced, *options)
        self.services[name] = child
        self.endpoints[name] = json.loads(child.hear())
        return child

    def forget_service(self, name: str) -> Child:
        """Remove a service that has exited or will exit, so that its state is no longer checked."""
        del self.endpoints[name]
        return self.services.pop(name)

    def start_driver(self, *options: str, name: str = "driver", **environment: str) -> Child:
        """Start another caller of the services."""
        child = self._start("driver", name, *self._traced, *options, **environment)
        child.hear()
        return child

    def _start(self, module: str, name: str, *options: str, **environment: str) -> Child:
        command = ["-m", f"tests.ztrace.middleware.zerorpc.{module}", name, str(self.folder), *options]
        return self._stack.enter_context(Child(self.errors, *command, **environment))

    def stop(self) -> None:
        """Stop all processes, and assert that ztrace reported no failure."""
        with self._stack:
            for child in (self.driver, *self.services.values()):
                assert child.finish() == 0
        assert [line for line in self.errors.read_text().splitlines() if "ztrace:" in line] == []

    def command(
        self, scenario: str, *args: Any, endpoints: dict[str, dict[str, str]] | None = None
    ) -> dict[str, Any]:
        """Return a driver's command for a scenario, with a new token."""
        return {
            "scenario": scenario,
            "token": f"s{next(self._tokens)}",
            "endpoints": endpoints or self.endpoints,
            "args": args,
        }

    def run(self, scenario: str, *args: Any, driver: Child | None = None) -> "Outcome":
        """Run a scenario in a driver."""
        command = self.command(scenario, *args)
        return Outcome(command["token"], (driver or self.driver).ask(command))

    def entries(self, token: str) -> list[Entry]:
        """Wait until every journalled call of a scenario has ended, and return the journals."""
        return wait_for(
            lambda: _ended(read_journals(self.folder, token)), lambda: read_journals(self.folder, token)
        )

    def settle(self) -> None:
        """Flush all processes, and assert that nothing failed or is left open."""
        for name, child in {"driver": self.driver, **self.services}.items():
            state = child.ask("{}")
            state["failures"].pop(carriers.UNREADABLE, None)  # The peer's, as tests send.
            assert state == {"stored": True, "failures": {}, "open_calls": 0, "unread_streams": 0}, name

    def wait_for_tree(self, trace_id: str, span_count: int) -> TreeDocument:
        """Wait for a tree's expected number of spans, flush all processes, and return the tree."""
        assert self.collected is not None
        collected = self.collected

        def stored() -> bool:
            for child in self.services.values():
                child.ask("{}")
            return collected.count_spans(trace_id) >= span_count

        wait_for(stored, lambda: collected.tree(trace_id))
        self.settle()
        return collected.tree(trace_id)

    def check(
        self,
        outcome: "Outcome",
        unlogged: Unlogged | None = None,
        *,
        driver: tuple[str, int] | None = None,
        killed: bool = False,
        ways: bool = False,
        folded: bool = False,
    ) -> TreeDocument:
        """Assert that a scenario's tree equals the prediction from the journals, and return the tree.

        With ``ways``, the origins of exceptions, their paths and their lines are compared too.
        """
        unlogged = unlogged or Unlogged()
        entries = read_journals(self.folder, outcome.token) if killed else self.entries(outcome.token)
        error = outcome.error[0] if outcome.error else None
        driver = driver or ("driver", self.driver.pid)
        expected = predict_scenario(outcome.token, entries, driver, unlogged, error)
        tree = self.wait_for_tree(outcome.trace_id, expected.count())
        pairs = compare(tree, expected, unlogged)
        if ways:
            told = Ways(entries, read_events(self.folder, outcome.token))
            compare_ways(pairs, told, self.places, folded=folded)
        return tree

    def check_root_only(self, outcome: "Outcome") -> bool:
        """Return whether a scenario recorded its root span only."""
        return self.wait_for_tree(outcome.trace_id, 1)["span_count"] == 1

    def check_other(self, token: str, expected: Node, unlogged: Unlogged | None = None) -> TreeDocument:
        """Assert the tree that contains a call's token, and return the tree."""
        tree = self.wait_for_tree(self.find_trace(token), expected.count())
        compare(tree, expected, unlogged or Unlogged())
        return tree

    def find_trace(self, token: str) -> str:
        """Wait for the only trace that contains the server span of a call, and return its id."""
        assert self.collected is not None
        collected = self.collected

        def found() -> list[str]:
            for child in self.services.values():
                child.ask("{}")
            return collected.find_traces(token)

        (trace_id,) = wait_for(found)
        return trace_id


def run_both(traced: Fleet, plain: Fleet, scenario: str, *args: Any) -> "tuple[Outcome, Outcome]":
    """Run a scenario in two fleets at the same time."""
    commands = [(fleet.driver, fleet.command(scenario, *args)) for fleet in (traced, plain)]
    for driver, command in commands:
        driver.say(json.dumps(command))
    first, second = [Outcome(command["token"], json.loads(driver.hear())) for driver, command in commands]
    return first, second


class Outcome:
    """Driver's answer for one scenario.

    Attributes:
        token: of the scenario.
        seen: results and errors of its calls.
        error: the exception that ended the scenario, if any.
        trace_id: of its tree.
        open_calls: number of calls whose span has not ended.
        failures: ztrace's own failures, by reason.
    """

    def __init__(self, token: str, answer: dict[str, Any]) -> None:
        self.token = token
        self.seen: list[Any] = answer["seen"]
        self.error: list[str] | None = answer["error"]
        self.trace_id: str = answer["trace_id"]
        self.open_calls: int = answer["open_calls"]
        self.failures: dict[str, int] = answer["failures"]


def _ended(entries: list[Entry]) -> list[Entry]:
    return entries if entries and all(entry.end_ns is not None for entry in entries) else []
