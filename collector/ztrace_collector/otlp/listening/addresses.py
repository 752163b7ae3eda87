"""Addresses and sockets on which the collector and the viewer listen, on this machine only.

One idea: access from elsewhere takes a proxy with TLS in front, and the error for any other address says so.
"""

import errno
import os
import socket

from ztrace import addresses
from ztrace.addresses import Address, is_loopback
from ztrace.errors import EndpointError, quote

#: Pending connections of a listening socket: a burst of a machine's services.
BACKLOG = 128


def parse_address(text: str, option: str, example: str, proxy: str = "a proxy with TLS") -> Address:
    """Parse ``HOST:PORT``, or a URL without a path.

    Args:
        text: the value given.
        option: the option it was given with.
        example: an address that could be given.
        proxy: description of the proxy that other machines need.

    Raises:
        EndpointError: the value is not an address, or other machines could reach it.
    """
    try:
        address = addresses.parse_address(text.removeprefix("http://").removesuffix("/"))
    except ValueError as error:
        raise EndpointError(
            f"{quote(text)} is not HOST:PORT", hint=f"write it like {option} {example}"
        ) from error
    if not is_loopback(address.host):
        raise EndpointError(
            f"{option} {text} can be reached from other machines",
            hint=f"listen on {example} and put {proxy} before it",
        )
    return address._replace(host="127.0.0.1") if address.host.lower() == "localhost" else address


def open_socket(address: Address) -> socket.socket:
    """Return a socket that listens; the caller closes it.

    Raises:
        EndpointError: the address is in use, or not permitted.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # With TCP named, asyncio sends small pieces at once instead of 40 ms later.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # Permits leftover connections on the port, but not another listener.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(BACKLOG)
    except OSError as error:
        opened.close()
        raise _explain(error, address) from error
    return opened


def find_address(listener: socket.socket) -> Address:
    """Return the address of a listening socket."""
    host, port, *_ = listener.getsockname()
    return Address(host, port)


def _explain(error: OSError, address: Address) -> EndpointError:
    if error.errno == errno.EADDRINUSE:
        return EndpointError(f"{address} is in use", hint="stop what uses the port, or choose another")
    if error.errno in (errno.EACCES, errno.EPERM):
        return EndpointError(f"cannot listen on {address}: not permitted", hint="use a port above 1023")
    return EndpointError(f"cannot listen on {address}: {os.strerror(error.errno or 0)}")
