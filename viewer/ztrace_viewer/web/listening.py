"""Listening sockets of the HTTP servers.

One idea: they are open to this machine alone. Access from elsewhere takes a proxy with TLS in front, and the
error for any other address says so.
"""

import socket

from ztrace import addresses
from ztrace.addresses import DEFAULT_WEB, Address, is_loopback
from ztrace.errors import EndpointError


def parse_address(text: str, option: str) -> Address:
    """Parse the ``HOST:PORT`` of an option.

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


def find_address(listener: socket.socket) -> Address:
    """Return the address of a listening socket."""
    host, port, *_ = listener.getsockname()
    return Address(host, port)
