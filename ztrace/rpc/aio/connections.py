"""Connections of an asynchronous client, and the calls and streams on them."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from typing import Any, Final

from ztrace import spans
from ztrace.enrolment import Enrolment
from ztrace.rpc import calls, keeper, tracing, wire
from ztrace.rpc.aio.link import Link
from ztrace.rpc.core.calling import UNKNOWN, Call
from ztrace.rpc.core.pool import Pool, Request, Route, bind_keywords
from ztrace.rpc.errors import PeerLost, RemoteError
from ztrace.rpc.hooks import Hooks

#: Seconds between two looks at heartbeats and deadlines, at most.
_TURN_S: Final = 0.5


class AsyncCall(Call):
    """Call whose caller awaits a future."""

    __slots__ = ("future",)

    def __init__(self, name: str, future: "asyncio.Future[None]") -> None:
        super().__init__(name)
        self.future = future

    def wake(self) -> None:
        """Resume the task that awaits the call."""
        if not self.future.done():
            self.future.set_result(None)


class Connections:
    """Connections of a client, in the running event loop."""

    def __init__(
        self,
        endpoints: Sequence[str],
        timeout_s: float | None,
        heartbeat_s: float | None,
        allowed: Mapping[str, type[BaseException]],
        key: Enrolment | None,
        hooks: Hooks | None,
    ) -> None:
        self._hooks = hooks
        self.loop = asyncio.get_running_loop()
        self._timeout_s, self._heartbeat_s = timeout_s, heartbeat_s
        self._turned_s = time.monotonic()
        self._described: object = None
        self._closed = False
        self.pool = Pool([])
        self._links = [Link(endpoint, self.pool, heartbeat_s, allowed, key) for endpoint in endpoints]
        self.pool.routes = [link.route for link in self._links]
        self._turn_s = _TURN_S if heartbeat_s is None else min(_TURN_S, heartbeat_s / 5)
        #: Up to when deadlines have timers of their own; later ones are seen by the turns.
        self._turns_s = time.monotonic() + 2 * self._turn_s
        self._timer = self.loop.call_later(self._turn_s, self._turn)
        if heartbeat_s is not None:
            keeper.look_after(self)

    def keep(self, now_s: float) -> None:
        """Send due heartbeats from the keeper's thread, if the loop has not turned for a while."""
        if self._heartbeat_s is not None and now_s - self._turned_s > self._heartbeat_s * 0.4:
            for link in self._links:
                link.keep(now_s)

    def invoke(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        route: Route | None = None,
        used: list[Route] | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Call a method; the coroutine returns its answer, or an `AsyncStream`.

        Args:
            name: of the method.
            args: positional arguments.
            kwargs: keyword arguments.
            route: the only server to ask; None for any.
            used: servers that are not asked while there is another; the one that is asked is added.

        Raises:
            RpcError: the method has raised, or there is no answer.
            TypeError: the arguments cannot be sent.
        """
        invoke = self._invoke if self._hooks is None else self._invoke_hooked
        return invoke(name, args, kwargs, route, used)

    async def _invoke_hooked(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        route: Route | None,
        used: list[Route] | None,
    ) -> Any:
        assert self._hooks is not None
        with self._hooks.around(name, args, kwargs) as each:
            return await self._invoke(each.name, each.args, each.kwargs, route, used)

    async def _invoke(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        route: Route | None = None,
        used: list[Route] | None = None,
    ) -> Any:
        if self._closed:
            raise PeerLost(f"{name}: the client has been closed")
        call = AsyncCall(name, self.loop.create_future())
        try:
            now_s = time.monotonic()
            call.deadline_s = calls.nearest(None if self._timeout_s is None else now_s + self._timeout_s)
            calls.check_deadline(name, call.deadline_s, now_s)
            request = Request(name, args, None, None, route, used)
            if spans.publisher is not None:
                request.context = tracing.start_call(call)
            if kwargs:
                request.name, request.args = await self._bind(name, args, kwargs)
            if (meta := calls.metadata_here.get()) is not None:
                request.own = {"meta": meta}
            self.pool.open(call, request, now_s)
            if used is not None and call.route is not None:
                used.append(call.route)
            if call.deadline_s is not None and call.deadline_s < self._turns_s:
                self._arm(call)
            await call.future
            while call.error is not None and call.items is None:
                if not self.pool.open_again(call, request, time.monotonic()):
                    raise call.error
                await self.wait(call)
            if call.items is not None:
                return AsyncStream(self, call)
            if call.span is not None:
                tracing.end_call(call)
            return call.value
        except BaseException as error:
            self.pool.cancel(call)
            if call.span is not None:
                tracing.fail_call(call, error)
            raise

    async def wait(self, call: AsyncCall) -> None:
        """Wait for an answer or an item."""
        if call.future.done():
            call.future = self.loop.create_future()
        await call.future

    def close(self) -> None:
        """Fail the open calls, and close the connections."""
        if self._closed:
            return
        self._closed = True
        keeper.release(self)
        self._timer.cancel()
        for call in list(self.pool.pending):
            self.pool.cancel(call, PeerLost(f"{call.name}: the client has been closed"))
            call.wake()
        for link in self._links:
            link.close()

    async def _bind(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[str, Sequence[Any]]:
        """Return the event of a call with keyword arguments, once the servers' versions are known."""
        peers = [route.core.peer for route in self.pool.routes if route.up]
        if (not peers or min(peers) < wire.VERSION) and self._described is None:
            try:
                self._described = await self._invoke("_zerorpc_inspect", (), {})
            except RemoteError:  # zerorpc's own inspection fails on Python 3.11 and later.
                self._described = {}
            peers = [route.core.peer for route in self.pool.routes if route.core.peer != UNKNOWN]
        return bind_keywords(name, args, kwargs, min(peers), self._described)

    def _arm(self, call: AsyncCall) -> None:
        """Have a call end at its deadline, which is before the next turn."""
        assert call.deadline_s is not None
        self.loop.call_later(call.deadline_s - time.monotonic(), self._expire, call)

    def _expire(self, call: AsyncCall) -> None:
        if not call.done:
            self.pool.expire(call)

    def _turn(self) -> None:
        """Read what has arrived, then send due heartbeats and judge who is silent or late."""
        self._turned_s = now_s = time.monotonic()
        for link in self._links:
            link.read()
            link.revive(now_s)
        self.pool.beat(now_s)
        self._turns_s = now_s + 2 * self._turn_s
        for call in self.pool.due_before(self._turns_s):
            assert isinstance(call, AsyncCall)
            self._arm(call)
        self._timer = self.loop.call_later(self._turn_s, self._turn)


class AsyncStream:
    """Stream of a call, read by ``async for``; `aclose` cancels it, and so does discarding it."""

    def __init__(self, connections: Connections, call: AsyncCall) -> None:
        self._connections, self._call = connections, call
        self._read = 0

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        call = self._call
        while not call.items:
            if call.done:
                self._end(call.error)
                if call.error is not None:
                    raise call.error
                raise StopAsyncIteration
            try:
                await self._connections.wait(call)
            except BaseException as error:
                self._connections.pool.cancel(call)
                self._end(error)
                raise
        self._read += 1
        return call.route.core.take(call)

    async def aclose(self) -> None:
        """Cancel the stream at the server, unless it has ended."""
        self._end(None)
        self._connections.pool.cancel(self._call)

    def _end(self, error: BaseException | None) -> None:
        if self._call.span is not None:
            tracing.end_stream(self._call, error, self._read)

    def __del__(self) -> None:
        call, loop = self._call, self._connections.loop
        self._end(None)
        if not call.done and not loop.is_closed():
            loop.call_soon_threadsafe(self._connections.pool.cancel, call)
