"""Client for threads, the interactive interpreter and gevent.

with rpc.Client("tcp://127.0.0.1:4242") as billing:
    receipt = billing.charge("visa", amount=12)
    for line in billing.tail():
        ...
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, Generic, Self, TypeVar, Unpack, cast, overload

from ztrace.rpc import calls
from ztrace.rpc.blocking.background import Background
from ztrace.rpc.blocking.connections import Connections
from ztrace.rpc.hooks import Hook
from ztrace.rpc.interfaces import Interface
from ztrace.rpc.remote import Remote
from ztrace.rpc.settings import HEARTBEAT_S, TIMEOUT_S, Named, Settings, read_settings

T = TypeVar("T")


class Client:
    """Client whose calls block; each of its public attributes is a remote method, `call` calls any by name.

    Threads and greenlets may share it. `ztrace.rpc.close` closes it, as the end of a ``with`` does.

    Args:
        endpoints: of servers with the same service; calls go to the one that is expected to answer first.
        interface: class with the methods of the service, which type checkers then know; see `Interface`.
        timeout_s: seconds that a call waits for its answer, and a stream for its end; None is unlimited.
        heartbeat_s: period of heartbeats, the same as the servers'; None sends none.
        raises: classes of exceptions that are raised as themselves, all others as `RemoteError`.
        key: line that ``ztrace keys add`` has printed, for servers with keys.
        before_call: called with the `OutgoingCall`, which it may change; an exception refuses the call.
        after_call: called with the `OutgoingCall` and its exception or None.

    Raises:
        EndpointError: an address is invalid.
        SettingsError: there is no address, or the key is damaged.
    """

    _connections: Connections
    _background: Background
    _interface: Interface | None
    _settings: Settings
    _process_id: int

    @overload
    def __new__(
        cls, *endpoints: str, interface: Callable[..., T], **named: Unpack[Named]
    ) -> "TypedClient[T]": ...

    @overload
    def __new__(cls, *endpoints: str, interface: None = ..., **named: Unpack[Named]) -> Self: ...

    def __new__(
        cls,
        *endpoints: str,
        interface: Callable[..., object] | None = None,
        timeout_s: float | None = TIMEOUT_S,
        heartbeat_s: float | None = HEARTBEAT_S,
        raises: Iterable[type[BaseException]] = (),
        key: str | None = None,
        before_call: Hook | None = None,
        after_call: Hook | None = None,
    ) -> Any:
        """Open the connections, in the background."""
        client = object.__new__(cls if interface is None else TypedClient)
        client._interface = None if interface is None else Interface(interface)
        client._settings = read_settings(
            endpoints, timeout_s, heartbeat_s, raises, key, before_call, after_call
        )
        client._open()
        return client

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method by its name; return its answer, or an iterator of a stream's items.

        Raises:
            RpcError: the method has raised, or there is no answer.
            TypeError: the arguments cannot be sent.
        """
        if self._process_id != os.getpid():
            self._open()
        if calls.hedge_after.get() is not None:
            return self._background.submit(name, args, kwargs).result()
        return self._connections.invoke(name, args, kwargs)

    def submit(self, name: str, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Start a call, and return the future of its answer, which can be cancelled.

        The calls run in a thread of the client's own, with connections of its own.
        """
        if self._process_id != os.getpid():
            self._open()
        return self._background.submit(name, args, kwargs)

    def __getattr__(self, name: str) -> Remote:
        if name.startswith("_"):
            raise AttributeError(name)
        interface = self._interface
        if interface is not None:
            interface.check(name)
        return Remote(self, name, self.call, interface)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._close()

    def _open(self) -> None:
        """Open the connections; a forked child opens its own, and leaves its parent's alone."""
        self._process_id = os.getpid()
        self._background = Background(self._settings)
        self._connections = Connections(*self._settings)

    def _close(self) -> None:
        if self._process_id != os.getpid():
            return
        self._background.close()
        self._connections.close()


class TypedClient(Client, Generic[T]):
    """Client that type checkers take, within its ``with`` block, for the class it was given as interface."""

    def __enter__(self) -> T:  # type: ignore[override]
        return cast(T, self)
