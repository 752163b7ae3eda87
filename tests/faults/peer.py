"""A receiver for the OpenTelemetry SDK, to do the same faults to: ``python -m tests.faults.peer PORT TALLY``.

One idea: it counts the spans of each request in a mapped file and answers, and does nothing else, so it is
never what is slow; a kill leaves the count.
"""

import gzip
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.faults.board import Board
from tests.faults.stage import Stage, free_port, wait_for


class Receiver:
    """An OTLP receiver in a process, which may be ended and started again at the same port."""

    def __init__(self, stage: Stage) -> None:
        self.port = free_port()
        self._stage = stage
        self._path = stage.name("tally")
        self._tally = stage.board(self._path)

    @property
    def endpoint(self) -> str:
        """Where the exporter sends to."""
        return f"http://127.0.0.1:{self.port}/v1/traces"

    @property
    def stored(self) -> int:
        """How many spans it has received."""
        return self._tally["ended"]

    def start(self, wait: bool = True) -> None:
        """Start it."""
        self._tally["ready"] = 0
        self.process = self._stage.start("-m", "tests.faults.peer", str(self.port), str(self._path))
        if wait:
            wait_for(lambda: self._tally["ready"], "the receiver listens")

    def kill(self) -> None:
        """End it as by kill -9."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """Let it stand still."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)


def main() -> None:
    """Be the process."""
    tally = Board(Path(sys.argv[2]))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            request = ExportTraceServiceRequest.FromString(body)
            tally["ended"] += sum(
                len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans
            )
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    tally["ready"] = 1
    server.serve_forever()


if __name__ == "__main__":
    main()
