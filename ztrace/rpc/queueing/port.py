"""Socket of a queue: the way to each worker, and the keys under which workers connect."""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import zmq

from ztrace.rpc import wire
from ztrace.rpc.contexts import Context, terminate
from ztrace.rpc.guarding import Guard
from ztrace.rpc.sockets import LINGER_MS, open_router

#: Messages that are read before anything is sent.
BUDGET: Final = 200


class Port:
    """Bound socket of a queue, used by the queue's thread alone.

    Args:
        endpoint: to bind.
        keys: folder of the workers' keys, None without.
        broken: called with a worker whose connection is found to be broken.

    Attributes:
        endpoint: actual address.
    """

    def __init__(self, endpoint: str, keys: str | None, broken: Callable[[bytes], None]) -> None:
        self._context: Context = zmq.Context()
        self._guard = None
        try:
            self._guard = None if keys is None else Guard(Path(keys), self._context)
            self._router, (self.endpoint,) = open_router((endpoint,), self._context, self._guard)
        except BaseException:
            if self._guard is not None:
                self._guard.close()
            terminate(self._context)
            raise
        self._broken = broken
        self._pack = wire.make_packer()
        self._routes: dict[bytes, list[bytes]] = {}

    def register(self, poller: zmq.Poller) -> None:
        """Have a poller wake for what is to be read."""
        poller.register(self._router, zmq.POLLIN)
        if self._guard is not None:
            poller.register(self._guard.socket, zmq.POLLIN)

    def receive(self) -> Iterator[tuple[list[bytes], bytes]]:
        """Yield the messages that have arrived, as the way to the sender and the event."""
        if self._guard is not None:
            self._answer_questions(self._guard)
        try:
            for _ in range(BUDGET):
                message: list[bytes] | None
                if self._guard is None:
                    message = self._router.recv_multipart(zmq.NOBLOCK)
                else:
                    message = self._guard.admit(self._router.recv_multipart(zmq.NOBLOCK, copy=False))
                if message is not None:
                    yield message[:-1], message[-1]
        except zmq.Again:
            pass

    def remember(self, peer: bytes, route: list[bytes]) -> None:
        """Note the way to a worker, which changes with each of its connections."""
        self._routes[peer] = route

    def keep(self, peers: Iterable[bytes]) -> None:
        """Forget the ways to all but these workers."""
        for peer in self._routes.keys() - set(peers):
            del self._routes[peer]

    def send(self, peer: bytes, header: dict[str, Any], name: str, args: Any) -> None:
        """Send an event to a worker, if the worker has room for it.

        Whatever is lost is sent again: a mark behind it will tell.
        """
        route = self._routes.get(peer)
        if route is None:
            return
        try:
            self._router.send_multipart([*route, self._pack((header, name, args))], zmq.NOBLOCK)
        except zmq.Again:
            pass
        except zmq.ZMQError:
            self._broken(peer)

    def reply(self, route: list[bytes], header: dict[str, Any], name: str, args: Any) -> None:
        """Send an event to the sender of a request, if it is still there."""
        try:
            self._router.send_multipart([*route, self._pack((header, name, args))], zmq.NOBLOCK)
        except zmq.ZMQError:
            pass

    def close(self) -> None:
        """Close the sockets, once the last acknowledgements have left or half a second has passed."""
        self._router.close(LINGER_MS)
        if self._guard is not None:
            self._guard.close()
        terminate(self._context)

    def _answer_questions(self, guard: Guard) -> None:
        """Answer libzmq's questions for keys, and read the keys that have changed."""
        guard.look(time.monotonic())
        try:
            while True:
                guard.socket.send_multipart(guard.answer(guard.socket.recv_multipart(zmq.NOBLOCK)))
        except zmq.Again:
            pass
