"""Client for threads, the interactive interpreter and gevent.

with rpc.Client("tcp://127.0.0.1:4242") as billing:
    receipt = billing.charge("visa", amount=12)
    for line in billing.tail():
        ...
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, Self

from ztrace.enrolment import Enrolment
from ztrace.errors import SettingsError
from ztrace.rpc import failures
from ztrace.rpc.blocking.connections import Connections

#: Seconds that a call waits for its answer.
TIMEOUT_S: Final = 30.0


class Client:
    """Client whose calls block; each of its public attributes is a remote method, `call` calls any by name.

    Threads and greenlets may share it. `ztrace.rpc.close` closes it, as the end of a ``with`` does.

    Args:
        endpoints: of servers with the same service; calls go to the one that is expected to answer first.
        timeout_s: seconds that a call waits for its answer, and a stream for its end; None is unlimited.
        heartbeat_s: period of heartbeats, the same as the servers'; None sends none.
        raises: classes of exceptions that are raised as themselves, all others as `RemoteError`.
        key: line that ``ztrace keys add`` has printed, for servers with keys.

    Raises:
        EndpointError: an address is invalid.
    """

    def __init__(
        self,
        *endpoints: str,
        timeout_s: float | None = TIMEOUT_S,
        heartbeat_s: float | None = 5.0,
        raises: Iterable[type[BaseException]] = (),
        key: str | None = None,
    ) -> None:
        if not endpoints:
            raise SettingsError("a client needs an endpoint", hint="as tcp://127.0.0.1:4242")
        enrolment = None if key is None else Enrolment.parse(key)
        allowed = failures.name_classes(raises)
        self._connections = Connections(endpoints, timeout_s, heartbeat_s, allowed, enrolment)

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method by its name; return its answer, or an iterator of a stream's items.

        Raises:
            RpcError: the method has raised, or there is no answer.
            TypeError: the arguments cannot be sent.
        """
        return self._connections.invoke(name, args, kwargs)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return partial(self.call, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._close()

    def _close(self) -> None:
        self._connections.close()
