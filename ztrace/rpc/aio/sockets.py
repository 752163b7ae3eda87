"""Socket that an event loop reads by its file descriptor, and that other threads may send on under its lock.

One idea: ZeroMQ's descriptor is edge-triggered, and any operation on the socket may consume the edge. So the
socket is asked for its events after each send, and drained until nothing is left. The lock is held for single
operations only, never while a handler runs.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import zmq

from ztrace.rpc.backlog import Backlog
from ztrace.rpc.frames import EVENTS, NOBLOCK, POLLIN, make_ask, make_receive, make_send, take_arrived

#: Messages that are received before the loop gets its turn.
_BUDGET: Final = 200
#: Seconds between attempts to send what a peer has no room for.
_RETRY_S: Final = 0.01


class LoopSocket:
    """Socket in a running event loop, which closes it.

    Args:
        socket: to read and send on, which this object then owns.
        receive: called in the loop with each message.
        undelivered: called in the loop with a message whose recipient has gone or has no room at all.
        backlog_bytes: kept for one peer that has no room; None is unlimited.
        admit: returns the bytes of a message, or None to ignore it; by default all are received.
    """

    def __init__(
        self,
        socket: "zmq.Socket[bytes]",
        receive: Callable[[list[bytes]], None],
        undelivered: Callable[[Sequence[bytes]], None],
        backlog_bytes: int | None = None,
        admit: Callable[[Sequence[zmq.Frame]], list[bytes] | None] | None = None,
    ) -> None:
        self.lock = threading.Lock()
        self.socket = socket
        self._receive = receive
        self._undelivered = undelivered
        self._admit = admit
        self._loop = asyncio.get_running_loop()
        self._backlog = Backlog(backlog_bytes)
        self._retry: asyncio.TimerHandle | None = None
        self._scheduled = False
        self._asked = False
        self._closed = False
        self._ask, self._send, self._recv = make_ask(socket), make_send(socket), make_receive(socket)
        self._fd: int = self._ask(zmq.FD)
        self._loop.add_reader(self._fd, self.drain)
        self._loop.call_soon(self.drain)

    def send(self, frames: Sequence[bytes]) -> None:
        """Send a message, or keep it until the peer has room; call this in the loop."""
        if self._closed:
            return
        delivered = True
        with self.lock:
            if self._backlog and self._backlog.holds(frames[0]):
                delivered = self._backlog.add(frames)
            else:
                try:
                    self._send(frames)
                except zmq.Again:
                    delivered = self._backlog.add(frames)
                except zmq.ZMQError:
                    delivered = False
            # The first send of a turn asks for what has arrived; for all others one more turn does.
            readable = not self._scheduled and (self._asked or self._ask(EVENTS) & POLLIN)
            self._asked = True
        if readable:
            self._schedule()
        if not delivered:
            self._loop.call_soon(self._undelivered, frames)
        if self._backlog and self._retry is None:
            self._retry = self._loop.call_later(_RETRY_S, self._flush)

    def send_from_thread(self, messages: Sequence[Sequence[bytes]]) -> None:
        """Send heartbeats from another thread, as far as there is room, and have the loop look again."""
        with self.lock:
            if self._closed:
                return
            for frames in messages:
                try:
                    self._send(frames)
                except zmq.ZMQError:
                    pass  # The next turn of the loop sees that the peer has gone.
        try:
            # The operations above may have consumed the descriptor's edge.
            self._loop.call_soon_threadsafe(self.drain)
        except RuntimeError:
            pass  # The loop has closed.

    def drain(self) -> None:
        """Receive what has arrived, a bounded number of messages a turn."""
        if self._closed:
            return
        admit = self._admit
        receive: Callable[[], Any] = self._recv
        if admit is not None:
            receive = partial(self.socket.recv_multipart, NOBLOCK, copy=False)
        with self.lock:
            self._scheduled = self._asked = False
            received: list[Any] = take_arrived(receive, self._ask, _BUDGET)
            again = len(received) == _BUDGET and self._ask(EVENTS) & POLLIN
        if again:
            self._schedule()
        for frames in received if admit is None else filter(None, map(admit, received)):
            self._receive(frames)

    def close(self) -> None:
        """Close the socket; messages that are kept are discarded."""
        with self.lock:
            if self._closed:
                return
            self._closed = True
            if not self._loop.is_closed():
                self._loop.remove_reader(self._fd)
            if self._retry is not None:
                self._retry.cancel()
            self.socket.close()

    def discard(self, frames: Sequence[bytes]) -> bool:
        """Drop a message that is still kept; return False if it is sent already."""
        return bool(self._backlog) and self._backlog.discard(frames)

    def _schedule(self) -> None:
        self._scheduled = True
        self._loop.call_soon(self.drain)

    def _flush(self) -> None:
        """Send what is kept for peers that have room by now."""
        self._retry = None
        if self._closed:
            return
        gone: list[Sequence[bytes]] = []
        with self.lock:
            for peer in self._backlog.peers():
                while (frames := self._backlog.first(peer)) is not None:
                    try:
                        self._send(frames)
                    except zmq.Again:
                        break
                    except zmq.ZMQError:
                        gone.append(frames)
                    self._backlog.discard(frames)
            readable = not self._scheduled and self._ask(EVENTS) & POLLIN
        if readable:
            self._schedule()
        for frames in gone:
            self._undelivered(frames)
        if self._backlog:
            self._retry = self._loop.call_later(_RETRY_S, self._flush)
