"""The server: uvicorn, quiet, on a socket that listens already.

One idea: the socket is opened by whoever starts it, so that what can go wrong has gone wrong before.
"""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import uvicorn

from ztrace_collector.otlp.listening.http_connections import Connection
from ztrace_viewer.web.app import make_app
from ztrace_viewer.web.listening import find_address

#: How long answers on their way may take at the end, and how long a connection may be idle.
GRACE_S, IDLE_S = 2, 15
#: What the end may take beyond that.
_MARGIN_S = 1
#: Bytes of a request's line and headers: a thousand trace ids.
_MAX_HEAD_BYTES = 64 << 10


class Server:
    """A server that any thread can run, and any other thread or a signal handler can stop."""

    def __init__(self, database: Path, token: str, listener: socket.socket) -> None:
        """Prepare; `run` closes the socket.

        Args:
            database: the file that is read.
            token: what those who ask have to have.
            listener: where it listens.
        """
        self._listener = listener
        self._server = _Quiet(
            uvicorn.Config(
                make_app(database, token, find_address(listener)),
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
            )
        )

    def stop(self) -> None:
        """Ask `run` to return."""
        self._server.should_exit = True

    def run(self) -> None:
        """Serve, until `stop`."""
        with self._listener:
            asyncio.run(self._server.serve([self._listener]))


def serve(database: Path, token: str, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM; a second one ends it at once.

    Args:
        database: the file that is read.
        token: what those who ask have to have.
        listener: where it listens; closed at the end.
        ready: called when it can be used, and ended.
    """
    server = Server(database, token, listener)

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        server.stop()
        # A thread that makes an answer cannot be ended otherwise, and nothing is lost with it.
        end = threading.Timer(GRACE_S + _MARGIN_S, os._exit, (0,))
        end.daemon = True
        end.start()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ready()
        server.run()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Quiet(uvicorn.Server):
    """Leaves signals to whoever runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing."""
        yield
