"""An HTTP server in a thread: uvicorn, with the bounds on connections that it lacks.

One idea: a connection either has a request in work, which the application bounds, or it has to send one: the
first soon, the next before it is forgotten. Beyond so many connections the one that has waited longest goes.
"""

import asyncio
import logging
import socket
import threading
from contextlib import suppress

import uvicorn
from h11 import LocalProtocolError
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from ztrace_collector.refusals import OTLP_CONNECTION, Note

#: Open connections at most: an exporter has one.
MAX_CONNECTIONS = 256
#: How long the head of a request may take, from the connection or from its first byte.
HEAD_S = 10.0
#: How long a connection may be idle between requests: exporters send every few seconds, some once a minute,
#: and one that is closed as a request comes costs that sender an error and a second try.
KEEP_ALIVE_S = 75
#: How often connections are looked at.
LOOK_S = 1.0
#: What requests in work have at the end, until their connections are cut.
GRACE_S = 2


class ServerThread:
    """A server from its making to `close`."""

    def __init__(self, app: ASGIApp, listening: socket.socket, note: Note) -> None:
        """Serve an application on a socket that listens, and count the connections that are cut."""

        class Connection(_Connection):
            count_refusal = staticmethod(note)

        config = uvicorn.Config(
            app,
            http=Connection,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
        # It would tell of every peer that breaks HTTP; such are counted.
        for name in ("uvicorn.error", "uvicorn.access"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        self._server = uvicorn.Server(config)
        self._listening = listening
        self._thread = threading.Thread(target=self._run, name="ztrace-otlp-http")
        self._thread.start()

    def stop(self) -> None:
        """Accept nothing more, and return at once."""
        self._server.should_exit = True

    def is_done(self) -> bool:
        """Tell whether it has ended."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """End, and wait for it."""
        self.stop()
        self._thread.join()

    def _run(self) -> None:
        with self._listening:
            asyncio.run(self._serve())

    async def _serve(self) -> None:
        looking = asyncio.create_task(self._look())
        try:
            await self._server.serve([self._listening])
        finally:
            looking.cancel()
            for connection in list(self._server.server_state.connections):
                connection.transport.abort()
            # Closing is done by the loop, one turn later.
            await asyncio.sleep(0)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for connection in list(self._server.server_state.connections):
                assert isinstance(connection, _Connection)
                connection.look()


class _Connection(H11Protocol):
    """A connection that is cut when it makes others wait."""

    count_refusal: Note
    #: Since when a request's head is due; None while one is in work, or none has begun.
    _due_s: float | None = None
    _idle_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._due_s = self._idle_s = self.loop.time()
        if len(self.connections) > MAX_CONNECTIONS:
            waiting = [
                each for each in self.connections if isinstance(each, _Connection) and each._is_waiting()
            ]
            min(waiting, key=lambda each: each._idle_s)._cut(f"more than {MAX_CONNECTIONS} connections")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._is_waiting():
            self._due_s = None
        elif self._due_s is None:
            self._due_s = self.loop.time()

    def on_response_complete(self) -> None:
        self._idle_s = self.loop.time()
        super().on_response_complete()
        # Of a next request that came with this one only the beginning may be there.
        has_begun = self._is_waiting() and self.conn.trailing_data[0]
        self._due_s = self._idle_s if has_begun else None

    def send_400_response(self, msg: str) -> None:
        self.count_refusal(OTLP_CONNECTION, "not HTTP")
        # The answer to an earlier request may be on its way: then there is no place for this one.
        with suppress(LocalProtocolError):
            super().send_400_response(msg)
        self.transport.close()

    def look(self) -> None:
        """Cut the connection if it has kept others waiting for too long."""
        if self._is_waiting() and self._due_s is not None and self.loop.time() - self._due_s > HEAD_S:
            self._cut("no whole request in time")

    def _is_waiting(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _cut(self, why: str) -> None:
        self.count_refusal(OTLP_CONNECTION, why)
        self.transport.abort()
        self.connections.discard(self)
