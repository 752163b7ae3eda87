"""Where it is served.

One idea: on this machine only. Whoever wants more puts a proxy with TLS before it, and is told so.
"""

import errno
import os
import socket
from ipaddress import ip_address
from typing import NamedTuple

from ztrace.errors import EndpointError

#: Where the page is if nothing else is said.
DEFAULT_LISTEN = "127.0.0.1:4711"
#: Connections that wait to be taken.
_BACKLOG = 64


class Address(NamedTuple):
    """A host and a port; port 0 for one that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as it stands in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, option: str) -> Address:
    """Read HOST:PORT.

    Args:
        text: what was given.
        option: by which option.

    Raises:
        EndpointError: it is none, or other machines could reach it.
    """
    host, colon, digits = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host[:1] == "[" else host
    if not colon or not host or not (digits.isascii() and digits.isdigit()) or int(digits[:6]) > 65_535:
        raise EndpointError(f"{text!r} is not HOST:PORT", hint=f"write it like {option} {DEFAULT_LISTEN}")
    try:
        loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise EndpointError(
            f"{option} {text} can be reached from other machines",
            hint=f"listen on {DEFAULT_LISTEN} and put a proxy with TLS before it",
        )
    return Address("127.0.0.1" if host == "localhost" else host, int(digits))


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
