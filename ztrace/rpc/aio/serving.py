"""Server in an event loop: the core, its socket and its handlers, joined."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import zmq

from ztrace.rpc import failures, introspection, keeper, wire
from ztrace.rpc.aio.handlers import Handlers, Hook
from ztrace.rpc.aio.sockets import LoopSocket
from ztrace.rpc.aio.workers import Workers
from ztrace.rpc.contexts import terminate
from ztrace.rpc.core.serving import SHUTDOWN, Served, ServerCore
from ztrace.rpc.exposing import Method
from ztrace.rpc.guarding import Guard

#: Bytes of replies kept for a client that reads none.
BACKLOG_BYTES: Final = 64 << 20
#: Seconds that connections stay after the last answer: sockets that queue nothing for a server that has gone
#: (IMMEDIATE) discard what they have not read at the end of a connection.
READING_S: Final = 0.5
#: Seconds between two looks at deadlines and silent peers, at most.
_TURN_S: Final = 0.25


class LoopServer:
    """Server that runs in the current event loop until it is closed.

    Args:
        socket: ROUTER that is bound, with a context of its own; both are closed with the server.
        methods: by name, the built-in ones included.
        heartbeat_s: period of heartbeats; None sends none.
        pool_size: plain functions that run at once.
        before_call: see `Handlers`.
        after_call: see `Handlers`.
        guard: of the clients that may connect; closed with the server.
    """

    def __init__(
        self,
        socket: "zmq.Socket[bytes]",
        methods: Mapping[str, Method],
        *,
        heartbeat_s: float | None,
        pool_size: int,
        before_call: Hook | None = None,
        after_call: Hook | None = None,
        guard: Guard | None = None,
    ) -> None:
        self._guard, self._context, admit = guard, socket.context, None
        if guard is not None:
            admit = guard.admit
            self._questions = LoopSocket(guard.socket, self._answer_question, lambda frames: None)
        self._methods = methods
        self._loop = asyncio.get_running_loop()
        self._pool = Workers(pool_size)
        self._core = ServerCore(self._send, self._start, self._stop, heartbeat_s=heartbeat_s)
        self._core.send_soon = self._send_soon
        self._handlers = Handlers(self._core, self._pool, before_call, after_call)
        self._socket = LoopSocket(socket, self._receive, self._undelivered, BACKLOG_BYTES, admit)
        self._pack = wire.make_packer()
        self._period_s = _TURN_S if heartbeat_s is None else min(_TURN_S, heartbeat_s / 5)
        self._late_s = None if heartbeat_s is None else heartbeat_s * 0.4
        self._turned_s = time.monotonic()
        self._timer = self._loop.call_later(self._period_s, self._turn)
        if heartbeat_s is not None:
            keeper.look_after(self)

    @property
    def counts(self) -> Counter[str]:
        """Calls and their outcomes so far, and messages that were ignored."""
        return self._core.counts

    def keep(self, now_s: float) -> None:
        """Send due heartbeats from the keeper's thread, if the loop has not turned for a while."""
        if self._late_s is not None and now_s - self._turned_s > self._late_s:
            beats = self._core.due_beats(now_s, self._pack)
            if beats:
                self._socket.send_from_thread(beats)

    async def drain(self, grace_s: float, telling_s: float) -> None:
        """Refuse new calls, and wait for the open ones; those that last longer are cancelled.

        Args:
            grace_s: seconds to wait for open calls at most.
            telling_s: seconds to refuse calls at least.
        """
        # The socket stays bound: to unbind it would cut the connections, and with them the open calls.
        self._core.closing = True
        started_s = now_s = time.monotonic()
        until_s = started_s + grace_s
        last_s = started_s - READING_S
        while not self._core.calls or now_s < until_s:
            if self._core.calls:
                last_s = now_s
            elif now_s >= max(started_s + telling_s, last_s + READING_S):
                return
            # A refusal that the client has not read would be a lost call.
            last_s = max(last_s, min(self._core.refused_s, until_s))
            await asyncio.sleep(0.01)
            now_s = time.monotonic()
        for call in list(self._core.calls.values()):
            refusal = failures.refuse(failures.CLOSING, ConnectionError("the server has shut down"))
            call.reason = SHUTDOWN
            self._core.fail(call, failures.Failure("ServerClosing", refusal.text, refusal.traceback))
            self._handlers.stop(call)
        await asyncio.sleep(READING_S)

    def close(self) -> None:
        """Cancel the open calls and close the socket; plain functions that run go on to their end."""
        for call in list(self._core.calls.values()):
            self._core.cancel(call, SHUTDOWN)
        keeper.release(self)
        self._timer.cancel()
        self._socket.close()
        if self._guard is not None:
            self._questions.close()
            self._guard.close()
        # Waits for the last messages to leave: a process that ends before loses them.
        terminate(self._context)
        self._pool.close()

    def _send(self, frames: Sequence[bytes]) -> None:
        self._socket.send(frames)

    def _send_soon(self, call: Served) -> None:
        self._loop.call_soon(self._core.send_batch, call)

    def _receive(self, frames: list[bytes]) -> None:
        self._core.receive(frames, time.monotonic())

    def _undelivered(self, frames: Sequence[bytes]) -> None:
        self._core.counts["undelivered"] += 1
        self._core.drop_peer(frames[0])

    def _start(self, call: Served) -> None:
        method = self._methods.get(call.name)
        if method is None:
            error = NameError(introspection.explain_unknown(call.name, self._methods))
            self._core.fail(call, failures.describe(error))
            return
        if self._guard is not None:
            call.service = self._guard.service_of(call.prefix[0])
        self._handlers.start(call, method)

    def _answer_question(self, question: list[bytes]) -> None:
        assert self._guard is not None
        self._questions.send(self._guard.answer(question))

    def _stop(self, call: Served) -> None:
        self._handlers.stop(call)

    def _turn(self) -> None:
        """Read what has arrived, and only then judge who is silent."""
        self._socket.drain()
        self._turned_s = now_s = time.monotonic()
        self._core.beat(now_s)
        if self._guard is not None:
            self._guard.look(now_s)
        self._timer = self._loop.call_later(self._period_s, self._turn)
