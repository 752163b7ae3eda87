"""Addresses that OTLP is received at: HOST:PORT on this machine, and the sockets that listen there."""

import errno
import os
import re
import socket
from typing import NamedTuple

from ztrace.errors import EndpointError

#: Connections that wait to be accepted: a burst of a machine's services.
BACKLOG = 128
LOOPBACK = re.compile(r"127\.\d{1,3}\.\d{1,3}\.\d{1,3}|localhost|\[::1\]")


class Address(NamedTuple):
    """Where to listen; the host of IPv6 in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def parse_address(text: str, option: str, port: int) -> Address:
    """Read HOST:PORT.

    Args:
        option: by which it is given, for the errors.
        port: that would be an example.

    Raises:
        EndpointError: it is none, or other machines could reach it.
    """
    host, separator, number = text.removeprefix("http://").removesuffix("/").rpartition(":")
    if not separator or not host or not (number.isascii() and number.isdigit() and int(number) < 1 << 16):
        raise EndpointError(f"{text!r} is not HOST:PORT", hint=f"use {option} 127.0.0.1:{port}")
    if not LOOPBACK.fullmatch(host):
        raise EndpointError(
            f"{option} {text} could be reached from other machines, and OTLP has no keys to keep others out",
            hint=f"listen on 127.0.0.1:{port} and put a proxy with TLS and a password before it",
        )
    return Address(host, int(number))


def open_socket(address: Address) -> socket.socket:
    """Return a socket that listens there.

    Raises:
        EndpointError: somebody else does, or it is not permitted.
    """
    family = socket.AF_INET6 if "[" in address.host else socket.AF_INET
    # Named as TCP: only then asyncio lets small pieces go at once, and not 40 ms later.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # Only what is left of connections may be there: somebody who listens keeps the port.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((address.host.strip("[]"), address.port))
        opened.listen(BACKLOG)
    except OSError as error:
        opened.close()
        raise _explain(error, address) from error
    return opened


def _explain(error: OSError, address: Address) -> EndpointError:
    if error.errno == errno.EADDRINUSE:
        return EndpointError(f"{address} is in use", hint="stop what uses the port, or choose another")
    if error.errno in (errno.EACCES, errno.EPERM):
        return EndpointError(f"cannot listen on {address}: not permitted", hint="use a port above 1023")
    return EndpointError(f"cannot listen on {address}: {os.strerror(error.errno or 0)}")
