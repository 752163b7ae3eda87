"""Connection of a blocking client to one server; every method is called under the client's lock."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import zmq

from ztrace.enrolment import Enrolment
from ztrace.rpc.backlog import Backlog
from ztrace.rpc.core.calling import ClientCore
from ztrace.rpc.core.pool import Pool, Route
from ztrace.rpc.frames import EVENTS, POLLIN, make_ask, make_receive, make_send, take_arrived
from ztrace.rpc.monitor import Monitor
from ztrace.rpc.sockets import REVIVE_S, connect, connect_again, open_dealer

#: Messages that are received in a row while the client's lock is held.
_BUDGET: Final = 1000


class Link:
    """Connection to one server.

    Attributes:
        core: calls of the connection.
        route: of the client's pool.
        readers: functions to call once their descriptor is readable.
    """

    def __init__(
        self,
        endpoint: str,
        pool: Pool,
        heartbeat_s: float | None,
        allowed: Mapping[str, type[BaseException]],
        key: Enrolment | None,
    ) -> None:
        self._pool = pool
        self.core = ClientCore(self._send, heartbeat_s=heartbeat_s, allowed=allowed)
        self.route = Route(endpoint, self.core)
        self._backlog = Backlog()
        self._down_s = time.monotonic()
        self._socket = open_dealer(key)
        self._monitor = Monitor(self._socket)
        socket = self._socket
        self._ask, self._recv, self._transmit = make_ask(socket), make_receive(socket), make_send(socket)
        self.readers: dict[int, Callable[[], None]] = {
            self._ask(zmq.FD): self.receive,
            self._monitor.fd: self.read,
        }
        try:
            connect(self._socket, endpoint)
        except BaseException:
            self.close()
            raise

    @property
    def is_full(self) -> bool:
        """Messages wait because the server has no room."""
        return bool(self._backlog)

    def read(self) -> None:
        """Take what has arrived, and send what has waited for room."""
        self._receive()
        changes = self._monitor.read()
        self.route.problem = self._monitor.problem
        for is_up in changes:
            if is_up:
                self._pool.came_up(self.route, time.monotonic())
            else:
                self._receive()  # Answers that came before the disconnection.
                self._backlog = Backlog()
                self._down_s = time.monotonic()
                self._pool.went_down(self.route, f"the connection to {self.route.endpoint} is lost")
        if changes or self._backlog:
            self._flush()
            self._receive()

    def receive(self) -> None:
        """Take the messages that have arrived; after a send nothing else may have."""
        if self._ask(EVENTS) & POLLIN:
            self._receive()

    def revive(self, now_s: float) -> None:
        """Connect again where libzmq may have given up."""
        if not self.route.up and now_s - self._down_s > REVIVE_S:
            self._down_s = now_s
            connect_again(self._socket, self.route.endpoint)

    def close(self) -> None:
        """Cancel the open calls, and close the sockets."""
        self.core.close()
        self._monitor.close()
        self._socket.close()

    def _receive(self) -> None:
        while self._ask(EVENTS) & POLLIN:
            received = take_arrived(self._recv, self._ask, _BUDGET)
            now_s = time.monotonic()
            for frames in received:
                self.core.receive(frames, now_s)
            if len(received) < _BUDGET:
                return

    def _send(self, frames: Sequence[bytes]) -> None:
        if self._backlog or not self._try(frames):
            self._backlog.add(frames)

    def _flush(self) -> None:
        while (frames := self._backlog.first(b"")) is not None and self._try(frames):
            self._backlog.discard(frames)

    def _try(self, frames: Sequence[bytes]) -> bool:
        try:
            self._transmit(frames)
        except zmq.Again:
            return False
        return True
