"""Peers that call objects of a manager."""

import threading
from collections.abc import Callable
from multiprocessing import managers
from multiprocessing.managers import BaseManager
from queue import Queue
from typing import Any

import ztrace
from tests.ztrace.middleware.peers import attempt

KEY = b"managing"


class Shop:
    """The shared object."""

    shelf = 3

    def add(self, a: int, b: int) -> int:
        """Return the sum, within a span."""
        with ztrace.span("inner"):
            return a + b

    def echo(self, data: bytes) -> bytes:
        """Return the bytes."""
        return data

    def refuse(self, article: str) -> None:
        """Raise an exception."""
        raise KeyError(article)

    def refuse_oddly(self) -> None:
        """Raise an exception that cannot be sent."""
        raise Odd(threading.Lock())

    def make_lock(self) -> Any:
        """Return a result that cannot be sent."""
        return threading.Lock()

    def leave(self) -> None:
        """End the thread that serves the client."""
        raise SystemExit(0)

    def basket(self) -> "Basket":
        """Return an object that stays at the server."""
        return Basket()


class Odd(Exception):
    """An exception that cannot be sent."""


class Basket:
    """Object that the server keeps for a client."""

    def weigh(self) -> int:
        """Return a number."""
        return 5


class Manager(BaseManager):
    """Manager of the shop."""


SHOP, NAMES = Shop(), Shop()
QUEUE: "Queue[int]" = Queue()
Manager.register("Basket")
Manager.register("shop", lambda: SHOP, method_to_typeid={"basket": "Basket"})
Manager.register("names", lambda: NAMES, vars(managers)["NamespaceProxy"])
Manager.register("queue", lambda: QUEUE, exposed=("put", "get"))


def serve(tell: Callable[[object], None]) -> None:
    """Serve the manager's objects."""
    server = Manager(("127.0.0.1", 0), KEY).get_server()
    address: Any = server.address
    tell(address[1])
    server.serve_forever()


def call(address: str) -> None:
    """Call them in every way."""
    manager: Any = Manager(("127.0.0.1", int(address)), KEY)
    manager.connect()
    shop, names, queue = manager.shop(), manager.names(), manager.queue()
    attempt("add", lambda: shop.add(2, b=3))
    attempt("large", lambda: len(shop.echo(bytes(1 << 20))))
    attempt("error", lambda: shop.refuse("piano"))
    attempt("odd error", lambda: shop.refuse_oddly())
    attempt("unpicklable result", lambda: shop.make_lock())
    attempt("unpicklable argument", lambda: shop.add(threading.Lock(), 1))
    attempt("unknown", lambda: shop._callmethod("steal"))
    attempt("proxy", lambda: shop.basket().weigh())
    attempt("attribute", lambda: names.shelf)
    attempt("queue", lambda: (queue.put(4), queue.get()))
    attempt("empty", lambda: queue.get(False))
    attempt("value", lambda: type(shop._getvalue()).__name__)
    attempt("text", lambda: str(queue).partition(" at ")[0])
    attempt("lost", lambda: shop.leave())
