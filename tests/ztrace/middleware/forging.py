"""Program whose peers send forged and damaged contexts and replies; each call must still be answered.

Prints the reasons under which ztrace has counted them, by wire.
"""

import http.client
import json
import multiprocessing.connection
import pickle
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing import managers
from typing import Any
from xmlrpc import client as xmlrpc_client
from xmlrpc.server import SimpleXMLRPCServer

import Pyro5.api
import Pyro5.client
from Pyro5 import protocol, serializers, socketutil

import ztrace
from tests.ztrace.middleware.managing import Shop
from tests.ztrace.recording import Recorder
from ztrace import diagnostics, spans
from ztrace.middleware.trailers import make_trailer

LARGE = "x" * 60_000
#: Contexts and replies that no ztrace sends.
FORGED = ("zz", "d=1;o=00;m=%zz", "d=²", LARGE)


def serve_xmlrpc(text: str) -> None:
    """Serve a call by xmlrpc with a forged context."""
    with SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False) as server:
        server.register_instance(Shop())
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1])
        body = xmlrpc_client.dumps((2, 3), "add")
        header = text.encode("latin-1", "replace").decode("latin-1")
        connection.request("POST", "/RPC2", body, {"traceparent": header, "tracestate": header})
        response = connection.getresponse()
        assert xmlrpc_client.loads(response.read()) == ((5,), None)
        connection.close()
        thread.join()


def call_xmlrpc(text: str) -> None:
    """Get a forged reply by xmlrpc."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = xmlrpc_client.dumps((5,), methodresponse=True).encode()
            self.send_response(200)
            self.send_header("ztrace", text.encode("latin-1", "replace").decode("latin-1"))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Discard the request log."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with xmlrpc_client.ServerProxy(f"http://127.0.0.1:{server.server_address[1]}") as proxy:
            assert proxy.add(2, 3) == 5
        thread.join()


def pair() -> tuple[Any, Any]:
    """Return two connected connections of the multiprocessing package."""
    return multiprocessing.connection.Pipe()


def serve_manager(text: str) -> None:
    """Serve a call of a manager's object with a forged context."""
    ours, theirs = pair()
    server: Any = managers.Server.__new__(managers.Server)
    server.stop_event, server.id_to_obj = threading.Event(), {"1": (Shop(), {"add"}, None)}
    thread = threading.Thread(target=server.handle_request, args=(ours,))
    server._handle_request = server.serve_client
    thread.start()
    theirs.send_bytes(pickle.dumps(("1", "add", (2, 3), {})) + make_trailer(text.encode()[:8000]))
    assert theirs.recv() == ("#RETURN", 5)
    theirs.close()
    thread.join()


def call_manager(text: str) -> None:
    """Get a forged reply from a manager."""
    ours, theirs = pair()
    proxy: Any = managers.BaseProxy.__new__(managers.BaseProxy)
    proxy._tls, proxy._token, proxy._id = threading.local(), managers.Token("shop", "socket", "1"), "1"
    proxy._tls.connection = ours
    theirs.send_bytes(pickle.dumps(("#RETURN", 5)) + make_trailer(text.encode()[:8000]))
    assert proxy._callmethod("add", (2, 3)) == 5
    ours.close()
    theirs.close()


def serve_pyro5(text: str) -> None:
    """Serve a call by Pyro5 with a forged context."""
    with Pyro5.api.Daemon("127.0.0.1", 0) as daemon:
        daemon.register(Pyro5.api.expose(Shop)(), "shop")
        ours, theirs = map(socketutil.SocketConnection, socket.socketpair())
        theirs.send(message("shop", text, protocol.MSG_INVOKE))
        daemon.handleRequest(ours)
        answer = protocol.recv_stub(theirs, [protocol.MSG_RESULT])
        assert serializers.serializers["serpent"].loads(answer.data) == 5
        ours.close()
        theirs.close()


def call_pyro5(text: str) -> None:
    """Get a forged reply by Pyro5."""
    ours, theirs = map(socketutil.SocketConnection, socket.socketpair())
    ours.objectId = "shop"
    proxy = Pyro5.client.Proxy("PYRO:shop@127.0.0.1:1")
    proxy._pyroConnection = ours
    theirs.send(message("shop", text, protocol.MSG_RESULT))
    assert proxy._pyroInvoke("add", (2, 3), {}) == 5
    ours.close()
    theirs.close()
    proxy._pyroConnection = None


def message(name: str, text: str, kind: int) -> Any:
    """Return a message of Pyro5 with an annotation."""
    serializer = serializers.serializers["serpent"]
    is_call = kind == protocol.MSG_INVOKE
    data = serializer.dumpsCall(name, "add", (2, 3), {}) if is_call else serializer.dumps(5)
    annotations = {"ZTRC": text.encode()}
    return protocol.SendingMessage(kind, 0, 1, serializer.serializer_id, data, annotations=annotations).data


def main() -> None:
    """Try every text on every wire."""
    ztrace.instrument()
    spans.publisher = recorder = Recorder()  # type: ignore[assignment]
    wires: list[Callable[[str], None]] = [serve_xmlrpc, call_xmlrpc, serve_manager, call_manager]
    counted = {}
    for wire in [*wires, serve_pyro5, call_pyro5]:
        for text in FORGED:
            wire(text)
            inner = ["inner"] * wire.__name__.startswith("serve")
            assert [span.name for span in recorder.spans] == [*inner, "add"]
            recorder.queue.clear()
        counted[wire.__name__] = dict(diagnostics.counts)
        diagnostics.counts.clear()
    print(json.dumps(counted))


if __name__ == "__main__":
    main()
