"""Listeners for OTLP, and the servers behind them.

One idea: the servers have their own threads and share only the inbox with the collector's loop. At the end,
the loop continues until everything they have accepted is stored and answered.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol, Self

from ztrace.addresses import Address
from ztrace.errors import EndpointError, SettingsError
from ztrace_collector.otlp.listening.addresses import open_socket
from ztrace_collector.receiving.inbox import Inbox


@dataclass(frozen=True, slots=True)
class Listening:
    """Addresses at which a collector listens for OTLP.

    Attributes:
        http: address for HTTP, None for no server.
        grpc: address for gRPC, None for no server.
        http_is_default: the HTTP address is the default, so a failure to listen is a warning and not an
            error.
    """

    http: Address | None = None
    grpc: Address | None = None
    http_is_default: bool = False


class Server(Protocol):
    """Server that `Servers` starts and stops."""

    address: Address

    def stop(self) -> None:
        """Stop accepting requests, without waiting."""
        ...

    def is_done(self) -> bool:
        """Return whether all accepted requests are answered."""
        ...

    def close(self) -> None:
        """Stop the server with whatever is left."""
        ...


class Servers:
    """Servers for OTLP, a collector's companion, running from `__enter__` to `__exit__`.

    Attributes:
        http: address for HTTP, None for no server.
        grpc: address for gRPC, None for no server.
    """

    def __init__(self, listening: Listening, inbox: Inbox, say: Callable[[str], None]) -> None:
        """Store the settings; nothing is opened yet.

        Args:
            listening: the addresses.
            inbox: accepts the spans.
            say: prints a line for the user; thread-safe.
        """
        self.http: Address | None = None
        self.grpc: Address | None = None
        self._listening = listening
        self._inbox = inbox
        self._say = say
        self._servers: list[Server] = []

    def __enter__(self) -> Self:
        """Start listening.

        Raises:
            EndpointError: a requested address is in use, or not permitted.
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

    def __exit__(self, *_: object) -> None:
        self._close()

    def stop(self) -> None:
        """Stop accepting requests, without waiting."""
        for server in self._servers:
            server.stop()

    def is_done(self) -> bool:
        """Return whether all accepted requests are answered."""
        return all(server.is_done() for server in self._servers)

    def places(self) -> list[str]:
        """Return the addresses in the form of another collector's ``--otlp``."""
        http = [] if self.http is None else [f"http://{self.http}"]
        return http + ([] if self.grpc is None else [f"grpc://{self.grpc}"])

    def _start_http(self, address: Address) -> None:
        try:
            try:
                from ztrace_collector.otlp.listening.http import HttpServer
                from ztrace_collector.otlp.listening.intake import Intake
            except ModuleNotFoundError as error:
                raise _missing(error, "collector") from error
            intake = Intake(self._inbox)
            server = HttpServer(open_socket(address), intake)
        except (EndpointError, SettingsError) as error:
            if not self._listening.http_is_default:
                raise
            self._say(f"OTLP is not accepted: {error}")
        else:
            self._servers.append(server)
            self.http = server.address

    def _start_grpc(self, address: Address) -> None:
        try:
            from ztrace_collector.otlp.listening.grpc import GrpcServer
            from ztrace_collector.otlp.listening.intake import Intake
        except ModuleNotFoundError as error:
            raise _missing(error, "grpc") from error
        server = GrpcServer(address, Intake(self._inbox))
        self._servers.append(server)
        self.grpc = server.address

    def _close(self) -> None:
        while self._servers:
            self._servers.pop().close()


def _missing(error: ModuleNotFoundError, extra: str) -> SettingsError:
    module = (error.name or "").partition(".")[0]
    return SettingsError(f"{module} is not installed", hint=f"pip install 'ztrace[{extra}]'")
