"""Call trees and errors as they arrive, as server-sent events.

One idea: one thread reads the database for all streams while there are any, so streams hold none of the
threads that answer requests, and ten of them cost what one does.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ztrace.errors import DatabaseError
from ztrace_viewer.json_text import write_json
from ztrace_viewer.queries.following import POLL_S, follow
from ztrace_viewer.queries.selection import EVERYTHING
from ztrace_viewer.queries.stores.source import Source

#: Events that a stream may be behind; beyond, it ends, and the browser connects again.
_BEHIND = 1_000
#: Time without an event after which a comment is sent, so that proxies keep the connection.
_QUIET_S = 15.0


class Live:
    """Streams of what arrives in a database."""

    def __init__(self, database: Source) -> None:
        self._database = database
        self._streams: set[asyncio.Queue[str | None]] = set()
        self._ended: threading.Event | None = None
        self._is_closed = False

    def make_route(self) -> Route:
        """Return the route of the stream."""
        return Route("/data/tail", self._answer)

    def close(self) -> None:
        """End all streams; called in the thread of the event loop."""
        self._is_closed = True
        for stream in self._streams:
            _end(stream)

    async def _answer(self, request: Request) -> Response:
        return StreamingResponse(self._stream(), media_type="text/event-stream")

    async def _stream(self) -> AsyncIterator[str]:
        stream: asyncio.Queue[str | None] = asyncio.Queue(_BEHIND)
        self._streams.add(stream)
        if self._ended is None:
            self._ended = threading.Event()
            reader = _Reader(self._database, self._ended, asyncio.get_running_loop(), self._send)
            threading.Thread(target=reader.run, name="ztrace-live", daemon=True).start()
        try:
            yield ": connected\n\n"
            while not self._is_closed:
                try:
                    event = await asyncio.wait_for(stream.get(), _QUIET_S)
                except TimeoutError:
                    yield ": nothing new\n\n"
                    continue
                if event is None:
                    return
                yield f"data: {event}\n\n"
        finally:
            self._streams.discard(stream)
            if not self._streams and self._ended is not None:
                self._ended.set()
                self._ended = None

    def _send(self, event: str) -> None:
        for stream in self._streams:
            if stream.full():
                _end(stream)
            else:
                stream.put_nowait(event)


def _end(stream: "asyncio.Queue[str | None]") -> None:
    """End a stream, without what it has not sent."""
    while not stream.empty():
        stream.get_nowait()
    stream.put_nowait(None)


class _Ended(Exception):
    """The last stream has ended."""


class _Reader:
    """The thread that reads the database until an event is set."""

    def __init__(
        self,
        database: Source,
        ended: threading.Event,
        loop: asyncio.AbstractEventLoop,
        send: Callable[[str], None],
    ) -> None:
        self._database = database
        self._ended = ended
        self._loop = loop
        self._send = send

    def run(self) -> None:
        """Send each event to the loop."""
        try:
            while True:
                try:
                    for event in follow(self._database, EVERYTHING, self._pause, lambda _: None):
                        self._loop.call_soon_threadsafe(self._send, "".join(write_json(event)))
                except DatabaseError:
                    self._pause(POLL_S)  # There is no file yet, or the server is away.
        except (_Ended, RuntimeError):
            return  # A loop that is closed raises RuntimeError.

    def _pause(self, seconds: float) -> None:
        if self._ended.wait(seconds):
            raise _Ended
