"""Where OTLP is listened for, and what listens there.

One idea: the servers have threads of their own and share nothing with the collector's loop but the inbox. At
the end the loop goes on until what they have taken is stored and answered.
"""

import errno
import os
import re
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from ztrace.errors import EndpointError, SettingsError
from ztrace_collector.receiving.inbox import Inbox

#: Connections that wait to be accepted: a burst of a machine's services.
BACKLOG = 128
LOOPBACK = re.compile(r"127\.\d{1,3}\.\d{1,3}\.\d{1,3}|localhost|\[::1\]")


class Address(NamedTuple):
    """Where to listen; the host of IPv6 in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a collector listens for OTLP.

    Attributes:
        http: for HTTP; None: not at all.
        grpc: for gRPC; None: not at all.
        http_is_default: nobody asked for HTTP: what keeps it from being there is a line, not an error.
    """

    http: Address | None = None
    grpc: Address | None = None
    http_is_default: bool = False


class Server(Protocol):
    """What listens; `Servers` starts and ends it."""

    address: Address

    def stop(self) -> None:
        """Accept nothing more, and return at once."""

    def is_done(self) -> bool:
        """Tell whether all that was accepted is answered."""

    def close(self) -> None:
        """End, whatever is left."""


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


class Servers:
    """What listens for OTLP, from `__enter__` to `__exit__`: a collector's companion.

    Attributes:
        http: where HTTP is taken, None if it is not.
        grpc: where gRPC is.
    """

    def __init__(self, listening: Listening, inbox: Inbox, say: Callable[[str], None]) -> None:
        """Prepare; nothing is opened yet.

        Args:
            listening: where to listen.
            inbox: where spans go.
            say: told of what goes wrong; called in any thread.
        """
        self.http: Address | None = None
        self.grpc: Address | None = None
        self._listening = listening
        self._inbox = inbox
        self._say = say
        self._servers: list[Server] = []

    def __enter__(self) -> Self:
        """Listen.

        Raises:
            EndpointError: an address that was asked for is in use, or not permitted.
            SettingsError: a library is missing.
        """
        with ExitStack() as stack:
            stack.callback(self._close)
            if self._listening.http is not None:
                self._start_http(self._listening.http)
            if self._listening.grpc is not None:
                self._start_grpc(self._listening.grpc)
            stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def stop(self) -> None:
        """Accept nothing more, and return at once."""
        for server in self._servers:
            server.stop()

    def is_done(self) -> bool:
        """Tell whether all that was accepted is answered."""
        return all(server.is_done() for server in self._servers)

    def places(self) -> list[str]:
        """Return where it listens, as the option ``--otlp`` of another collector is told."""
        http = [] if self.http is None else [f"http://{self.http}"]
        return http + ([] if self.grpc is None else [f"grpc://{self.grpc}"])

    def _start_http(self, address: Address) -> None:
        try:
            try:
                from ztrace_collector.otlp.listening.http import HttpServer
                from ztrace_collector.otlp.listening.intake import Intake
            except ModuleNotFoundError as error:
                raise _missing(error, "collector") from error
            intake = Intake(self._inbox, self._say)
            server = HttpServer(open_socket(address), intake)
        except (EndpointError, SettingsError) as error:
            if not self._listening.http_is_default:
                raise
            self._say(f"OTLP is not taken: {error}")
        else:
            self._servers.append(server)
            self.http = server.address

    def _start_grpc(self, address: Address) -> None:
        try:
            from ztrace_collector.otlp.listening.grpc import GrpcServer
            from ztrace_collector.otlp.listening.intake import Intake
        except ModuleNotFoundError as error:
            raise _missing(error, "grpc") from error
        server = GrpcServer(address, Intake(self._inbox, self._say))
        self._servers.append(server)
        self.grpc = server.address

    def _close(self) -> None:
        while self._servers:
            self._servers.pop().close()


def _missing(error: ModuleNotFoundError, extra: str) -> SettingsError:
    module = (error.name or "").partition(".")[0]
    return SettingsError(f"{module} is not installed", hint=f"pip install 'ztrace[{extra}]'")


def _explain(error: OSError, address: Address) -> EndpointError:
    if error.errno == errno.EADDRINUSE:
        return EndpointError(f"{address} is in use", hint="stop what uses the port, or choose another")
    if error.errno in (errno.EACCES, errno.EPERM):
        return EndpointError(f"cannot listen on {address}: not permitted", hint="use a port above 1023")
    return EndpointError(f"cannot listen on {address}: {os.strerror(error.errno or 0)}")
