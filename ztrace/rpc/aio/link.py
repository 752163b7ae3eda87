"""Connection of an asynchronous client to one server."""

import asyncio
import time
from collections.abc import Mapping, Sequence

from ztrace.enrolment import Enrolment
from ztrace.rpc import wire
from ztrace.rpc.aio.sockets import LoopSocket
from ztrace.rpc.core.calling import ClientCore
from ztrace.rpc.core.pool import Pool, Route
from ztrace.rpc.monitor import Monitor
from ztrace.rpc.sockets import REVIVE_S, connect, connect_again, open_dealer


class Link:
    """Connection to one server, in the running event loop."""

    def __init__(
        self,
        endpoint: str,
        pool: Pool,
        heartbeat_s: float | None,
        allowed: Mapping[str, type[BaseException]],
        key: Enrolment | None,
    ) -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self.core = ClientCore(self._send, heartbeat_s=heartbeat_s, allowed=allowed)
        self.route = Route(endpoint, self.core)
        self._down_s = time.monotonic()
        socket = open_dealer(key)
        self._monitor = Monitor(socket)
        try:
            connect(socket, endpoint)
        except BaseException:
            self._monitor.close()
            socket.close()
            raise
        self._socket = LoopSocket(socket, self._receive, self._undelivered)
        self._pack = wire.make_packer()
        self._loop.add_reader(self._monitor.fd, self._note)
        self._loop.call_soon(self._note)

    def keep(self, now_s: float) -> None:
        """Send due heartbeats from the keeper's thread."""
        beats = self.core.due_beats(now_s, self._pack)
        if beats:
            self._socket.send_from_thread(beats)

    def read(self) -> None:
        """Read what has arrived."""
        self._note()
        self._socket.drain()

    def revive(self, now_s: float) -> None:
        """Connect again where libzmq may have given up."""
        if not self.route.up and now_s - self._down_s > REVIVE_S:
            self._down_s = now_s
            with self._socket.lock:
                connect_again(self._socket.socket, self.route.endpoint)

    def close(self) -> None:
        """Cancel the open calls, and close the connection."""
        if self._monitor.socket.closed:
            return
        self.core.close()
        if not self._loop.is_closed():
            self._loop.remove_reader(self._monitor.fd)
        self._monitor.close()
        self._socket.close()

    def _send(self, frames: Sequence[bytes]) -> None:
        self._socket.send(frames)

    def _receive(self, frames: list[bytes]) -> None:
        self.core.receive(frames, time.monotonic())

    def _undelivered(self, frames: Sequence[bytes]) -> None:
        self.core.lose("the connection cannot be used")

    def _note(self) -> None:
        """Take the monitor's events: answers that came before a disconnection are read first."""
        if self._monitor.socket.closed:
            return
        changes = self._monitor.read()
        self.route.problem = self._monitor.problem
        for is_up in changes:
            if is_up:
                self._pool.came_up(self.route, time.monotonic())
            else:
                self._socket.drain()
                self._down_s = time.monotonic()
                self._pool.went_down(self.route, f"the connection to {self.route.endpoint} is lost")
