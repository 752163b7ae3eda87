"""Service process: ``python -m tests.ztrace.middleware.zerorpc.server NAME JOURNALS [--ztrace ENDPOINT]``.

The same methods are served at several endpoints, which are printed as one line of JSON:

    rpc      with a usual heartbeat
    brittle  with a heartbeat so short that a lost client is noticed at once
    queue    one call at a time
    pull     messages
    sub      published messages

Standard input takes one command per line; the service stops at its end.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import gevent
import zerorpc
import zmq
from gevent.fileobject import FileObject

import ztrace
from tests.ztrace.middleware.zerorpc import failing
from tests.ztrace.middleware.zerorpc.journal import Journal
from tests.ztrace.middleware.zerorpc.report import keep_running_spans, report_state

#: Heartbeat intervals of the ``rpc`` and the ``brittle`` endpoint, in seconds.
HEARTBEAT_S, BRITTLE_S = 2.0, 0.2


class Unspeakable(Exception):
    """Exception whose text raises."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Unpicklable(Exception):
    """Exception whose arguments can be neither copied nor sent."""

    def __init__(self, message: str) -> None:
        super().__init__(message, lambda: None)


#: Errors that `Methods.fail` can raise.
ERRORS: dict[str, Callable[[str], BaseException]] = {
    "Unspeakable": Unspeakable,
    "Unpicklable": Unpicklable,
    "GreenletExit": gevent.GreenletExit,
    "Timeout": lambda message: gevent.Timeout(0.01),
    "SystemExit": lambda message: SystemExit(3),
    "ValueError": ValueError,
}


class Methods(failing.FailingMethods):
    """Methods of every service; the first parameter is always the token."""

    def _call(self, token: str, method: str, *args: Any) -> Any:
        with self._journal.entry("client", token, method):
            return self._upstream(method, token, *args)

    def echo(self, token: str, *values: Any) -> Any:
        """Return the arguments, without the token."""
        return values

    def slow(self, token: str, duration_s: float) -> str:
        """Sleep, and let other greenlets run meanwhile."""
        gevent.sleep(duration_s)
        return "slept"

    def die(self, token: str) -> None:
        """Kill this process: before its client could be lost, however busy the machine is."""
        os.kill(os.getpid(), signal.SIGKILL)

    def kill(self, token: str, pid: int) -> None:
        """Kill the caller's process, and wait until it is lost."""
        os.kill(pid, signal.SIGKILL)
        gevent.sleep(30)

    def block(self, token: str, duration_s: float) -> str:
        """Block all greenlets, heartbeats included."""
        time.sleep(duration_s)
        return "blocked"

    def fail(self, token: str, kind: str, message: str) -> None:
        """Raise an error of the given kind."""
        raise ERRORS[kind](message)

    def unpackable(self, token: str) -> object:
        """Return a value that msgpack cannot pack."""
        return object()

    def undecodable(self, token: str) -> dict[int, int]:
        """Return a value that msgpack packs and does not unpack."""
        return {1: 2}

    def relay(self, token: str, method: str, *args: Any) -> Any:
        """Return or raise the result of the upstream service."""
        return self._call(f"{token}.0", method, *args)

    def relay_twice(self, token: str, method: str, *args: Any) -> Any:
        """Call the upstream service twice."""
        return [self._call(f"{token}.{number}", method, *args) for number in range(2)]

    def relay_wrapping(self, token: str, method: str, *args: Any) -> Any:
        """Raise an own error from the upstream error."""
        try:
            return self._call(f"{token}.0", method, *args)
        except zerorpc.RemoteError as error:
            raise LookupError("wrapped") from error

    def relay_replacing(self, token: str, method: str, *args: Any) -> Any:
        """Raise an own error while handling the upstream error."""
        try:
            return self._call(f"{token}.0", method, *args)
        except zerorpc.RemoteError:
            raise KeyError("replaced")  # noqa: B904  Without "from" on purpose.

    def relay_catching(self, token: str, method: str, *args: Any) -> str:
        """Catch the upstream error and return normally."""
        try:
            self._call(f"{token}.0", method, *args)
        except zerorpc.RemoteError as error:
            return f"caught {error.name}"
        return "nothing to catch"

    def fork(self, token: str, method: str, *args: Any) -> list[Any]:
        """Make two concurrent calls in tasks that inherit the context."""
        tasks = [
            gevent.spawn(zerorpc.fork_task_context(self._call), f"{token}.{number}", method, *args)
            for number in range(2)
        ]
        return [task.get() for task in tasks]

    def spawn(self, token: str, method: str, *args: Any) -> Any:
        """Call in a task, with no help of zerorpc's."""
        return gevent.spawn(self._call, f"{token}.0", method, *args).get()

    def count(self, token: str, number: int, pause_s: float = 0.0) -> Iterator[int]:
        """Yield numbers, with a pause after each."""
        for each in range(number):
            yield each
            if pause_s:
                gevent.sleep(pause_s)

    def count_and_die(self, token: str, number: int) -> Iterator[int]:
        """Yield numbers, then kill this process."""
        for each in range(number):
            yield each
            gevent.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

    def count_and_fail(self, token: str, number: int) -> Iterator[int]:
        """Yield numbers, then raise."""
        yield from range(number)
        raise ValueError("no more numbers")

    def relay_each(self, token: str, number: int, method: str) -> Iterator[Any]:
        """Yield the results of upstream calls."""
        for each in range(number):
            yield self._call(f"{token}.{each}", method, each)


STREAMS = ("count", "count_and_die", "count_and_fail", "relay_each", *failing.STREAMS)
#: Names of `Methods.echo` that are no identifiers or resemble other names.
EXOTIC = ("überweisung", "a b\n", "", "__call__", "traceparent", "_zerorpc", "x" * 256, "\N{SNOWMAN}.\0")


def journalled(journal: Journal, kind: str, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a method so that it journals each call and sets the token on its span."""

    def serve(token: str, *args: Any) -> Any:
        _mark_span(token)
        with journal.entry(kind, token, name, **_context.get()):
            return method(token, *args)

    def serve_stream(token: str, *args: Any) -> Iterator[Any]:
        _mark_span(token)
        with journal.entry(kind, token, name, **_context.get()):
            yield from method(token, *args)

    return zerorpc.stream(serve_stream) if name in STREAMS and kind == "server" else serve


#: Trace context in the header of the request that this greenlet serves.
_context: ContextVar[dict[str, Any]] = ContextVar("context")


def keep_context(header: dict[str, Any]) -> None:
    """Keep the header's trace context, as a foreign middleware's hook."""
    _context.set({key: header.get(key) for key in ("traceparent", "tracestate")})


def _mark_span(token: str) -> None:
    span = ztrace.current_span()
    if isinstance(span, ztrace.Span):
        span.set(scenario=token)


def read_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("journals", type=Path)
    parser.add_argument("--upstream")
    parser.add_argument("--ztrace")
    parser.add_argument("--doomed", action="store_true")
    return parser.parse_args()


def keep_pulling(puller: Any) -> None:
    """Run the puller, and restart it when it is stopped or fails on a message."""
    while True:
        try:
            puller.run()
        except Exception as error:
            print(f"puller: {error!r}", file=sys.stderr)


def bind(socket: Any, endpoint: str = "tcp://127.0.0.1:0") -> str:
    """Bind a socket to a free port, and return the endpoint."""
    socket.bind(endpoint)
    return str(socket._events._socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode())


def main() -> None:
    """Run the service until standard input ends."""
    arguments = read_arguments()
    journal = Journal(arguments.journals, arguments.name, traced=arguments.ztrace is not None)
    if arguments.doomed:
        keep_running_spans()
    if arguments.ztrace:
        ztrace.configure(service=arguments.name, endpoint=arguments.ztrace)
        ztrace.instrument("zerorpc")
    zerorpc.Context.get_instance().register_middleware({"load_task_context": keep_context})
    upstream = None
    if arguments.upstream:
        upstream = zerorpc.Client(arguments.upstream, timeout=10, heartbeat=HEARTBEAT_S)
    methods = Methods(journal, upstream)
    named = {name: getattr(methods, name) for name in dir(methods) if not name.startswith("_")}
    named |= dict.fromkeys(EXOTIC, methods.echo)

    def of_kind(kind: str) -> dict[str, Any]:
        return {name: journalled(journal, kind, name, method) for name, method in named.items()}

    servers = {
        "rpc": zerorpc.Server(of_kind("server"), heartbeat=HEARTBEAT_S),
        "brittle": zerorpc.Server(of_kind("server"), heartbeat=BRITTLE_S),
        "queue": zerorpc.Server(of_kind("server"), heartbeat=HEARTBEAT_S, pool_size=1),
    }
    pullers = {"pull": zerorpc.Puller(of_kind("consumer")), "sub": zerorpc.Subscriber(of_kind("consumer"))}
    endpoints = {name: bind(socket) for name, socket in (servers | pullers).items()}
    tasks = [gevent.spawn(server.run) for server in servers.values()]
    tasks += [gevent.spawn(keep_pulling, puller) for puller in pullers.values()]
    print(json.dumps(endpoints), flush=True)
    with FileObject(0, "r", closefd=False) as commands:
        for line in commands:
            if line.strip() == "stop puller":
                pullers["pull"].stop()
            print(json.dumps(report_state()), flush=True)
    gevent.killall(tasks)
    for socket in (servers | pullers).values():
        socket.close()
    if upstream is not None:
        upstream.close()
    ztrace.shutdown()


if __name__ == "__main__":
    main()
