"""Middleware for ZeroMQ by pyzmq: plain sockets, asyncio's and gevent's.

REQ and REP are calls, with client and server spans. All other sockets have messages: producer and consumer
spans, of messages with context. ZeroMQ has no headers, so context is a frame of its own, which only peers
with ztrace take out. It is sent where the peer is known to do so (`ztrace.middleware.zmq.peers`), in a reply
to a request that had one, and where the program asks for it (`carry`), or its environment does. Nothing else
changes for the peers.

docs/how-to/trace-zeromq.md tells which sockets are negotiated, and which have to be named.
"""

import functools
import sys
from typing import Any

import zmq

from ztrace.middleware.importing import is_imported
from ztrace.middleware.zmq.endpoints import Name, add_endpoints, read_variable
from ztrace.middleware.zmq.exemption import EXEMPT, link_of
from ztrace.middleware.zmq.sockets import (
    wrap_close,
    wrap_get,
    wrap_monitor,
    wrap_open,
    wrap_poll,
    wrap_receive,
    wrap_receive_into,
    wrap_receive_multipart,
    wrap_send,
    wrap_send_multipart,
)

#: Methods of sockets with their wrappers, where a class has them itself.
_WRAPPERS = {
    "send": wrap_send,
    "send_multipart": wrap_send_multipart,
    "recv": wrap_receive,
    "recv_multipart": wrap_receive_multipart,
    "recv_into": wrap_receive_into,
}
#: Other methods that are wrapped.
_OTHERS = ("connect", "bind", "close", "monitor", "get", "getsockopt")
#: Methods of `zmq.Socket` as they were.
_originals: dict[str, Any] = {}
#: Module of zerorpc with its class of sockets.
_ZERORPC = "zerorpc.gevent_zmq"


def install() -> None:
    """Patch those socket classes that are imported, once each."""
    _wrap_sockets()
    if "zmq.green.core" in sys.modules:
        _wrap_green()
    if "zmq.asyncio" in sys.modules:
        _wrap_asyncio()
    if is_imported(_ZERORPC):
        _leave_alone(sys.modules[_ZERORPC])


def carry(socket: Any, name: Name) -> None:
    """Send context with every message of a socket, or of those that are opened at listed endpoints."""
    install()
    if isinstance(socket, (list, tuple)):
        add_endpoints(socket, name)
        return
    link = link_of(socket, named=True)
    if link is not EXEMPT:
        link.carry(name)


@functools.cache
def _wrap_sockets() -> None:
    read_variable()
    cls: Any = zmq.Socket
    # Before 26.4 there is no `recv_into`.
    _originals.update((name, getattr(cls, name)) for name in (*_WRAPPERS, *_OTHERS) if hasattr(cls, name))
    _wrap_methods(cls)
    cls.connect, cls.bind = wrap_open(cls.connect, True), wrap_open(cls.bind, False)
    cls.close, cls.monitor = wrap_close(cls.close), wrap_monitor(cls.monitor)
    cls.get = cls.getsockopt = wrap_get(cls.get)
    zmq.Poller.poll = wrap_poll(zmq.Poller.poll)  # type: ignore[method-assign]


@functools.cache
def _leave_alone(module: Any) -> None:
    """Give zerorpc's sockets, which are exempt, pyzmq's methods without wrappers.

    zerorpc sends frame by frame: passing the wrappers took some 400 bytecode instructions a call.
    """
    module.Socket.__bases__ = (type("Socket", (zmq.Socket,), _originals),)


@functools.cache
def _wrap_green() -> None:
    from zmq.green import core, poll

    _wrap_methods(core._Socket)
    poll._Poller.poll = wrap_poll(poll._Poller.poll)  # type: ignore[method-assign]


@functools.cache
def _wrap_asyncio() -> None:
    from ztrace.middleware.zmq.asynchronous import wrap_asyncio  # Imports asyncio.

    wrap_asyncio()


def _wrap_methods(cls: Any) -> None:
    for name, wrapper in _WRAPPERS.items():
        method = vars(cls).get(name) or (getattr(cls, name, None) if cls is zmq.Socket else None)
        if method is not None:
            setattr(cls, name, wrapper(method))
