"""Methods at work: coroutines in the event loop, plain functions and generators in a pool.

A plain function occupies a thread of the pool while it runs. A generator does only while it computes items
for which the caller has room: the wait for credit is the loop's.
"""

import asyncio
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextvars import Context, copy_context
from types import CoroutineType
from typing import Any, Final

from ztrace import spans
from ztrace.context import make_current
from ztrace.rpc import calls, failures, introspection, tracing, wire
from ztrace.rpc.aio.pooled import PooledStream
from ztrace.rpc.aio.workers import Workers
from ztrace.rpc.core.results import Packed, pack_result
from ztrace.rpc.core.serving import Served, ServerCore
from ztrace.rpc.exposing import Method
from ztrace.rpc.failures import Failure

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
        self, core: ServerCore, pool: Workers, before_call: Hook | None, after_call: Hook | None
    ) -> None:
        self.core, self._pool = core, pool
        self._before_call, self._after_call = before_call, after_call
        self._loop = asyncio.get_running_loop()
        # Of where the server was started, but for the span that is current there.
        self._context = copy_context()
        self._context.run(make_current, None)
        self._packers = threading.local()
        self._done: deque[tuple[Any, ...]] = deque()
        self._woken = False

    def start(self, call: Served, method: Method) -> None:
        """Begin to serve a call; call this in the loop."""
        context = self._context.copy()
        if method.is_async:
            call.handle = self._start_task(self._serve(call, method), context)
        elif method.is_inline:
            result, error = context.run(self._call, call, method)
            self._take(call, method, context, result, error)
        else:
            self._pool.submit(self._work, call, method, context)

    def _start_task(self, work: Coroutine[Any, Any, None], context: Context) -> "asyncio.Task[None]":
        """Start a task, at once where Python can: most methods need no turn of the loop of their own."""
        if sys.version_info >= (3, 12) and self._loop.get_task_factory() is None:
            return asyncio.Task(work, loop=self._loop, context=context, eager_start=True)
        return self._loop.create_task(work, context=context)

    def stop(self, call: Served) -> None:
        """Interrupt the method of a cancelled call: at its next await, or before it has started."""
        if isinstance(call.handle, asyncio.Task):
            call.handle.cancel()
        if call.wake is not None:
            call.wake()

    async def _serve(self, call: Served, method: Method) -> None:
        """Serve a call as a task of its own."""
        result, error = self._call(call, method)
        if type(result) is CoroutineType:
            # As `_settle` does for all, without the cost of one more coroutine.
            try:
                result = await result
            except Exception as raised:
                result, error = None, raised
            except BaseException as raised:
                result, error = None, raised
                await self._settle(call, method, result, error)
                return
        if type(result) in _PLAIN:
            self.end(call, error and self._explain(call, method, error), result)
        else:
            await self._settle(call, method, result, error)

    async def _settle(self, call: Served, method: Method, result: Any, error: BaseException | None) -> None:
        """Await a result or read it as a stream, and give the outcome to the core."""
        try:
            if error is None and type(result) not in _PLAIN:
                if isinstance(result, Awaitable):
                    result = await result
                if type(result) not in _PLAIN and isinstance(result, AsyncIterator):
                    await self._stream(call, result)
                    self.finish(call)
                    return
        except BaseException as raised:
            error = raised
        self.end(call, error and self._explain(call, method, error), result)
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

    def _call(self, call: Served, method: Method) -> tuple[object, BaseException | None]:
        """Call a method in its context; return its result or its exception."""
        try:
            calls.serving.set(call)
            if spans.publisher is not None:
                tracing.serve(call, method.is_async or method.is_inline)
            if self._before_call is not None:
                self._before_call(calls.describe(call))
            return method.function(*call.args, **call.kwargs), None
        except BaseException as raised:
            return None, raised

    def _work(self, call: Served, method: Method, context: Context) -> None:
        """Serve a call in a thread of the pool."""
        if call.reason:
            return
        outcome = context.run(self._compute, call, method)
        # Only now: nobody else can enter the context before this thread has left it.
        self._done.append((call, method, context, *outcome))
        if not self._woken:
            self._woken = True
            self.tell(self._take_all)

    def _compute(self, call: Served, method: Method) -> tuple[Any, ...]:
        """Call a method, and return its outcome as far as the pool can prepare it, for `_take`."""
        result, error = self._call(call, method)
        if error is None and type(result) in _PLAIN:
            try:
                result = pack_result(call.name, result, self._packer())
            except TypeError as raised:
                error = raised
        if call.span is None:
            return result, error
        if error is not None:
            # The span ends in the thread in which it has started, whose time it measures.
            error = self._explain(call, method, error)
            failure = failures.describe(error)
            return result, error, failure, *tracing.failed(call, error, failure.details)
        if type(result) is not Packed:
            call.span.apart.cpu_ns = None  # The rest of the call is another thread's.
            return result, None
        own, extra = tracing.replied(call)
        tracing.end_served(call, None)
        return result, None, None, own, extra

    def _packer(self) -> Callable[[object], bytes]:
        """Return the packer of this thread of the pool."""
        pack: Callable[[object], bytes] | None = getattr(self._packers, "pack", None)
        if pack is None:
            pack = self._packers.pack = wire.make_packer()
        return pack

    def tell(self, function: Callable[..., None], *arguments: object) -> None:
        """Call a function in the loop, from a thread of the pool."""
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            pass  # The loop has closed: the server ended without waiting for this method.

    def submit(self, function: Callable[[], None]) -> None:
        """Call a function in the pool."""
        self._pool.submit(function)

    def _take_all(self) -> None:
        self._woken = False
        while self._done:
            self._take(*self._done.popleft())

    def _take(
        self,
        call: Served,
        method: Method,
        context: Context,
        result: object,
        error: BaseException | None,
        failure: Failure | None = None,
        own: dict[str, Any] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        """Give the outcome of a plain function to the core, or go on with what it has returned."""
        if failure is not None:
            self.core.fail(call, failure, own, extra)
            self._note_end(call, error)
            return
        if error is None and type(result) not in _PLAIN and type(result) is not Packed:
            if isinstance(result, (Awaitable, AsyncIterator)):
                work = self._settle(call, method, result, None)
                call.handle = self._loop.create_task(work, context=context)
                return
            if isinstance(result, Iterator):
                call.handle = PooledStream(self, call, context, result)
                call.handle.go_on()
                return
        self.end(call, error and self._explain(call, method, error), result, own, extra)

    def _explain(self, call: Served, method: Method, error: BaseException) -> BaseException:
        """Return the exception to send: for arguments that do not fit, one that names the signature."""
        if type(error) is TypeError:
            frames = error.__traceback__
            if frames is not None and frames.tb_next is None:
                text = introspection.explain_arguments(method, call.args, call.kwargs)
                if text is not None:
                    return TypeError(text)
        return error

    def end(
        self,
        call: Served,
        error: BaseException | None,
        result: object = None,
        own: dict[str, Any] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        """Give the outcome of a call to the core, unless the call has ended before."""
        if error is None:
            try:
                if call.span is not None:
                    own, extra = tracing.replied(call)
                self.core.answer(call, result, own, extra)
            except TypeError as raised:
                error = raised
        if error is not None and call.key in self.core.calls:
            failure = failures.describe(error)
            if call.span is not None:
                own, extra = tracing.failed(call, error, failure.details)
            self.core.fail(call, failure, own, extra)
        self._note_end(call, error)

    def finish(self, call: Served) -> None:
        """End a stream, for which there is credit."""
        own, extra = tracing.replied(call) if call.span is not None else (None, None)
        self.core.finish(call, own, extra)
        self._note_end(call, None)

    def _note_end(self, call: Served, error: BaseException | None) -> None:
        if call.span is not None:
            tracing.end_served(call, error)
        if self._after_call is not None:
            make_current(None)  # In the context of the call, the span that has ended may still be.
            self._after_call(calls.describe(call), error)
