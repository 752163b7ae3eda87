"""Peers that call each other by xmlrpc."""

import http.client
import socket
from collections.abc import Callable
from typing import Any
from xmlrpc.client import Fault, MultiCall, ServerProxy, Transport
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

import ztrace
from tests.ztrace.middleware.peers import attempt


class Shop:
    """The instance that is served."""

    def add(self, a: int, b: int) -> int:
        """Return the sum, within a span."""
        with ztrace.span("inner"):
            return a + b

    def refuse(self, article: str) -> None:
        """Raise an exception."""
        raise KeyError(article)

    def fault(self) -> None:
        """Raise a fault."""
        raise Fault(42, "sold out")

    def make_set(self) -> Any:
        """Return a result that cannot be written."""
        return {1}

    def large(self) -> str:
        """Return a text that is compressed."""
        return "x" * 5000


class Handler(SimpleXMLRPCRequestHandler):
    """Handler with a header and a dispatcher of its own."""

    rpc_paths = ("/",)
    protocol_version = "HTTP/1.1"

    def end_headers(self) -> None:
        """Add a header."""
        self.send_header("X-Shop", "1")
        super().end_headers()

    def _dispatch(self, method: str, params: Any) -> Any:
        server: Any = self.server
        return "handled" if method == "own" else server._dispatch(method, params)


class Strict(http.client.HTTPConnection):
    """Connection that sends only headers which were given to its own method."""

    def putheader(self, header: str | bytes, *values: Any) -> None:
        """Take note of a header."""
        self.__dict__.setdefault("given", set()).add(header if isinstance(header, str) else header.decode())
        super().putheader(header, *values)

    def send(self, data: Any) -> None:
        """Send the headers, if each was given, and then the body."""
        head, end, _ = data.partition(b"\r\n\r\n")
        for line in head.decode("latin-1").split("\r\n")[1:] if end else ():
            if line.partition(":")[0] not in self.__dict__["given"]:
                raise AssertionError(line)
        super().send(data)


class Plain(Transport):
    """Transport with headers and connections of its own."""

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        """Connect by the strict class, once."""
        connection = Strict(host)
        self._connection = host, connection
        return connection

    def send_headers(self, connection: http.client.HTTPConnection, headers: Any) -> None:
        """Send the headers, and one more."""
        super().send_headers(connection, [*headers, ("X-Customer", "1")])


def serve(tell: Callable[[object], None]) -> None:
    """Serve the shop."""
    with SimpleXMLRPCServer(("127.0.0.1", 0), Handler, logRequests=False) as server:
        server.register_instance(Shop())
        server.register_introspection_functions()
        server.register_multicall_functions()
        tell(server.server_address[1])
        server.serve_forever()


def call(address: str) -> None:
    """Call it in every way."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    with ServerProxy(f"http://user:word@127.0.0.1:{address}/") as shop:
        attempt("add", lambda: shop.add(2, 3))
        attempt("error", lambda: shop.refuse("piano"))
        attempt("fault", lambda: shop.fault())
        attempt("unwritable result", lambda: shop.make_set())
        unwritable: Any = {1}
        attempt("unwritable argument", lambda: shop.add(unwritable, 2))
        attempt("unknown", lambda: shop.steal())
        attempt("introspection", lambda: shop.system.listMethods())
        attempt("large", lambda: len(str(shop.large())))
        attempt("own dispatcher", lambda: shop.own())

        def multicall() -> Any:
            calls: Any = MultiCall(shop)
            calls.add(1, 2)
            calls.refuse("lamp")
            calls.add(3, 4)
            return calls

        attempt("multicall", lambda: (multicall()()[0], multicall()()[2]))
        attempt("multicall error", lambda: list(multicall()()))
        attempt("bare multicall", lambda: shop.system.multicall([{"methodName": "refuse", "params": [1]}]))
    with ServerProxy(f"http://127.0.0.1:{address}/", Plain()) as shop:
        attempt("own transport", lambda: shop.add(4, 5))
    with ServerProxy(f"http://127.0.0.1:{free}/") as shop:
        attempt("refused", lambda: shop.add(4, 5))
