"""OTLP receivers: a third-party one, and scripted ones for HTTP and gRPC.

One idea: a request is recorded before its answer is sent, so every span a sender counts as accepted is
recorded.
"""

import base64
import gzip
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.collector.otlp.requests import spans_of
from tests.ports import find_port
from tests.ztrace.waiting import DEADLINE_S

_ROOT = Path(__file__).parents[3]


class Tap:
    """oteltap in a process that can be killed and restarted.

    Attributes:
        spans: the spans received, across restarts.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.port = find_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start listening, on the same port each time."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.collector.otlp.tap", str(self.port)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        self._thread = threading.Thread(target=self._follow, args=(self._process,))
        self._thread.start()

    def kill(self) -> None:
        """Kill the receiver process, and wait for its exit."""
        if self._process is not None and self._thread is not None:
            self._process.kill()
            self._process.wait()
            self._thread.join(DEADLINE_S)
            assert self._process.stdout is not None
            self._process.stdout.close()
        self._process = None

    def _follow(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.endswith("\n"):
                self.spans.append(Span.FromString(base64.b64decode(line)))


@contextmanager
def tapping() -> Iterator[Tap]:
    """Run a `Tap`; it is killed at the end."""
    tap = Tap()
    tap.start()
    try:
        yield tap
    finally:
        tap.kill()


class Reply(NamedTuple):
    """HTTP response of a receiver."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = {}


@dataclass
class Received:
    """Requests received, one entry each, recorded before the answer.

    Attributes:
        taken: the requests answered with success.
    """

    headers: list[dict[str, str]] = field(default_factory=list)
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)
    taken: list[ExportTraceServiceRequest] = field(default_factory=list)

    def ids(self) -> list[bytes]:
        """Return the trace and span id of every accepted span."""
        return [span.trace_id + span.span_id for request in list(self.taken) for span in spans_of(request)]


#: Function that answers a request; None closes the connection without an answer.
Answerer = Callable[[ExportTraceServiceRequest], Reply | None]


@contextmanager
def answering(
    answer: Answerer, port: int = 0, context: ssl.SSLContext | None = None
) -> Iterator[tuple[str, Received]]:
    """Receive over HTTP with scripted answers; yield the URL and the received requests."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            request = ExportTraceServiceRequest.FromString(body)
            received.headers.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
            received.requests.append(request)
            reply = answer(request)
            if reply is None:
                self.close_connection = True
                return
            if reply.status == 200:
                received.taken.append(request)
            self.send_response(reply.status)
            for name, value in {"content-length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, format: str, *args: Any) -> None:
            """Discard the request log."""

    class Server(ThreadingHTTPServer):
        allow_reuse_address = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Ignore clients that disconnect."""

    with Server(("127.0.0.1", port), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"{'https' if context else 'http'}://localhost:{server.server_port}", received
        finally:
            server.shutdown()
            thread.join(DEADLINE_S)


def script(*replies: Reply | None) -> Answerer:
    """Return an answerer with these replies in order, and successes afterwards."""
    waiting = list(replies)
    return lambda request: waiting.pop(0) if waiting else Reply()


class Failure(NamedTuple):
    """gRPC error of a receiver."""

    code: grpc.StatusCode
    details: str = ""
    trailers: Sequence[tuple[str, bytes]] = ()


@contextmanager
def answering_grpc(
    *answers: Failure | ExportTraceServiceResponse,
    credentials: grpc.ServerCredentials | None = None,
    options: Sequence[tuple[str, Any]] = (),
) -> Iterator[tuple[str, Received]]:
    """Receive over gRPC with scripted answers, then successes; yield the URL and the received requests."""
    received, waiting = Received(), list(answers)

    class Servicer(TraceServiceServicer):
        def Export(
            self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
        ) -> ExportTraceServiceResponse:
            received.headers.append({key: str(value) for key, value in context.invocation_metadata()})
            received.requests.append(request)
            answer = waiting.pop(0) if waiting else ExportTraceServiceResponse()
            if isinstance(answer, Failure):
                context.set_trailing_metadata(tuple(answer.trailers))
                context.abort(answer.code, answer.details)
                raise AssertionError("abort raises")
            received.taken.append(request)
            return answer

    with futures.ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads, options=list(options))
        add_TraceServiceServicer_to_server(Servicer(), server)  # type: ignore[no-untyped-call]
        if credentials is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            port = server.add_secure_port("localhost:0", credentials)
        server.start()
        try:
            yield f"{'grpc' if credentials is None else 'grpcs'}://localhost:{port}", received
        finally:
            server.stop(None).wait(DEADLINE_S)
