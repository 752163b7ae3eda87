"""Pushers and publishers, on zerorpc's wire: one frame with an event, and no reply.

with rpc.Pusher("tcp://127.0.0.1:4400") as images:
    images.resize("cat.jpg", width=640)
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import zmq

from ztrace import spans
from ztrace.middleware.kit import new_span, write_context
from ztrace.native import monotonic, sleep_and_switch
from ztrace.rpc import wire
from ztrace.rpc.contexts import Context, terminate
from ztrace.rpc.errors import DeadlineExceeded, PeerLost
from ztrace.rpc.messaging.sockets import open_socket
from ztrace.spans import PRODUCER

#: Milliseconds for which the last messages are delivered after `close`.
LINGER_MS: Final = 2000
#: Shortest and longest wait between two attempts to send a message that no peer has room for.
SHORTEST_S, LONGEST_S = 0.001, 0.02


class _Sender:
    """Socket that sends messages; each public attribute is a remote function, `call` calls any by name.

    `rpc.close` closes it, as does a ``with`` block. Any thread may send.
    """

    def __init__(
        self,
        kind: int,
        connect: Sequence[str],
        bind: str | Sequence[str],
        topic: str | None,
        timeout_s: float,
    ) -> None:
        self._context: Context = zmq.Context()
        try:
            self._socket = open_socket(kind, connect, bind, self._context)
        except BaseException:
            terminate(self._context)
            raise
        self._socket.linger = LINGER_MS
        self._topic = None if topic is None else topic.encode()
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._pack = wire.make_packer()
        self._new_id = wire.make_ids()

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> None:
        """Send a message: ``pusher.call("resize", "cat.jpg")`` is ``pusher.resize("cat.jpg")``.

        Raises:
            TypeError: an argument cannot be sent.
            DeadlineExceeded: no puller had room for the message in time; a publisher never waits.
            PeerLost: the socket is closed.
        """
        if spans.publisher is None:
            self._send(name, args, kwargs, {})
            return
        with new_span(name, PRODUCER, {"messaging.system": "ztrace"}) as span:
            context: dict[str, str] = {}
            write_context(span, context)
            self._send(name, args, kwargs, context)

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)
        return partial(self.call, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        with self._lock:
            self._socket.close()
        terminate(self._context)

    def _send(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], context: dict[str, str]
    ) -> None:
        header = {"message_id": self._new_id(), "v": wire.PROTOCOL, **context}
        event = (header, wire.CALL, [name, args, kwargs]) if kwargs else (header, name, args)
        give_up_s = monotonic() + self._timeout_s
        wait_s = SHORTEST_S
        while not self._try_to_send(event, name):
            if monotonic() >= give_up_s:
                raise DeadlineExceeded(f"{name}: no peer took the message within {self._timeout_s} s")
            sleep_and_switch(wait_s)
            wait_s = min(2 * wait_s, LONGEST_S)

    def _try_to_send(self, event: tuple[Any, ...], name: str) -> bool:
        with self._lock:
            try:
                frame = self._pack(event)
            except Exception:
                raise TypeError(f"{name}: cannot send {wire.find_unpackable(event[2])}") from None
            if len(frame) > wire.MAX_MESSAGE:
                raise wire.refuse_size(name, frame)
            try:
                self._socket.send_multipart(
                    [frame] if self._topic is None else [self._topic, frame], zmq.NOBLOCK
                )
            except zmq.Again:
                return False
            except zmq.ZMQError as error:
                raise PeerLost(f"{name}: cannot send: {error}") from None
        return True


class Pusher(_Sender):
    """Sends each message to one of the pullers, in turn; a message waits while none has room.

    Args:
        connect: addresses of pullers.
        bind: addresses that pullers connect to.
        timeout_s: longest wait of a message for a puller.

    Raises:
        SettingsError: there is no address.
        EndpointError: an address is invalid, in use, or to be bound where other machines could reach it.
    """

    def __init__(self, *connect: str, bind: str | Sequence[str] = (), timeout_s: float = 30.0) -> None:
        super().__init__(zmq.PUSH, connect, bind, None, timeout_s)


class Publisher(_Sender):
    """Sends each message to all subscribers that are connected; one that is slow loses messages.

    Args:
        bind: addresses that subscribers connect to.
        connect: addresses that subscribers have bound.
        topic: sent in a frame before each message; without one, messages are as zerorpc's.

    Raises:
        SettingsError: there is no address.
        EndpointError: an address is invalid, in use, or to be bound where other machines could reach it.
    """

    def __init__(self, *bind: str, connect: str | Sequence[str] = (), topic: str | None = None) -> None:
        connected = (connect,) if isinstance(connect, str) else connect
        super().__init__(zmq.PUB, connected, bind, topic, 0.0)
