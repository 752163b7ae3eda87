"""ZeroMQ sockets as calls need them, and the errors of their addresses."""

from typing import Final

import zmq

from ztrace.errors import EndpointError, quote
from ztrace.rpc import wire

#: Bytes above which ZeroMQ takes a message without a copy.
COPY_BYTES: Final = 65_536
#: Milliseconds in which the last messages may leave a closing socket.
LINGER_MS: Final = 500
#: Milliseconds between ZMTP heartbeats, and until a silent server is lost: it may be frozen.
BEAT_MS: Final = 500
LOST_MS: Final = 1500
#: Milliseconds between attempts to connect, and their maximum.
RECONNECT_MS: Final = 50
MAX_RECONNECT_MS: Final = 2000
#: Milliseconds that a peer has for its handshake.
HANDSHAKE_MS: Final = 5000


def open_router(endpoints: tuple[str, ...]) -> tuple["zmq.Socket[bytes]", tuple[str, ...]]:
    """Open and bind the socket of a server; return it and its actual addresses.

    Raises:
        EndpointError: an address is invalid or in use.
    """
    socket = _open(zmq.ROUTER)
    # Without MANDATORY a ROUTER discards silently what a slow client has no room for.
    socket.router_mandatory = True
    try:
        actual = tuple(_bind(socket, endpoint) for endpoint in endpoints)
    except BaseException:
        socket.close()
        raise
    return socket, actual


def open_dealer() -> "zmq.Socket[bytes]":
    """Open the socket of a client, to be monitored and then connected to one server."""
    socket = _open(zmq.DEALER)
    # A message waits in the client until there is a connection, and not for a server that has gone.
    socket.immediate = True
    socket.reconnect_ivl, socket.reconnect_ivl_max = RECONNECT_MS, MAX_RECONNECT_MS
    socket.heartbeat_ivl, socket.heartbeat_timeout = BEAT_MS, LOST_MS
    return socket


def connect(socket: "zmq.Socket[bytes]", endpoint: str) -> None:
    """Connect a client's socket to a server, which need not be there yet.

    Raises:
        EndpointError: the address is invalid.
    """
    try:
        socket.connect(endpoint)
    except (zmq.ZMQError, TypeError) as error:
        raise _explain(endpoint, error, "connect to") from None


def _open(kind: int) -> "zmq.Socket[bytes]":
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
    socket.linger = LINGER_MS
    socket.maxmsgsize = wire.MAX_MESSAGE
    socket.handshake_ivl = HANDSHAKE_MS
    return socket


def _bind(socket: "zmq.Socket[bytes]", endpoint: str) -> str:
    try:
        socket.bind(endpoint)
    except (zmq.ZMQError, TypeError) as error:
        raise _explain(endpoint, error, "bind") from None
    actual = socket.get_string(zmq.LAST_ENDPOINT)
    return actual.rstrip("\0")


def _explain(endpoint: object, error: Exception, verb: str) -> EndpointError:
    number = getattr(error, "errno", None)
    if number == zmq.EADDRINUSE:
        return EndpointError(f"cannot {verb} {quote(endpoint)}: the address is in use")
    reason = zmq.strerror(number) if isinstance(number, int) else "not an address"
    return EndpointError(f"cannot {verb} {quote(endpoint)}: {reason}", hint="tcp://HOST:PORT or ipc://PATH")
