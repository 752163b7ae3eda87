"""Caller process: ``python -m tests.ztrace.middleware.zerorpc.driver NAME JOURNALS [--ztrace ENDPOINT]``.

Each line of standard input names a function of the scenarios module; the scenario runs below a root span in
its own greenlet, and the results are printed as one line of JSON.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import zerorpc
from gevent.fileobject import FileObject

import ztrace
from tests.ztrace.middleware.zerorpc import scenarios
from tests.ztrace.middleware.zerorpc.journal import Journal, type_name
from tests.ztrace.middleware.zerorpc.report import keep_running_spans, report_state

#: Time of instrumenting: after or before `ztrace.configure`, several times, or not at the start.
INSTRUMENT = ("after", "before", "twice", "never")


class Caller:
    """Clients of one scenario; every call is journalled, and its result or error kept.

    Attributes:
        token: of the scenario: its calls are ``token.0``, ``token.1`` and so on.
        seen: results and errors, in order, JSON-serializable.
    """

    def __init__(self, journal: Journal, token: str, endpoints: dict[str, dict[str, str]]) -> None:
        self.journal = journal
        self.token = token
        self.seen: list[Any] = []
        self.endpoints = endpoints
        self._clients: dict[tuple[str, str], Any] = {}
        self._calls = 0

    def next_token(self) -> str:
        """Return the token of the scenario's next call."""
        self._calls += 1
        return f"{self.token}.{self._calls - 1}"

    def client(self, service: str = "front", at: str = "rpc", **options: Any) -> Any:
        """Return the client of a service's endpoint, created once per scenario."""
        key = (service, at)
        if key not in self._clients:
            heartbeat = 0.2 if at == "brittle" else 2.0
            options = {"timeout": 10, "heartbeat": heartbeat} | options
            self._clients[key] = zerorpc.Client(self.endpoints[service][at], **options)
        return self._clients[key]

    def close(self, service: str, at: str) -> None:
        """Close a client before the scenario ends."""
        self._clients.pop((service, at)).close()

    def call(self, method: Any, *args: Any, on: Any = None, **options: Any) -> Any:
        """Call a method; return its result, or raise its error."""
        client = on or self.client()
        token = self.next_token()
        name = method.decode() if isinstance(method, bytes) else method
        with self.journal.entry("client", token, name):
            return client(method, token, *args, **options)

    def attempt(self, method: Any, *args: Any, on: Any = None, **options: Any) -> None:
        """Call a method, and keep its result or error."""
        with self.seeing():
            self.seen.append(self.call(method, *args, on=on, **options))

    @contextmanager
    def seeing(self) -> Iterator[None]:
        """Keep an error instead of raising it."""
        try:
            yield
        except (Exception, gevent.Timeout, gevent.GreenletExit) as error:
            self.seen.append(describe(error))

    def end(self) -> None:
        """Close all clients of the scenario."""
        for client in self._clients.values():
            client.close()


def describe(error: BaseException) -> list[str]:
    """Return the comparable parts of an error: of a remote traceback only its last line."""
    if isinstance(error, zerorpc.RemoteError):
        remote: Any = error
        last = remote.traceback.strip().splitlines()[-1] if remote.traceback else ""
        return [type_name(error), remote.name, remote.msg, last]
    return [type_name(error), str(error)]


def run(journal: Journal, scenario: str, token: str, endpoints: Any, args: list[Any]) -> dict[str, Any]:
    """Run a scenario; return the results, the error and the trace id."""
    caller = Caller(journal, token, endpoints)
    function: Callable[..., None] = getattr(scenarios, scenario)
    error = None
    root = ztrace.span("scenario", scenario=token)
    try:
        with root:
            function(caller, *args)
    except (Exception, gevent.Timeout) as raised:
        error = describe(raised)
    caller.end()
    trace_id = root.trace_id.hex()
    return {"seen": caller.seen, "error": error, "trace_id": trace_id, **report_state()}


def main() -> None:
    """Run the caller until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("journals", type=Path)
    parser.add_argument("--ztrace")
    parser.add_argument("--doomed", action="store_true")
    parser.add_argument("--instrument", choices=INSTRUMENT)
    arguments = parser.parse_args()
    journal = Journal(arguments.journals, arguments.name, traced=arguments.ztrace is not None)
    when = arguments.instrument or ("after" if arguments.ztrace else "never")
    if when in ("before", "twice"):
        ztrace.instrument("zerorpc")
    if arguments.doomed:
        keep_running_spans()
    if arguments.ztrace:
        ztrace.configure(service=arguments.name, endpoint=arguments.ztrace)
    if when in ("after", "twice"):
        ztrace.instrument("zerorpc")
    if when == "twice":
        zerorpc.Context.get_instance()
        ztrace.instrument()
    print("{}", flush=True)
    with FileObject(0, "r", closefd=False) as commands:
        for line in commands:
            command = json.loads(line)
            answer = gevent.spawn(run, journal, **command).get() if command else report_state()
            print(json.dumps(answer), flush=True)
    ztrace.shutdown()


if __name__ == "__main__":
    main()
