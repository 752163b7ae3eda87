"""Network addresses: the defaults, their parsing, and the one rule for what is loopback.

`is_loopback` decides for the agent, the collector and the viewer whether other machines can reach an address.
"""

import os
from typing import NamedTuple

from ztrace.errors import quote

#: The collector's endpoint for publishers, which `ztrace up` binds and `ztrace.configure` connects to.
DEFAULT_ENDPOINT = "tcp://127.0.0.1:4710"
#: Address of the page and of Jaeger's query API.
DEFAULT_WEB = "127.0.0.1:4711"
#: OTLP's registered ports, to which every OpenTelemetry SDK sends by default.
DEFAULT_OTLP_HTTP, DEFAULT_OTLP_GRPC = "127.0.0.1:4318", "127.0.0.1:4317"

#: Bytes of a Unix socket's path on Linux, without the closing zero.
MAX_IPC_PATH = 107
_PORTS = range(1 << 16)


class Address(NamedTuple):
    """A host, without the brackets of IPv6, and a port; port 0 takes a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return the address as a URL spells it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Parse ``HOST:PORT`` or ``[IPV6]:PORT``.

    Raises:
        ValueError: the text is not an address.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host[:1] == "[" and host[-1:] == "]"
    if bracketed:
        host = host[1:-1]
    if not colon or not host or bracketed != (":" in host):
        raise ValueError(f"{quote(text)} is not HOST:PORT")
    return Address(host, parse_port(port))


def parse_port(text: str) -> int:
    """Parse a decimal port, 0 to 65535.

    Raises:
        ValueError: the text is not a port.
    """
    # `int` also takes signs, spaces, underscores and the digits of other scripts.
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or int(text) not in _PORTS:
        raise ValueError(f"{quote(text)} is not a port")
    return int(text)


def is_loopback(host: str) -> bool:
    """Return whether a host is reachable from this machine alone.

    Args:
        host: ``localhost`` or an IP address, with or without brackets; any other name is not loopback, since
            its resolution can change.
    """
    import ipaddress  # Takes as long to import as half of the agent.

    name = host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host
    if name.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool(address.is_loopback or (mapped is not None and mapped.is_loopback))


def can_connect(endpoint: object) -> bool:
    """Return whether ZeroMQ would accept an endpoint to connect to: ``tcp://HOST:PORT`` or ``ipc://PATH``."""
    if not isinstance(endpoint, str):
        return False
    transport, _, rest = endpoint.partition("://")
    if transport == "ipc":
        return 0 < len(os.fsencode(rest)) <= MAX_IPC_PATH
    try:
        return transport == "tcp" and parse_address(rest).port > 0
    except ValueError:
        return False
