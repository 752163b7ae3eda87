"""Client and server of one library as real processes, each traced or not.

``python -m tests.ztrace.middleware.peers LIBRARY ROLE ENDPOINT [ADDRESS]``: LIBRARY is a module beside this
one with `serve` and `call`; ENDPOINT is the collector's, and "-" leaves the process untraced. A server prints
its address, and serves until its standard input ends; a client prints the outcome of each call.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import ztrace
from tests.ztrace.receiving import Receiver
from tests.ztrace.waiting import wait_for
from ztrace.records import KIND_NAMES, PASSED, RAISED, ExceptionRecord, FrameRecord, Span

#: Which sides are traced, by name: server, client.
TRACED = {"both": (True, True), "neither": (False, False), "server": (True, False), "client": (False, True)}


def attempt(name: str, work: Callable[[], Any]) -> None:
    """Do the work within a span, and print its outcome or exception."""
    try:
        with ztrace.span(name):
            print(name, work())
    except Exception as error:
        print(name, type(error).__name__, repr(str(error))[-600:], sorted(vars(error)))


def main(library: str, role: str, endpoint: str, address: str = "") -> None:
    """Run one process. A client imports the library before it is traced, and a server afterwards."""
    name = f"tests.ztrace.middleware.{library}"
    if role == "client":
        import_module(name)
    if endpoint != "-":
        ztrace.configure(role, endpoint)
        ztrace.instrument()
    module = import_module(name)
    if role == "client":
        module.call(address)
        return
    serve: Callable[[Callable[[object], None]], None] = module.serve
    thread = threading.Thread(target=serve, args=(lambda told: print(told, flush=True),), daemon=True)
    thread.start()
    sys.stdin.read()


@contextmanager
def serving(library: str, endpoint: str) -> Iterator[str]:
    """Run a server, and yield its address."""
    process = _start(library, "server", endpoint, stdin=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        said, errors = process.communicate(timeout=20)
    assert (said, errors, process.returncode) == ("", "", 0), (said, errors)


def call(library: str, receiver: Receiver, traced: str) -> list[str]:
    """Run a server and a client, each with its side traced or not; return the client's lines."""
    server, client = (receiver.endpoint if side else "-" for side in TRACED[traced])
    with serving(library, server) as address:
        process = _start(library, "client", client, address)
        said, errors = process.communicate(timeout=20)
    assert (errors, process.returncode) == ("", 0), errors
    return said.splitlines()


def _start(library: str, role: str, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZTRACE_")}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.ztrace.middleware.peers", library, role, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**kept, "PYTHONHASHSEED": "0"},  # Texts of sets are the same in each run.
        **options,
    )


class Calls:
    """Spans of a client and a server."""

    def __init__(self, receiver: Receiver) -> None:
        self.spans = receiver.spans
        wait_for(lambda: all(span.duration_ns is not None for span in self.spans))

    def within(self, name: str) -> list[Span]:
        """Return the spans below the span of a scenario, each parent before its children."""
        (outer,) = (span for span in self.spans if span.name == name and span.parent_id is None)
        found = [outer]
        for parent in found:
            below = [span for span in self.spans if span.parent_id == parent.span_id]
            found += sorted(below, key=lambda span: span.start_ns)
        return found[1:]

    def outline(self, name: str) -> list[str]:
        """Return the kind and name of each span below the span of a scenario."""
        return [f"{KIND_NAMES[span.kind]} {span.name}" for span in self.within(name)]

    def kinds(self) -> set[str]:
        """Return the kinds of all spans."""
        return {KIND_NAMES[span.kind] for span in self.spans}

    def assert_nested(self) -> None:
        """Assert that each server span lies within its client span, whose own time is outside of it."""
        by_id = {span.span_id: span for span in self.spans}
        served = [span for span in self.spans if KIND_NAMES[span.kind] == "server"]
        assert served
        for span in served:
            caller = by_id[span.parent_id or b""]
            assert KIND_NAMES[caller.kind] == "client"
            assert caller.start_ns <= span.start_ns
            if caller.exception is None:
                assert (caller.self_ns or 0) + (span.duration_ns or 0) <= (caller.duration_ns or 0)

    def assert_origin(self, scenario: str, code: str, type_: str = "KeyError") -> ExceptionRecord:
        """Assert that the exception of a scenario began in its server span, at a line, and passed the others.

        Returns:
            The exception at its origin.
        """
        (outer,) = (span for span in self.spans if span.name == scenario and span.parent_id is None)
        client, server = self.within(scenario)[:2]
        assert server.exception is not None
        origin = ExceptionRecord(*server.exception)
        assert (origin.type, origin.how) == (type_, RAISED)
        frames = [FrameRecord(*frame) for frame in origin.frames]
        assert [frame.code for frame in frames if frame.in_app][-1] == code
        for span in (client, outer):
            assert span.exception is not None
            passed = ExceptionRecord(*span.exception)
            assert (passed.how, passed.origin_span_id) == (PASSED, server.span_id)
        return origin


if __name__ == "__main__":
    main(*sys.argv[1:])
