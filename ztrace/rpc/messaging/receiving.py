"""Pullers and subscribers: each message calls a function, one after the other.

rpc.Puller(images, bind="tcp://127.0.0.1:4400").run()
"""

import asyncio
import inspect
import logging
from collections.abc import Sequence
from contextvars import Context
from typing import Any, Final

import zmq

from ztrace import spans
from ztrace.middleware.kit import new_serving
from ztrace.rpc import wire
from ztrace.rpc.exposing import expose
from ztrace.rpc.looping import Loop
from ztrace.rpc.messaging.sockets import bound_endpoint, open_socket
from ztrace.rpc.waking import Waker
from ztrace.spans import CONSUMER

#: Messages that are handled before `close` is looked for.
BUDGET: Final = 100


class _Receiver(Loop):
    """Base of pullers and subscribers.

    Attributes:
        endpoint: actual address of the last that was bound or connected to; empty before the start.
    """

    def __init__(
        self, thing: object, kind: int, connect: Sequence[str], bind: str | Sequence[str], topic: str
    ) -> None:
        super().__init__()
        self._methods = expose(thing)
        self._kind, self._connect, self._bind, self._topic = kind, connect, bind, topic
        self._sockets: list[zmq.Socket[bytes]] = []
        self._runner: asyncio.Runner | None = None
        self.endpoint = ""

    def _open_sockets(self) -> None:
        socket = open_socket(self._kind, self._connect, self._bind, zmq.Context.instance())
        self._sockets.append(socket)
        if self._kind == zmq.SUB:
            socket.subscribe(self._topic.encode())
        self.endpoint = bound_endpoint(socket)

    def _close_sockets(self) -> None:
        while self._sockets:
            self._sockets.pop().close()

    def _work(self, waker: Waker) -> None:
        (socket,) = self._sockets
        poller = zmq.Poller()
        poller.register(waker.fileno(), zmq.POLLIN)
        poller.register(socket, zmq.POLLIN)
        try:
            while not self._closing:
                poller.poll()
                waker.clear()
                for _ in range(BUDGET):
                    if self._closing:
                        break
                    try:
                        data = socket.recv_multipart(zmq.NOBLOCK)[-1]
                    except zmq.Again:
                        break
                    self._handle(data)
        finally:
            if self._runner is not None:
                self._runner.close()

    def _handle(self, data: bytes) -> None:
        """Call the function of a message; failures are logged, since the sender does not wait."""
        try:
            event = wire.unpack(data)
            wire.check_event(event)
            header, name, args = event
            kwargs: dict[str, Any] = {}
            if name == wire.CALL:
                name, args, kwargs = args
            Context().run(self._call, header, name, args, kwargs)
        except Exception:
            logging.getLogger(__name__).exception("a message has failed")

    def _call(self, header: dict[str, Any], name: str, args: Any, kwargs: dict[str, Any]) -> None:
        if spans.publisher is None:
            self._call_function(name, args, kwargs)
            return
        with new_serving(name, CONSUMER, {"messaging.system": "ztrace"}, header):
            self._call_function(name, args, kwargs)

    def _call_function(self, name: str, args: Any, kwargs: dict[str, Any]) -> None:
        method = self._methods.get(name)
        if method is None:
            raise NameError(f"{name}: there is {', '.join(sorted(self._methods)[:20])}")
        result = method.function(*args, **kwargs)
        if inspect.iscoroutine(result):
            if self._runner is None:
                self._runner = asyncio.Runner()
            self._runner.run(result)


class Puller(_Receiver):
    """Calls a function for each message of its pushers, one after the other.

    Args:
        thing: a module, class, object, or mapping of names to callables, as for `Server`.
        connect: addresses that pushers have bound.
        bind: addresses that pushers connect to.

    Raises:
        SettingsError: there is nothing to call.
    """

    def __init__(self, thing: object, *connect: str, bind: str | Sequence[str] = ()) -> None:
        super().__init__(thing, zmq.PULL, connect, bind, "")


class Subscriber(_Receiver):
    """Calls a function for each message of its publishers, one after the other.

    Args:
        thing: a module, class, object, or mapping of names to callables, as for `Server`.
        connect: addresses of publishers.
        bind: addresses that publishers connect to.
        topic: beginning of the topics to receive; without one, all messages are.

    Raises:
        SettingsError: there is nothing to call.
    """

    def __init__(
        self, thing: object, *connect: str, bind: str | Sequence[str] = (), topic: str | None = None
    ) -> None:
        super().__init__(thing, zmq.SUB, connect, bind, topic or "")
