"""HTTP server in a thread: uvicorn, with bounded connections."""

import asyncio
import logging
import socket
import threading

import uvicorn
from starlette.types import ASGIApp

from ztrace_collector.otlp.listening.http_connections import Connection
from ztrace_collector.refusals import OTLP_CONNECTION, Note

#: Timeout of an idle connection: exporters send every few seconds, some once a minute, and closing a
#: connection just as a request arrives costs its sender an error and a retry.
KEEP_ALIVE_S = 75
#: Time at the end for requests in work, before their connections are closed.
GRACE_S = 2


class ServerThread:
    """Server with its thread, from its creation to `close`."""

    def __init__(self, app: ASGIApp, listening: socket.socket, note: Note) -> None:
        """Serve an application on a listening socket, and count closed connections."""

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
        # Keeps uvicorn from logging each violation of HTTP; these are counted.
        for name in ("uvicorn.error", "uvicorn.access"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        self._server = uvicorn.Server(config)
        self._listening = listening
        self._thread = threading.Thread(target=self._run, name="ztrace-otlp-http")
        self._thread.start()

    def stop(self) -> None:
        """Stop accepting requests, without waiting."""
        self._server.should_exit = True

    def is_done(self) -> bool:
        """Return whether the server has ended."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """Stop the server, and wait for its thread."""
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
            # The loop closes transports one turn later.
            await asyncio.sleep(0)
