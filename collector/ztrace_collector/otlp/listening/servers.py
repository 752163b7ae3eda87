"""Where OTLP is listened for, and what listens there.

One idea: the servers have threads of their own and share nothing with the collector's loop but the inbox. At
the end the loop goes on until what they have taken is stored and answered.
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
        ...

    def is_done(self) -> bool:
        """Tell whether all that was accepted is answered."""
        ...

    def close(self) -> None:
        """End, whatever is left."""
        ...


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

    def __exit__(self, *_: object) -> None:
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
            intake = Intake(self._inbox)
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
        server = GrpcServer(address, Intake(self._inbox))
        self._servers.append(server)
        self.grpc = server.address

    def _close(self) -> None:
        while self._servers:
            self._servers.pop().close()


def _missing(error: ModuleNotFoundError, extra: str) -> SettingsError:
    module = (error.name or "").partition(".")[0]
    return SettingsError(f"{module} is not installed", hint=f"pip install 'ztrace[{extra}]'")
