"""Streams of plain generators, which compute their items in the pool."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import Context
from typing import Any, Protocol

from ztrace.rpc.core.serving import Served, ServerCore


class Handlers(Protocol):
    """Server's handlers, as a stream needs them."""

    core: ServerCore

    def tell(self, function: Callable[..., None], *arguments: object) -> None:
        """Call a function in the loop, from a thread of the pool."""

    def submit(self, function: Callable[[], None]) -> None:
        """Call a function in the pool."""

    def end(self, call: Served, error: BaseException | None) -> None:
        """Give the outcome of a call to the core."""

    def finish(self, call: Served) -> None:
        """End a stream, for which there is credit."""


class PooledStream:
    """Generator that computes its items in the pool, as many at a time as the caller has room for."""

    def __init__(self, handlers: Handlers, call: Served, context: Context, items: Iterator[Any]) -> None:
        self._handlers, self._call = handlers, call
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
            self._leave(None)
        else:
            self._running, self._room = True, call.credit
            self._handlers.submit(self._work)

    def _work(self) -> None:
        """Compute items in a thread of the pool."""
        outcome = self._context.run(self._compute)
        # Only now: nobody else can enter the context before this thread has left it.
        self._handlers.tell(self._pause, *outcome)

    def _compute(self) -> tuple[BaseException | None, bool]:
        """Compute items as far as there is room, and have the loop send each at once.

        Returns:
            The generator's exception, and whether the generator has ended.
        """
        ready = self._ready
        try:
            for _ in range(self._room):
                if self._call.reason:
                    break
                ready.append(next(self._items))
                if len(ready) == 1:
                    self._handlers.tell(self._send)
        except StopIteration:
            return None, True
        except BaseException as error:
            return error, True
        return None, False

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
            self._handlers.submit(self._close)
        if error is None:
            self._handlers.finish(self._call)
        else:
            self._handlers.end(self._call, error)

    def _close(self) -> None:
        close = getattr(self._items, "close", None)
        if close is not None:
            self._context.run(close)
