"""Sockets of messages, connected and bound, and their actual addresses."""

from collections.abc import Sequence

import zmq

from ztrace.errors import EndpointError, SettingsError, quote
from ztrace.rpc import wire
from ztrace.rpc.contexts import Context
from ztrace.rpc.sockets import check_loopback


def open_socket(
    kind: int, connect: Sequence[str], bind: str | Sequence[str], context: Context
) -> "zmq.Socket[bytes]":
    """Open a socket, connect it to some addresses and bind it to others; the caller closes it.

    Raises:
        SettingsError: there is no address.
        EndpointError: an address is invalid, in use, or to be bound where other machines could reach it.
    """
    bound = (bind,) if isinstance(bind, str) else tuple(bind)
    if not connect and not bound:
        raise SettingsError("there is no address to connect to or to bind", hint="as tcp://127.0.0.1:4400")
    socket: zmq.Socket[bytes] = context.socket(kind)
    socket.linger = 0
    socket.maxmsgsize = wire.MAX_MESSAGE
    endpoint = ""
    try:
        for endpoint in bound:
            check_loopback(endpoint)
            socket.bind(endpoint)
        for endpoint in connect:
            socket.connect(endpoint)
    except EndpointError:
        socket.close()
        raise
    except (zmq.ZMQError, TypeError) as error:
        socket.close()
        number = getattr(error, "errno", None)
        reason = zmq.strerror(number) if isinstance(number, int) else "not an address"
        raise EndpointError(f"cannot use {quote(endpoint)}: {reason}") from None
    return socket


def bound_endpoint(socket: "zmq.Socket[bytes]") -> str:
    """Return the last address that a socket was bound or connected to."""
    return socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
