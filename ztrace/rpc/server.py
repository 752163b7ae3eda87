"""Servers: any module, class, object or mapping on the network.

from ztrace import rpc
rpc.serve(billing, "tcp://127.0.0.1:4242")
"""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import zmq

from ztrace.errors import SettingsError
from ztrace.rpc import introspection
from ztrace.rpc.aio.handlers import Hook
from ztrace.rpc.aio.serving import LoopServer
from ztrace.rpc.contexts import Context, terminate
from ztrace.rpc.exposing import expose, name_of
from ztrace.rpc.guarding import Guard
from ztrace.rpc.sockets import open_router

#: Plain functions that run at once.
POOL_SIZE: Final = 16
#: Seconds that open calls have to end after SIGTERM.
GRACE_S: Final = 10.0
#: Seconds for which a server refuses calls after a signal, at least: clients learn of it without losing any.
TELLING_S: Final = 0.3


class Server:
    """Server of one or several endpoints, in an event loop or in a thread of its own.

    Args:
        thing: a module, class, object, or mapping of names to callables; see `expose`.
        endpoints: to bind, as ``tcp://127.0.0.1:4242`` or ``ipc:///run/billing``; ``:0`` takes a free port.
        name: of the service; by default that of the module or class.
        heartbeat_s: period of heartbeats; None sends none. Clients have to use the same.
        pool_size: plain functions that run at once; coroutines are unlimited.
        grace_s: seconds that open calls have to end when the server stops.
        keys: folder of `ztrace keys` with those of the clients that may connect; needed where other machines
            can reach an endpoint.
        unsafe: serve modules too with which a caller can run anything.
        before_call: called with the `CurrentCall` before its method; an exception refuses the call.
        after_call: called with the `CurrentCall` and its exception or None, once it has ended.

    Raises:
        SettingsError: there is nothing to serve, or it must not be served.
    """

    def __init__(
        self,
        thing: object,
        *endpoints: str,
        name: str | None = None,
        heartbeat_s: float | None = 5.0,
        pool_size: int = POOL_SIZE,
        grace_s: float = GRACE_S,
        keys: str | os.PathLike[str] | None = None,
        unsafe: bool = False,
        before_call: Hook | None = None,
        after_call: Hook | None = None,
    ) -> None:
        if not endpoints:
            raise SettingsError("a server needs an endpoint", hint="as tcp://127.0.0.1:4242")
        self.name = name or name_of(thing)
        self.endpoints = endpoints
        self._methods = expose(thing, unsafe=unsafe)
        self._builtins = introspection.make_builtins(self.name, self._methods)
        self._heartbeat_s, self._pool_size, self._grace_s = heartbeat_s, pool_size, grace_s
        self._before_call, self._after_call = before_call, after_call
        self._keys = None if keys is None else Path(keys)
        self._server: LoopServer | None = None
        self._counts: Counter[str] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping: asyncio.Event | None = None

    @property
    def methods(self) -> list[str]:
        """Names of the methods that the server exposes."""
        return list(self._methods)

    @property
    def counts(self) -> Counter[str]:
        """Calls and their outcomes so far: ``calls``, ``answered``, ``failed``, ``cancelled``."""
        return self._counts

    def start(self) -> Self:
        """Bind the endpoints and serve: in the running event loop, or else in a thread of the server's own.

        Raises:
            EndpointError: an address is invalid, in use, or open to other machines without keys.
        """
        if self._server is not None:
            raise SettingsError("the server has started already")
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._start_thread()
        else:
            self._open()
        return self

    async def run(self) -> None:
        """Serve until `close`, SIGTERM or Ctrl-C, and let the open calls end.

        Signals are only handled in the main thread.
        """
        if self._server is None:
            self._open()
        assert self._stopping is not None
        with _signals(self._stopping) as received:
            await self._stopping.wait()
            await self._drain(TELLING_S if received else 0.0)

    async def drain(self) -> None:
        """Refuse new calls, wait for the open ones, and close."""
        await self._drain(0.0)

    async def _drain(self, telling_s: float) -> None:
        server, self._server = self._server, None
        if server is not None:
            try:
                await server.drain(self._grace_s, telling_s)
            finally:
                server.close()

    def close(self) -> None:
        """Stop serving: a server in a thread lets its open calls end first, any other cancels them."""
        if self._thread is not None:
            assert self._loop is not None
            assert self._stopping is not None
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
            self._thread = None
        elif self._server is not None:
            server, self._server = self._server, None
            if self._stopping is not None:
                self._stopping.set()
            server.close()

    def _open(self) -> None:
        context: Context = zmq.Context()
        guard = None
        try:
            guard = None if self._keys is None else Guard(self._keys, context)
            socket, self.endpoints = open_router(self.endpoints, context, guard)
        except BaseException:
            if guard is not None:
                guard.close()
            terminate(context)
            raise
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._server = LoopServer(
            socket,
            {**self._methods, **self._builtins},
            heartbeat_s=self._heartbeat_s,
            pool_size=self._pool_size,
            before_call=self._before_call,
            after_call=self._after_call,
            guard=guard,
        )
        self._counts = self._server.counts

    def _start_thread(self) -> None:
        started = threading.Event()
        failed: list[BaseException] = []

        async def run() -> None:
            try:
                self._open()
            except BaseException as error:
                failed.append(error)
                return
            finally:
                started.set()
            await self.run()

        self._thread = threading.Thread(
            target=asyncio.run, args=(run(),), name="ztrace-rpc-server", daemon=True
        )
        self._thread.start()
        started.wait()
        if failed:
            self._thread.join()
            self._thread = None
            raise failed[0]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        await self.drain()


def serve(thing: object, *endpoints: str, **settings: Any) -> None:
    """Serve a module, class, object or mapping until SIGTERM or Ctrl-C.

    Args:
        thing: see `Server`.
        endpoints: to bind.
        settings: those of `Server`, by name.

    Raises:
        SettingsError: there is nothing to serve, or it must not be served.
        EndpointError: an address is invalid, in use, or open to other machines without keys.
    """
    server = Server(thing, *endpoints, **settings)

    async def run() -> None:
        server.start()
        places, names = ", ".join(server.endpoints), ", ".join(server.methods)
        print(f"{server.name} at {places}: {names}", file=sys.stderr, flush=True)
        await server.run()

    asyncio.run(run())


@contextlib.contextmanager
def _signals(stopping: asyncio.Event) -> Iterator[list[int]]:
    """Set an event at SIGTERM and SIGINT within the block, where this is the main thread.

    Yields:
        The signals that have been received.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def receive(number: int) -> None:
        received.append(number)
        stopping.set()

    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        loop.add_signal_handler(number, receive, number)
    try:
        yield received
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            if handler is not None:
                signal.signal(number, handler)
