"""Loyalty programme of the shop: a service on rpyc, with a thread for each of its clients."""

import time
from collections.abc import Callable

import rpyc
from rpyc.utils.server import ThreadedServer


class Loyalty(rpyc.Service):  # type: ignore[misc]
    """Service that counts customers' points."""

    def exposed_add_points(self, customer: str) -> int:
        """Add the points of an order, and return how many the customer has."""
        time.sleep(0.003)  # Stands for a database.
        return len(customer)


def serve(path: str, ready: Callable[[Callable[[], None]], None]) -> None:
    """Serve at a path of the file system.

    Args:
        path: of the socket.
        ready: called when clients can connect, with a function that ends the service from another thread.
    """
    server = ThreadedServer(Loyalty, socket_path=path)
    ready(server.close)
    server.start()
