"""Methods at work: coroutines in the event loop, plain functions and generators in a pool.

A plain function occupies a thread of the pool while it runs. A generator does only while it computes items
for which the caller has room: the wait for credit is the loop's.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Executor, Future
from contextvars import Context, copy_context
from typing import Any, Final

from ztrace.rpc import calls, failures, introspection
from ztrace.rpc.calls import CurrentCall
from ztrace.rpc.core.serving import Served, ServerCore
from ztrace.rpc.exposing import Method

Hook = Callable[..., object]

#: Types of results that are neither streams nor awaitable; any other type is looked at.
_PLAIN: Final = frozenset((type(None), bool, int, float, str, bytes, list, tuple, dict))


class Handlers:
    """Runs the methods of a server, and gives each outcome to the server's core.

    Args:
        core: takes the outcomes, in the loop.
        pool: runs plain functions and generators.
        before_call: called with the `CurrentCall` before its method; an exception refuses the call.
        after_call: called with the `CurrentCall` and its exception or None, once it has ended.
    """

    def __init__(
        self, core: ServerCore, pool: Executor, before_call: Hook | None, after_call: Hook | None
    ) -> None:
        self.core, self._pool = core, pool
        self._before_call, self._after_call = before_call, after_call
        self._loop = asyncio.get_running_loop()
        self._done: deque[tuple[Any, ...]] = deque()
        self._woken = False

    def start(self, call: Served, method: Method) -> None:
        """Begin to serve a call; call this in the loop."""
        current = CurrentCall(call.name, call.prefix[0], calls.metadata_of(call), call)
        if method.is_async:
            call.handle = self._loop.create_task(self._serve(call, method, current))
            return
        context = copy_context()
        if method.is_inline:
            result, error = context.run(self._call, call, method, current)
            self._take(call, method, current, context, result, error)
        else:
            call.handle = self._pool.submit(self._work, call, method, current, context)

    def stop(self, call: Served) -> None:
        """Interrupt the method of a cancelled call: at its next await, or before it has started."""
        if isinstance(call.handle, (asyncio.Task, Future)):
            call.handle.cancel()
        if call.wake is not None:
            call.wake()

    async def _serve(self, call: Served, method: Method, current: CurrentCall) -> None:
        """Serve a call as a task of its own."""
        result, error = self._call(call, method, current)
        await self._settle(call, method, current, result, error)

    async def _settle(
        self, call: Served, method: Method, current: CurrentCall, result: Any, error: BaseException | None
    ) -> None:
        """Await a result or read it as a stream, and give the outcome to the core."""
        try:
            if error is None and type(result) not in _PLAIN:
                if isinstance(result, Awaitable):
                    result = await result
                if isinstance(result, AsyncIterator):
                    await self._stream(call, result)
                    self.end(call, current, None)
                    return
        except BaseException as raised:
            error = raised
        self.end(call, current, self._explain(call, method, error), result)
        if isinstance(error, KeyboardInterrupt) or (
            isinstance(error, asyncio.CancelledError) and call.reason
        ):
            raise error

    async def _stream(self, call: Served, items: AsyncIterator[Any]) -> None:
        failure: Exception | None = None
        try:
            async for item in items:
                if call.credit <= 0:
                    await self._wait_for_credit(call)
                self.core.put(call, item)
        except Exception as error:
            failure = error
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()
        if call.credit <= 0:
            await self._wait_for_credit(call)
        if failure is not None:
            raise failure
        self.core.finish(call)

    async def _wait_for_credit(self, call: Served) -> None:
        granted = self._loop.create_future()

        def wake() -> None:
            if not granted.done():
                granted.set_result(None)

        call.wake = wake
        try:
            await granted
        finally:
            call.wake = None

    def _call(
        self, call: Served, method: Method, current: CurrentCall
    ) -> tuple[object, BaseException | None]:
        """Call a method in its context; return its result or its exception."""
        try:
            calls.serving.set(current)
            calls.deadline_at.set(call.deadline_s)
            if self._before_call is not None:
                self._before_call(current)
            return method.function(*call.args, **call.kwargs), None
        except BaseException as raised:
            return None, raised

    def _work(self, call: Served, method: Method, current: CurrentCall, context: Context) -> None:
        """Serve a call in a thread of the pool."""
        if call.reason:
            return
        result, error = context.run(self._call, call, method, current)
        self._hand_over(call, method, current, context, result, error)

    def _hand_over(self, *outcome: Any) -> None:
        """Give an outcome of the pool to the loop, which is woken once for many."""
        self._done.append(outcome)
        if not self._woken:
            self._woken = True
            self.tell(self._take_all)

    def tell(self, function: Callable[..., None], *arguments: object) -> None:
        """Call a function in the loop, from a thread of the pool."""
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            pass  # The loop has closed: the server ended without waiting for this method.

    def submit(self, context: Context, function: Callable[[], None]) -> None:
        """Call a function in the pool."""
        try:
            self._pool.submit(context.run, function)
        except RuntimeError:
            pass  # The pool has been shut down with the server.

    def _take_all(self) -> None:
        self._woken = False
        while self._done:
            self._take(*self._done.popleft())

    def _take(
        self,
        call: Served,
        method: Method,
        current: CurrentCall,
        context: Context,
        result: object,
        error: BaseException | None,
    ) -> None:
        """Give the outcome of a plain function to the core, or go on with what it has returned."""
        if error is None and type(result) not in _PLAIN:
            if isinstance(result, (Awaitable, AsyncIterator)):
                work = self._settle(call, method, current, result, None)
                call.handle = context.run(self._loop.create_task, work)
                return
            if isinstance(result, Iterator):
                call.handle = _PooledStream(self, call, current, context, result)
                call.handle.go_on()
                return
        self.end(call, current, self._explain(call, method, error), result)

    def _explain(self, call: Served, method: Method, error: BaseException | None) -> BaseException | None:
        """Return the exception to send: for arguments that do not fit, one that names the signature."""
        if type(error) is TypeError:
            frames = error.__traceback__
            if frames is not None and frames.tb_next is None:
                text = introspection.explain_arguments(method, call.args, call.kwargs)
                if text is not None:
                    return TypeError(text)
        return error

    def end(
        self, call: Served, current: CurrentCall, error: BaseException | None, result: object = None
    ) -> None:
        """Give an outcome to the core, unless the call has ended before."""
        if call.key in self.core.calls:
            if error is None:
                self.core.answer(call, result)
            else:
                self.core.fail(call, failures.describe(error))
        if self._after_call is not None:
            self._after_call(current, error)


class _PooledStream:
    """Generator that computes its items in the pool, as many at a time as the caller has room for."""

    def __init__(
        self, handlers: Handlers, call: Served, current: CurrentCall, context: Context, items: Iterator[Any]
    ) -> None:
        self._handlers, self._call, self._current = handlers, call, current
        self._context, self._items = context, items
        self._ready: deque[Any] = deque()
        self._room = 0
        self._running = False
        self._exhausted = False
        self._error: BaseException | None = None
        call.wake = self.go_on

    def go_on(self) -> None:
        """Compute further items if there is credit, or end; call this in the loop."""
        call = self._call
        if self._running:
            return
        if call.reason:
            self._leave(asyncio.CancelledError(call.reason))
        elif call.credit <= 0:
            return
        elif self._error is not None:
            self._leave(self._error)
        elif self._exhausted:
            self._handlers.core.finish(call)
            self._leave(None)
        else:
            self._running, self._room = True, call.credit
            self._handlers.submit(self._context, self._compute)

    def _compute(self) -> None:
        """Compute items in a thread of the pool, and have the loop send each at once."""
        ready, error, exhausted = self._ready, None, False
        try:
            for _ in range(self._room):
                if self._call.reason:
                    break
                ready.append(next(self._items))
                if len(ready) == 1:
                    self._handlers.tell(self._send)
        except StopIteration:
            exhausted = True
        except BaseException as raised:
            error, exhausted = raised, True
        self._handlers.tell(self._pause, error, exhausted)

    def _send(self) -> None:
        ready = self._ready
        while ready:
            item = ready.popleft()
            if self._error is None:
                try:
                    self._handlers.core.put(self._call, item)
                except TypeError as error:
                    self._error = error

    def _pause(self, error: BaseException | None, exhausted: bool) -> None:
        self._send()
        self._error = self._error or error
        self._exhausted = exhausted
        self._running = False
        self.go_on()

    def _leave(self, error: BaseException | None) -> None:
        """End the call, and close a generator that has not ended."""
        self._running, self._call.wake = True, None
        if not self._exhausted:
            self._handlers.submit(self._context, self._close)
        self._handlers.end(self._call, self._current, error)

    def _close(self) -> None:
        close = getattr(self._items, "close", None)
        if close is not None:
            close()
