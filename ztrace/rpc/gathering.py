"""Calls to all servers of a client."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from ztrace.rpc.aio.client import AsyncClient
from ztrace.rpc.blocking.client import Client
from ztrace.rpc.remote import Remote


def gather(method: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Call a method of every server of a client, at once: ``rpc.gather(billing.status)``.

    Args:
        method: attribute of a client.
        args: positional arguments.
        kwargs: keyword arguments.

    Returns:
        The result or the exception of each server, by its address; of an asynchronous client, an awaitable.
    """
    if not isinstance(method, Remote):
        raise TypeError("gather takes a method of a client, as billing.status")
    client = method.client
    if isinstance(client, AsyncClient):
        return _gather_async(client, method.name, args, kwargs)
    assert isinstance(client, Client)
    return _gather(client, method.name, args, kwargs)


def _gather(client: Client, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    connections = client._connections
    begun = {each.endpoint: connections.begin(name, args, kwargs, each) for each in connections.routes}
    results: dict[str, Any] = {}
    for endpoint, call in begun.items():
        try:
            results[endpoint] = connections.finish(call)
        except Exception as error:
            results[endpoint] = error
    return results


def _gather_async(
    client: AsyncClient, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Awaitable[dict[str, Any]]:
    connections = client._connections or client._open()
    routes = connections.pool.routes

    async def run() -> dict[str, Any]:
        calls = (connections.invoke(name, args, kwargs, each) for each in routes)
        results = await asyncio.gather(*calls, return_exceptions=True)
        return dict(zip((each.endpoint for each in routes), results, strict=True))

    return run()
