"""Connections of an HTTP server whose peers do not read their answers."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.collector.otlp.listeners import ANY_PORT, DEADLINE_S
from tests.ztrace.waiting import wait_for
from ztrace_collector.otlp.listening import http_connections
from ztrace_collector.otlp.listening.addresses import open_socket
from ztrace_collector.otlp.listening.thread import ServerThread

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def answer(request: Request) -> Response:
    """Answer with more than sockets buffer."""
    return Response(bytes(32 << 20))


@pytest.fixture
def noted() -> list[str]:
    """Return the list of connections that were cut."""
    return []


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch, noted: list[str]) -> Iterator[int]:
    """Yield the port of a server of large answers."""
    monkeypatch.setattr(http_connections, "LOOK_S", 0.05)
    listening = open_socket(ANY_PORT)
    port: int = listening.getsockname()[1]
    app = Starlette(routes=[Route("/", answer)])
    server = ServerThread(app, listening, lambda reason, detail, count=1: noted.append(detail))
    yield port
    server.close()


def read_all(client: socket.socket) -> int:
    """Return the bytes that come until the connection ends."""
    count = 0
    client.settimeout(DEADLINE_S)
    try:
        while part := client.recv(1 << 20):
            count += len(part)
    except ConnectionResetError:
        pass
    return count


def test_a_peer_that_does_not_read_is_cut(
    monkeypatch: pytest.MonkeyPatch, port: int, noted: list[str]
) -> None:
    """A connection whose answer is not read is closed after the timeout."""
    monkeypatch.setattr(http_connections, "SEND_S", 0.3)
    with closing(socket.create_connection(("127.0.0.1", port))) as client:
        client.sendall(GET)
        wait_for(lambda: noted == ["the answer is not read"])
        assert read_all(client) < 32 << 20


def test_unread_answers_give_way(monkeypatch: pytest.MonkeyPatch, port: int, noted: list[str]) -> None:
    """Beyond the limit, connections that do not read their answers are closed for others."""
    monkeypatch.setattr(http_connections, "MAX_CONNECTIONS", 3)
    with ExitStack() as stack:
        for _ in range(6):
            client = stack.enter_context(closing(socket.create_connection(("127.0.0.1", port))))
            client.sendall(GET)
            while b"\0" not in client.recv(1000):
                pass  # Its head: the answer is on its way with the first byte of its body.
        wait_for(lambda: len(noted) == 3)
        last = stack.enter_context(closing(socket.create_connection(("127.0.0.1", port))))
        last.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert read_all(last) > 32 << 20
