"""Wrappers of asyncio's sockets: a message becomes current in the task that awaits it.

An asyncio socket sends and receives by a plain socket, its shadow, in callbacks of the loop. The shadow
shares the `Link`: it takes frames of ztrace's out of what it receives, and leaves the message to the future,
which begins and ends spans when a task gets its result. Frames are added before pyzmq sees the message.
"""

import asyncio
import functools
from collections.abc import Callable, Generator, Sequence
from typing import Any

import zmq
from zmq._future import _AsyncSocket
from zmq.asyncio import Poller, Socket, _AsyncIO

from ztrace import diagnostics
from ztrace.exceptions.tracebacks import take_off_frame
from ztrace.middleware.zmq.exemption import EXEMPT, KEY, link_of
from ztrace.middleware.zmq.links import Link, Requests
from ztrace.middleware.zmq.sockets import add_frame, before_send, wrap_poll


class Future(asyncio.Future[Any]):
    """Future of a message, which hands the message to its socket's link once a task has it."""

    #: State of the socket that the message is received by.
    link: Link | None = None
    #: The message, from its arrival until a task has it.
    message: tuple[Sequence[Any], bytes | None] | None = None
    #: Future whose result this one's is made of.
    source: "Future | None" = None

    def set_result(self, result: Any) -> None:
        """Set the result; take over the message that the socket has just received."""
        if self.link is not None:
            take_message(self, self.link)
        super().set_result(result)

    def __await__(self) -> Generator[Any, None, Any]:
        result = yield from super().__await__()
        _begin(self)
        return result

    __iter__ = __await__

    def result(self) -> Any:
        """Return the result, as `asyncio.wait_for` and `asyncio.wait` are asked for it."""
        result = super().result()
        if self.message is not None or self.source is not None:
            try:
                task = asyncio.current_task()
            except RuntimeError:
                task = None
            if task is not None:
                _begin(self)
        return result


def take_message(future: Future, link: Link) -> None:
    """Take over the message that a socket has received, and end the span of a request that it replies to."""
    message, link.received = link.received, None
    if message is not None:
        if isinstance(link, Requests):
            link.after_receive(*message)
        else:
            future.link, future.message = link, message


def _begin(future: Future) -> None:
    """Begin the span of a message, in the task that has it."""
    try:
        source = future.source or future
        message, source.message = source.message, None
        if message is not None and source.link is not None:
            source.link.after_receive(*message)
    except Exception:
        diagnostics.contain("zmq")


def wrap_asyncio() -> None:
    """Patch asyncio's sockets and pollers."""
    cls: Any = Socket
    base: Any = _AsyncSocket
    _AsyncIO._Future = Future
    cls.__init__ = _wrap_init(cls.__init__)
    cls.send, cls.send_multipart = _wrap_send(base), _wrap_send_multipart(base.send_multipart)
    cls.recv, cls.recv_multipart = _wrap_receive(base.recv), _wrap_receive(base.recv_multipart)
    cls._deserialize = _wrap_deserialize(base._deserialize)
    Poller.poll = wrap_poll(Poller.poll)  # type: ignore[method-assign]


def _wrap_init(original: Callable[..., None]) -> Callable[..., None]:
    """Wrap ``__init__``, which makes the shadow or is given a socket of the program's."""

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        try:
            shadow = self._shadow_sock
            given = any(value is shadow for value in (*args, *kwargs.values()))
            # Spans of a given socket are begun by its own methods.
            link = EXEMPT if given else link_of(self)
            self.__dict__[KEY] = link
            if link is not EXEMPT:
                shadow.__dict__[KEY] = link
                link.asynchronous = link.sending = True
            elif not given:
                shadow.__dict__[KEY] = EXEMPT
        except Exception:
            diagnostics.contain("zmq")

    return __init__


def _wrap_send(base: Any) -> Callable[..., Any]:
    original, original_multipart = base.send, base.send_multipart

    @functools.wraps(original)
    def send(
        self: Any, data: Any, flags: int = 0, copy: bool = True, track: bool = False, **kwargs: Any
    ) -> Any:
        link = link_of(self)
        first, more = not link.more, flags & zmq.SNDMORE
        link.more = bool(more)
        if link is EXEMPT or (not first if link.leads else more):
            if first and link.routes:
                link.addressee = data
            return original(self, data, flags, copy, track, **kwargs)
        try:
            extra = before_send(link, self, (data,))
            if extra is None:
                future = original(self, data, flags, copy, track, **kwargs)
            else:
                frames = [data, extra] if link.publishes and first else [extra, data]
                future = original_multipart(self, frames, flags, copy, track, **kwargs)
        except BaseException as exception:
            take_off_frame(exception)
            link.after_send(exception)
            raise
        link.after_send()
        return future

    return send


def _wrap_send_multipart(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def send_multipart(
        self: Any, msg_parts: Any, flags: int = 0, copy: bool = True, track: bool = False, **kwargs: Any
    ) -> Any:
        link = link_of(self)
        if link is EXEMPT or flags & zmq.SNDMORE:
            return original(self, msg_parts, flags, copy, track, **kwargs)
        try:
            link.more = False
            extra = before_send(link, self, msg_parts)
            if extra is not None:
                msg_parts = add_frame(link, msg_parts, extra)
            future = original(self, msg_parts, flags, copy, track, **kwargs)
        except BaseException as exception:
            take_off_frame(exception)
            link.after_send(exception)
            raise
        link.after_send()
        return future

    return send_multipart


def _wrap_receive(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def recv(self: Any, *args: Any, **kwargs: Any) -> Any:
        link = link_of(self)
        if link is EXEMPT:
            return original(self, *args, **kwargs)
        link.before_receive()
        future = original(self, *args, **kwargs)
        if isinstance(future, Future):
            if future.done():
                take_message(future, link)  # It was there already.
            else:
                future.link = link
        return future

    return recv


def _wrap_deserialize(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``_deserialize``, which makes the future of a message's content."""

    @functools.wraps(original)
    def _deserialize(self: Any, recvd: Any, load: Any) -> Any:
        future = original(self, recvd, load)
        if isinstance(future, Future) and isinstance(recvd, Future):
            future.source = recvd
        return future

    return _deserialize
