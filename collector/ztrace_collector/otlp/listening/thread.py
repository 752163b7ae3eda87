"""An HTTP server in a thread: uvicorn, with bounded connections."""

import asyncio
import logging
import socket
import threading

import uvicorn
from starlette.types import ASGIApp

from ztrace_collector.otlp.listening.http_connections import Connection
from ztrace_collector.refusals import OTLP_CONNECTION, Note

#: How long a connection may be idle between requests: exporters send every few seconds, some once a minute,
#: and one that is closed as a request comes costs that sender an error and a second try.
KEEP_ALIVE_S = 75
#: What requests in work have at the end, until their connections are cut.
GRACE_S = 2


class ServerThread:
    """A server from its making to `close`."""

    def __init__(self, app: ASGIApp, listening: socket.socket, note: Note) -> None:
        """Serve an application on a socket that listens, and count the connections that are cut."""

        class Counted(Connection):
            def count_refusal(self, why: str) -> None:
                note(OTLP_CONNECTION, why)

        config = uvicorn.Config(
            app,
            http=Counted,
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
        try:
            await self._server.serve([self._listening])
        finally:
            for connection in list(self._server.server_state.connections):
                connection.transport.abort()
            # Closing is done by the loop, one turn later.
            await asyncio.sleep(0)
