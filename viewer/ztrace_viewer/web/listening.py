"""Listening sockets of the HTTP servers.

One idea: they are open to this machine alone. Access from elsewhere takes a proxy with TLS in front, and the
error for any other address says so.
"""

import errno
import os
import socket

from ztrace import addresses
from ztrace.addresses import DEFAULT_WEB, Address, is_loopback
from ztrace.errors import EndpointError

#: Pending connections of a listening socket.
_BACKLOG = 64


def parse_address(text: str, option: str) -> Address:
    """Parse ``HOST:PORT``.

    Args:
        text: the value given.
        option: the option it was given with.

    Raises:
        EndpointError: the value is not an address, or other machines could reach it.
    """
    try:
        address = addresses.parse_address(text)
    except ValueError as error:
        raise EndpointError(
            f"{text!r} is not HOST:PORT", hint=f"write it like {option} {DEFAULT_WEB}"
        ) from error
    if not is_loopback(address.host):
        raise EndpointError(
            f"{option} {text} can be reached from other machines",
            hint=f"listen on {DEFAULT_WEB} and put a proxy with TLS before it",
        )
    return address._replace(host="127.0.0.1") if address.host.lower() == "localhost" else address


def listen(address: Address) -> socket.socket:
    """Return a socket that listens.

    Raises:
        EndpointError: it cannot.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # Named as TCP, so that asyncio sends every piece at once: otherwise the second waits 40 ms for the other
    # end to have said that it has the first.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # Connections that ended a moment ago are not in the way; another server is.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        what = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {_describe(error)}"
        raise EndpointError(f"{address} {what}", hint="name another; port 0 takes a free one") from error
    return listener


def find_address(listener: socket.socket) -> Address:
    """Return where a socket listens."""
    host, port, *_ = listener.getsockname()
    return Address(host, port)


def _describe(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
