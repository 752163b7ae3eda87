"""One process of a tree made by `ztrace.otel.instrument`: ``python -m tests.ztrace.otel.instrumented ROLE``.

    shopper ─requests─▶ web, a WSGI application ─zerorpc─▶ stock ─▶ sqlite3

Each process prints its address; the shopper reads one path per line, requests the path, and prints the trace
id and the outcome. The paths are ``/order`` and ``/refuse``, whose query fails in stock.
"""

import sqlite3
import sys
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import requests
import zerorpc
from opentelemetry.instrumentation import dbapi
from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]
    BaseInstrumentor,
)
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware

import ztrace
import ztrace.otel

QUERIES = {"order": "SELECT 3", "refuse": "SELECT shelf FROM nowhere"}


class SQLite3Instrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Instrumentation of sqlite3, as OpenTelemetry's own, which is not released with the other packages.

    The test registers it by an entry point, unless OpenTelemetry's is installed.
    """

    def instrumentation_dependencies(self) -> list[str]:
        """Return no dependency: sqlite3 is part of Python."""
        return []

    def _instrument(self, **kwargs: Any) -> None:
        connect: Any = sqlite3
        dbapi.wrap_connect(__name__, connect, "connect", "sqlite")

    def _uninstrument(self, **kwargs: Any) -> None:
        connect: Any = sqlite3
        dbapi.unwrap_connect(connect, "connect")


class Stock:
    """Stock in a database."""

    def find(self, path: str) -> int:
        """Return the result of the path's query."""
        db = sqlite3.connect(":memory:")
        try:
            return int(db.cursor().execute(QUERIES[path]).fetchone()[0])
        finally:
            db.close()


class Quiet(WSGIRequestHandler):
    """Handler without a request log."""

    def log_message(self, format: str, *args: Any) -> None:
        """Discard the request log."""


def serve_web(stock: str) -> None:
    """Serve WSGI requests, each with a call of stock; an exception is answered with status 500."""
    client = zerorpc.Client(heartbeat=None)
    client.connect(stock)

    def application(environ: Any, start_response: Any) -> list[bytes]:
        try:
            status, body = "200 OK", str(client.find(environ["PATH_INFO"][1:])).encode()
        except zerorpc.RemoteError as error:
            status, body = "500 Internal Server Error", error.name.encode()
        start_response(status, [("Content-Length", str(len(body)))])
        return [body]

    with make_server("127.0.0.1", 0, OpenTelemetryMiddleware(application), handler_class=Quiet) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


def serve_stock() -> None:
    """Serve zerorpc calls."""
    server = zerorpc.Server(Stock(), heartbeat=None)
    server.bind("tcp://127.0.0.1:0")
    print(server._events._socket.getsockopt_string(zerorpc.zmq.LAST_ENDPOINT), flush=True)
    server.run()


def shop(web: str) -> None:
    """Request the path of each input line, and print the trace id and the outcome."""
    print("ready", flush=True)
    for line in sys.stdin:
        span = ztrace.span("buy")
        try:
            with span:
                response = requests.get(f"{web}{line.strip()}", timeout=10)
                response.raise_for_status()
                said = response.text
        except requests.HTTPError as error:
            said = str(error).partition(" ")[0]
        print(span.trace_id.hex(), said, flush=True)


def main(role: str, upstream: str = "") -> None:
    """Run one role."""
    ztrace.configure(role)
    ztrace.instrument("zerorpc")
    ztrace.otel.instrument()
    ztrace.otel.instrument()
    if role == "stock":
        serve_stock()
    elif role == "web":
        serve_web(upstream)
    else:
        shop(upstream)


if __name__ == "__main__":
    main(*sys.argv[1:])
