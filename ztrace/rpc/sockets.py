"""ZeroMQ sockets as calls need them, and the errors of their addresses."""

import contextlib
from typing import Final

import zmq

from ztrace.addresses import is_loopback
from ztrace.enrolment import Enrolment
from ztrace.errors import EndpointError, quote
from ztrace.rpc import wire
from ztrace.rpc.contexts import Context
from ztrace.rpc.guarding import Guard

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
#: Seconds without a connection after which a client begins again: libzmq gives up where a message has broken
#: its protocol or a limit.
REVIVE_S: Final = 6.0


def open_router(
    endpoints: tuple[str, ...], context: Context, guard: Guard | None = None
) -> tuple["zmq.Socket[bytes]", tuple[str, ...]]:
    """Open and bind the socket of a server; return it and its actual addresses.

    Args:
        endpoints: to bind.
        context: of the socket, and of the guard.
        guard: of the clients that may connect; without one other machines must not reach the addresses.

    Raises:
        EndpointError: an address is invalid, in use, or open to other machines without keys.
    """
    if guard is None:
        for endpoint in endpoints:
            check_loopback(endpoint)
    socket = _open(zmq.ROUTER, context)
    # Without MANDATORY a ROUTER discards silently what a slow client has no room for.
    socket.router_mandatory = True
    if guard is not None:
        guard.protect(socket)
    try:
        actual = tuple(_bind(socket, endpoint) for endpoint in endpoints)
    except BaseException:
        socket.close(0)
        raise
    return socket, actual


def open_dealer(key: Enrolment | None = None, context: Context | None = None) -> "zmq.Socket[bytes]":
    """Open the socket of a client, to be monitored and then connected to one server.

    Args:
        key: of the client, for a server with keys.
        context: of the socket; the process's by default, which is not terminated.
    """
    socket = _open(zmq.DEALER, context or zmq.Context.instance())
    # A message waits in the client until there is a connection, and not for a server that has gone.
    socket.immediate = True
    socket.reconnect_ivl, socket.reconnect_ivl_max = RECONNECT_MS, MAX_RECONNECT_MS
    socket.heartbeat_ivl, socket.heartbeat_timeout = BEAT_MS, LOST_MS
    if key is not None:
        socket.curve_serverkey = key.server_public
        socket.curve_publickey, socket.curve_secretkey = key.public, key.secret
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


def connect_again(socket: "zmq.Socket[bytes]", endpoint: str) -> None:
    """Drop the attempts to connect to a server, and begin again."""
    with contextlib.suppress(zmq.ZMQError):
        socket.disconnect(endpoint)
    connect(socket, endpoint)


def _open(kind: int, context: Context) -> "zmq.Socket[bytes]":
    socket = context.socket(kind)
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


def check_loopback(endpoint: str) -> None:
    """Refuse an address that other machines could reach, for a socket without keys.

    Raises:
        EndpointError: the address is not on loopback.
    """
    transport, _, address = endpoint.partition("://") if isinstance(endpoint, str) else ("", "", "")
    if transport == "tcp" and not is_loopback(address.rpartition(":")[0]):
        raise EndpointError(
            f"{quote(endpoint)} could be reached from other machines, and there are no keys",
            hint="make keys with 'ztrace keys init', and give their folder as keys",
        )


def _explain(endpoint: object, error: Exception, verb: str) -> EndpointError:
    number = getattr(error, "errno", None)
    if number == zmq.EADDRINUSE:
        return EndpointError(f"cannot {verb} {quote(endpoint)}: the address is in use")
    reason = zmq.strerror(number) if isinstance(number, int) else "not an address"
    return EndpointError(f"cannot {verb} {quote(endpoint)}: {reason}", hint="tcp://HOST:PORT or ipc://PATH")
