"""Calls of a blocking client that nobody waits for yet, in an event loop in a thread of its own."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from ztrace.errors import SettingsError
from ztrace.rpc.aio.connections import AsyncStream, Connections
from ztrace.rpc.aio.hedging import invoke
from ztrace.rpc.settings import Settings


class Background:
    """Event loop with connections, which start with the first call and end with `close`.

    Args:
        settings: arguments of the connections.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._connections: Connections | None = None

    def submit(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> "Future[Any]":
        """Start a call, in the current context, and return the future of its answer."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._run, name="ztrace-rpc-calls", daemon=True)
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(self._invoke(name, args, kwargs), self._loop)

    def close(self) -> None:
        """Fail the open calls, and end the thread."""
        with self._lock:
            loop, self._loop = self._loop, None
            if loop is not None:
                assert self._thread is not None
                asyncio.run_coroutine_threadsafe(self._finish(), loop).result()
                loop.call_soon_threadsafe(loop.stop)
                self._thread.join()

    async def _invoke(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if self._connections is None:
            self._connections = Connections(*self._settings)
        result = await invoke(self._connections, name, args, kwargs)
        if isinstance(result, AsyncStream):
            await result.aclose()
            raise SettingsError(f"{name} is a stream", hint="call it without submit or hedge, and iterate")
        return result

    def _run(self) -> None:
        assert self._loop is not None
        loop = self._loop
        try:
            loop.run_forever()
        finally:
            loop.close()

    async def _finish(self) -> None:
        """Close the connections, and wait until the calls that fail with them have ended."""
        if self._connections is not None:
            self._connections.close()
            self._connections = None
        running = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.sleep(0)
