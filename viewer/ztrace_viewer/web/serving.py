"""The server: uvicorn without output, on a socket that is already listening.

One idea: the caller opens the socket, so an unusable address is an error before the server starts.
"""

import asyncio
import gc
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from ztrace_collector.otlp.listening.addresses import find_address
from ztrace_collector.otlp.listening.http_connections import Connection
from ztrace_viewer.queries.stores.source import Source, find_side
from ztrace_viewer.web.app import make_app
from ztrace_viewer.web.live import Live
from ztrace_viewer.web.presence import announced

#: Grace period of responses in progress at the end, and timeout of idle connections.
GRACE_S, IDLE_S = 2, 15
#: Time for the end beyond the grace period.
_MARGIN_S = 1
#: Objects made until the garbage collector looks for circles. Answers have none, and by the default, 700,
#: the objects of a large tree are followed many times.
_COLLECT_AFTER = 50_000
#: Largest line and headers of a request, in bytes: a thousand trace ids.
_MAX_HEAD_BYTES = 64 << 10


class Server:
    """Server that any thread can run, and any other thread or a signal handler can stop."""

    def __init__(self, database: Source, token: str, listener: socket.socket) -> None:
        """Prepare a server on a socket.

        Args:
            database: the database to read.
            token: token that requests must have.
            listener: listening socket, which `run` closes.
        """
        live, address = Live(database), find_address(listener)
        self._database = database
        self._address = address
        self._listener = listener
        self._server = _Quiet(
            uvicorn.Config(
                make_app(database, token, address, live),
                http=Connection,
                ws="none",
                lifespan="on",
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=IDLE_S,
                timeout_graceful_shutdown=GRACE_S,
                h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
            ),
            live,
        )

    def stop(self) -> None:
        """Ask the running server to return."""
        self._server.should_exit = True

    def run(self) -> None:
        """Serve until `stop` is called."""
        with self._listener, announced(find_side(self._database), self._address):
            asyncio.run(self._server.serve([self._listener]))


def collect_rarely() -> None:
    """Make the garbage collector of this process run less often, for a process that only serves."""
    gc.set_threshold(_COLLECT_AFTER)


def serve(database: Source, token: str, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP; a second signal ends the process at once.

    Args:
        database: the database to read.
        token: token that requests must have.
        listener: listening socket, closed at the end.
        ready: called once signals end the server.
    """
    collect_rarely()
    server = Server(database, token, listener)

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        server.stop()
        # A thread with a response in progress cannot be ended otherwise, and nothing is lost with it.
        end = threading.Timer(GRACE_S + _MARGIN_S, os._exit, (0,))
        end.daemon = True
        end.start()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        ready()
        server.run()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Quiet(uvicorn.Server):
    """Server of uvicorn that leaves signals to its caller, and ends streams first at its end."""

    def __init__(self, config: uvicorn.Config, live: Live) -> None:
        super().__init__(config)
        self._live = live

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, which would use up the grace period of other responses."""
        self._live.close()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signal handlers as they are."""
        yield
