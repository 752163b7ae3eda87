"""Server of a webhook."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest


class Hook(BaseHTTPRequestHandler):
    """Server of a webhook."""

    answers: ClassVar[list[int]] = []
    asked: ClassVar[list[tuple[str, dict[str, str], Any]]] = []

    def do_POST(self) -> None:
        """Keep a request, and answer with the next status."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append((self.path, dict(self.headers), json.loads(body)))
        status = self.answers.pop(0)
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing."""


@pytest.fixture
def hook() -> Iterator[str]:
    """Yield the URL of a server that answers as `Hook.answers` says."""
    Hook.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://ada:pass@127.0.0.1:{server.server_port}/hook?key=secret"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
