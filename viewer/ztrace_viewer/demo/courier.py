"""Courier of the shop: an ordinary class, served by `ztrace.rpc`."""

import asyncio
import threading
from collections.abc import Callable

from ztrace import rpc


class Courier:
    """Service that delivers parcels."""

    async def book(self, receipt: str, parcels: int = 1) -> str:
        """Book the delivery of an order, and return the number of the delivery."""
        await asyncio.sleep(0.002)  # Stands for a database.
        return f"{receipt}/{parcels}"


def serve(endpoint: str, ready: Callable[[Callable[[], None]], None]) -> None:
    """Serve at an endpoint.

    Args:
        endpoint: where clients connect.
        ready: called when clients can connect, with a function that ends the service from another thread.
    """
    ended = threading.Event()
    with rpc.Server(Courier, endpoint):
        ready(ended.set)
        ended.wait()
