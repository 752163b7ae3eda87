"""Hedged calls: a second server is asked where the first takes long, and the first answer counts."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from ztrace.rpc import calls
from ztrace.rpc.aio.connections import Connections
from ztrace.rpc.core.pool import Route


async def invoke(connections: Connections, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call a method, within `ztrace.rpc.hedge` on a second server too if there is no answer in time.

    Raises:
        RpcError: the method has raised, or there is no answer.
        TypeError: the arguments cannot be sent.
    """
    after_s = calls.hedge_after.get()
    if after_s is None or len(connections.pool.routes) < 2:
        return await connections.invoke(name, args, kwargs)
    used: list[Route] = []
    first = asyncio.ensure_future(connections.invoke(name, args, kwargs, used=used))
    running = {first}
    try:
        done, running = await asyncio.wait(running, timeout=after_s)
        if not done:
            running.add(asyncio.ensure_future(connections.invoke(name, args, kwargs, used=used)))
        while running and all(each.exception() is not None for each in done):
            ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            done |= ended
        return next((each for each in done if each.exception() is None), first).result()
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
