"""Ports for tests that name one before a program binds it, or at which none listens."""

import socket
from contextlib import suppress
from pathlib import Path
from random import SystemRandom

#: Least and greatest port that the system gives away by itself, to clients and for port 0.
_GIVEN = Path("/proc/sys/net/ipv4/ip_local_port_range")


def find_port() -> int:
    """Return a free port that the system gives to no other program in the meantime."""
    low, high = map(int, _GIVEN.read_text().split())
    # Where the system gives away all ports, any has to do.
    ports = [port for port in range(10_000, 65_536) if not low <= port <= high] or range(10_000, 65_536)
    while True:
        port = SystemRandom().choice(ports)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
