"""Client for asyncio.

async with rpc.AsyncClient("tcp://127.0.0.1:4242") as billing:
    receipt = await billing.charge("visa", amount=12)
    async for line in billing.tail():
        ...
"""

from collections.abc import AsyncIterator, Callable, Generator, Iterable
from typing import Any, Generic, Self, TypeVar, Unpack, cast, overload

from ztrace.rpc import calls
from ztrace.rpc.aio.connections import AsyncStream, Connections
from ztrace.rpc.aio.hedging import invoke
from ztrace.rpc.hooks import Hook
from ztrace.rpc.interfaces import Interface
from ztrace.rpc.remote import Remote
from ztrace.rpc.settings import HEARTBEAT_S, TIMEOUT_S, Named, Settings, read_settings

T = TypeVar("T")


class Invocation:
    """Call that starts when it is awaited, for its answer, or read by ``async for``, for a stream."""

    __slots__ = ("_args", "_connections", "_kwargs", "_name")

    def __init__(
        self, connections: Connections, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._connections, self._name, self._args, self._kwargs = connections, name, args, kwargs

    def __await__(self) -> Generator[Any, Any, Any]:
        if calls.hedge_after.get() is not None:
            return invoke(self._connections, self._name, self._args, self._kwargs).__await__()
        return self._connections.invoke(self._name, self._args, self._kwargs).__await__()

    async def __aiter__(self) -> AsyncIterator[Any]:
        result = await self
        if isinstance(result, AsyncStream):
            try:
                async for item in result:
                    yield item
            finally:
                await result.aclose()
        elif result is not None:  # An empty stream of zerorpc-node is a call that returns nil.
            raise TypeError(f"{self._name} is no stream: await it")


class AsyncClient:
    """Client for asyncio; each of its public attributes is a remote method, `call` calls any by name.

    Connections open with the first call, in the event loop that runs then. `ztrace.rpc.close` closes them, as
    the end of an ``async with`` does.

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
        SettingsError: there is no address, or the key is damaged.
    """

    _settings: Settings
    _connections: Connections | None
    _interface: Interface | None

    @overload
    def __new__(
        cls, *endpoints: str, interface: Callable[..., T], **named: Unpack[Named]
    ) -> "TypedAsyncClient[T]": ...

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
        """Keep the settings for the first call."""
        client = object.__new__(cls if interface is None else TypedAsyncClient)
        client._interface = None if interface is None else Interface(interface)
        client._settings = read_settings(
            endpoints, timeout_s, heartbeat_s, raises, key, before_call, after_call
        )
        client._connections = None
        return client

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Invocation:
        """Call a method by its name; await the result for an answer, or read it by ``async for``."""
        return Invocation(self._connections or self._open(), name, args, kwargs)

    def __getattr__(self, name: str) -> Remote:
        if name.startswith("_"):
            raise AttributeError(name)
        interface = self._interface
        if interface is not None:
            interface.check(name)
        return Remote(self, name, self.call, interface)

    async def __aenter__(self) -> Self:
        if self._connections is None:
            self._open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._close()

    def _open(self) -> Connections:
        self._connections = Connections(*self._settings)
        return self._connections

    def _close(self) -> None:
        if self._connections is not None:
            self._connections.close()
            self._connections = None


class TypedAsyncClient(AsyncClient, Generic[T]):
    """Client that type checkers take, within its ``async with`` block, for the class given as interface."""

    async def __aenter__(self) -> T:  # type: ignore[override]
        if self._connections is None:
            self._open()
        return cast(T, self)
