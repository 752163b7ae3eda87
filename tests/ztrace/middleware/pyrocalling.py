"""Peers that call each other by Pyro5."""

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from Pyro5.api import BatchProxy, Daemon, Proxy, callback, current_context, expose, oneway
from Pyro5.errors import CommunicationError

import ztrace
from tests.ztrace.middleware.peers import attempt

SERIALIZERS = ("serpent", "json", "marshal", "msgpack")


@expose
class Shop:
    """The object that is served."""

    def __init__(self) -> None:
        self._shelf = 3
        self._noted = threading.Event()

    @property
    def shelf(self) -> int:
        """Return a number."""
        return self._shelf

    @shelf.setter
    def shelf(self, number: int) -> None:
        """Set the number."""
        if number < 0:
            raise ValueError(number)
        self._shelf = number

    def add(self, a: int, b: int) -> int:
        """Return the sum, within a span."""
        with ztrace.span("inner"):
            return a + b

    def refuse(self, article: str) -> None:
        """Raise an exception with an attribute."""
        error = KeyError(article)
        error.shelf = 4  # type: ignore[attr-defined]
        raise error

    def make_lock(self) -> Any:
        """Return a result that cannot be sent."""
        return threading.Lock()

    def annotations(self) -> list[str]:
        """Return the names of the annotations that the method sees, and send one."""
        current_context.response_annotations = {"SHOP": b"open"}
        return sorted(current_context.annotations)

    def count(self, to: int) -> Iterator[int]:
        """Yield numbers, each within a span; fail at the fourth."""
        for number in range(to):
            if number == 3:
                raise LookupError("no more")
            with ztrace.span("step"):
                yield number

    @oneway  # type: ignore[untyped-decorator,unused-ignore]
    def note(self, text: str) -> None:
        """Note a text, for `noted`."""
        self._noted.set()

    def noted(self) -> bool:
        """Return whether a text has been noted."""
        return self._noted.wait(10)

    @callback  # type: ignore[untyped-decorator,unused-ignore]
    def call_back(self) -> None:
        """Raise an exception, which Pyro5 raises in the server's thread as well, since this is a callback."""
        raise LookupError("nobody there")

    def leave(self) -> None:
        """Close the connection in place of an answer."""
        current_context.client.sock.shutdown(socket.SHUT_RDWR)


def serve(tell: Callable[[object], None]) -> None:
    """Serve the shop."""
    daemon = Daemon("127.0.0.1", 0)
    tell(daemon.register(Shop(), "shop"))
    daemon.requestLoop()


def call(address: str) -> None:
    """Call it in every way."""
    for serializer in SERIALIZERS:
        with Proxy(address) as shop:
            shop._pyroSerializer = serializer
            call_simply(shop, serializer)
    with Proxy(address) as shop:
        call_fully(shop)
    with Proxy(address) as shop:
        call_callback(shop)
    attempt("lost daemon", lambda: Proxy("PYRO:shop@127.0.0.1:1").add(1, 2))


def call_simply(shop: Any, name: str) -> None:
    """Make the calls whose results depend on the serializer."""
    attempt(f"{name} add", lambda: shop.add(2, b=3))
    attempt(f"{name} error", lambda: shop.refuse("piano"))
    attempt(f"{name} unsendable", lambda: type(shop.make_lock()))
    attempt(f"{name} stream", lambda: list(shop.count(2)))


def call_fully(shop: Any) -> None:
    """Make the other calls."""

    def get() -> int:
        return int(shop.shelf)

    def set_to(number: int) -> None:
        shop.shelf = number

    attempt("get", get)
    attempt("set", lambda: set_to(5))
    attempt("set error", lambda: set_to(-1))
    attempt("unknown", lambda: shop._pyroInvoke("steal", (), {}))
    attempt("failing stream", lambda: list(shop.count(5)))
    attempt("abandoned stream", lambda: next(shop.count(3)))

    def close() -> None:
        stream = shop.count(3)
        next(stream)
        stream.close()

    attempt("closed stream", close)
    attempt("oneway", lambda: (shop.note("a"), shop.noted()))

    def batch(*articles: str) -> list[Any]:
        calls = BatchProxy(shop)
        calls.add(1, 2)
        for article in articles:
            calls.refuse(article)
        calls.add(3, 4)
        return list(calls())

    attempt("batch", batch)
    attempt("batch error", lambda: batch("lamp"))

    def annotate() -> Any:
        current_context.annotations = {"CUST": b"bob"}
        seen = shop.annotations()
        received = sorted(current_context.response_annotations)
        current_context.annotations = {}
        return seen, received

    attempt("annotations", annotate)
    attempt("lost", lambda: shop.leave())


def call_callback(shop: Any) -> None:
    """Call a callback that fails, which ends the thread of the connection at the server."""

    def is_connected() -> bool:
        try:
            return bool(shop.add(1, 2))
        except CommunicationError:
            return False

    attempt("callback error", lambda: shop.call_back())
    attempt("connected after a callback's error", is_connected)
