"""Sockets that are traced, with the state of each, and those that are left alone.

Left alone are ztrace's own sockets, and those of libraries with a middleware of their own: the code that
first uses a socket tells which it is.
"""

import sys
from types import FrameType
from typing import Any

import zmq

from ztrace import diagnostics
from ztrace.middleware.zmq.links import Link, Messages, Replies, Requests
from ztrace.middleware.zmq.routers import Routes

#: Key of the link in a socket's ``__dict__``.
KEY = "_ztrace"
#: Packages whose sockets are left alone: ztrace's own, and those of libraries with a middleware of their own.
EXEMPT_PACKAGES = frozenset(("ztrace", "ztrace_collector", "ztrace_viewer", "zerorpc"))
#: Programs of ztrace's that are traced like a user's: the services of ``ztrace demo``.
_DEMO = "ztrace_viewer.demo."
#: Modules through which a program uses its sockets; sockets of pyzmq's other modules are its own.
_INTERFACES = ("zmq.sugar", "zmq.green", "zmq._future", "zmq.asyncio", "zmq.eventloop", "ztrace.middleware")

_KINDS = {zmq.REQ: Requests, zmq.REP: Replies, zmq.ROUTER: Routes}
_MESSAGES = (zmq.PUSH, zmq.PULL, zmq.PUB, zmq.SUB, zmq.XPUB, zmq.XSUB, zmq.DEALER, zmq.PAIR)


class Exempt(Link):
    """State of all sockets that are left alone."""

    def __init__(self) -> None:
        super().__init__(zmq.PAIR)
        self.sending = self.receiving = True


EXEMPT = Exempt()


def link_of(socket: Any, named: bool = False) -> Link:
    """Return the state of a socket, a new one if this is the first time that it is used.

    Args:
        socket: of any class.
        named: whether the program has named the socket, which is then none of a library's.
    """
    link = socket.__dict__.get(KEY)
    if link is None:
        try:
            link = _new_link(socket, named)
        except Exception:
            diagnostics.contain("zmq")
            link = EXEMPT
        socket.__dict__[KEY] = link
    return link  # type: ignore[no-any-return]


def _new_link(socket: Any, named: bool) -> Link:
    kind = socket.__dict__.get("type")
    if not (kind in _KINDS or kind in _MESSAGES) or (not named and _is_exempt()):
        return EXEMPT
    return _KINDS.get(kind, Messages)(kind)


def _is_exempt() -> bool:
    """Return whether the code that uses a socket is of a library whose sockets are left alone."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        name = dict.get(frame.f_globals, "__name__")
        if type(name) is str and not name.startswith(_INTERFACES):
            package = name.partition(".")[0]
            return (package in EXEMPT_PACKAGES and not name.startswith(_DEMO)) or package == "zmq"
        frame = frame.f_back
    return False
