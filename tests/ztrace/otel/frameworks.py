"""One process of a tree over HTTP and rpyc: ``python -m tests.ztrace.otel.frameworks ROLE [UPSTREAM]``.

    shopper ─requests, urllib3, httpx or aiohttp─▶ web, in Flask ─rpyc─▶ stock ─▶ sqlite3
            └─▶ api, in Starlette

Each process prints its address; the shopper reads a library and a URL per line, requests the URL, and prints
the trace id and the exception. The role ``plain`` is the shopper without OpenTelemetry.
"""

import asyncio
import sqlite3
import sys
from collections.abc import Callable

import ztrace
import ztrace.otel

QUERIES = {"order": "SELECT 3", "refuse": "SELECT shelf FROM nowhere"}


def serve_stock() -> None:
    """Serve calls of rpyc, each with a query."""
    import rpyc
    from rpyc.utils.server import ThreadedServer

    class Stock(rpyc.Service):  # type: ignore[misc]
        """Stock in a database."""

        def exposed_find(self, path: str) -> int:
            db = sqlite3.connect(":memory:")
            try:
                return int(db.cursor().execute(QUERIES[path]).fetchone()[0])
            finally:
                db.close()

    server = ThreadedServer(Stock, hostname="127.0.0.1")
    print(server.port, flush=True)
    server.start()


def serve_web(stock: str) -> None:
    """Serve HTTP by Flask, which answers exceptions itself."""
    import flask
    import rpyc
    from werkzeug.serving import make_server

    application = flask.Flask("web")

    @application.get("/direct")
    def fail() -> str:
        raise LookupError("no such page")

    @application.get("/handled")
    def handle() -> tuple[str, int]:
        return "busy", 503

    @application.get("/<path>")
    def find(path: str) -> str:
        with rpyc.connect("127.0.0.1", int(stock)) as connection:
            return str(connection.root.find(path))

    server = make_server("127.0.0.1", 0, application, threaded=True)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


def serve_api() -> None:
    """Serve HTTP by Starlette, which answers exceptions itself."""
    import socket

    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    async def fail(_: Request) -> Response:
        raise LookupError("no such page")

    async def fail_within(_: Request) -> Response:
        with ztrace.span("within"):
            raise LookupError("no such page")

    async def handle(_: Request) -> Response:
        return PlainTextResponse("busy", 503)

    application = Starlette(
        routes=[Route("/direct", fail), Route("/within", fail_within), Route("/handled", handle)]
    )
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(application, log_level="critical")).run([listener])


def get_by_requests(url: str) -> None:
    """Request a URL, and raise what the library raises for an error."""
    import requests

    requests.get(url, timeout=10).raise_for_status()


def get_by_urllib3(url: str) -> None:
    """Request a URL; the library raises nothing for an error."""
    import urllib3

    with urllib3.PoolManager() as pool:
        pool.request("GET", url)


def get_by_httpx(url: str) -> None:
    """Request a URL, and raise what the library raises for an error."""
    import httpx

    httpx.get(url).raise_for_status()


def get_by_aiohttp(url: str) -> None:
    """Request a URL, and raise what the library raises for an error."""
    import aiohttp

    async def get() -> None:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            response.raise_for_status()

    asyncio.run(get())


CLIENTS: dict[str, Callable[[str], None]] = {
    "requests": get_by_requests,
    "urllib3": get_by_urllib3,
    "httpx": get_by_httpx,
    "aiohttp": get_by_aiohttp,
}


def shop() -> None:
    """Request the URL of each input line by its library, and print the trace id."""
    print("ready", flush=True)
    for line in sys.stdin:
        library, url = line.split()
        span = ztrace.span("buy")
        try:
            with span:
                CLIENTS[library](url)
        except Exception as error:
            print(span.trace_id.hex(), type(error).__name__, flush=True)
        else:
            print(span.trace_id.hex(), "-", flush=True)


def main(role: str, upstream: str = "") -> None:
    """Run one role."""
    ztrace.configure(role)
    ztrace.instrument()
    if role != "plain":
        ztrace.otel.instrument()
    if role == "stock":
        serve_stock()
    elif role == "web":
        serve_web(upstream)
    elif role == "api":
        serve_api()
    else:
        shop()


if __name__ == "__main__":
    main(*sys.argv[1:])
