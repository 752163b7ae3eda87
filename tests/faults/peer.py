"""OTLP receiver for the OpenTelemetry SDK under the same faults: ``python -m tests.faults.peer PORT TALLY``.

One idea: the receiver only counts the spans of each request in a mapped file and answers, so it is never the
bottleneck, and its count survives a kill.
"""

import gzip
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.faults.board import Board
from tests.faults.stage import Stage, wait_for
from tests.ports import find_port


class Receiver:
    """OTLP receiver process that can be killed and restarted on the same port."""

    def __init__(self, stage: Stage) -> None:
        self.port = find_port()
        self._stage = stage
        self._path = stage.name("tally")
        self._tally = stage.board(self._path)

    @property
    def endpoint(self) -> str:
        """URL of the receiver for the exporter."""
        return f"http://127.0.0.1:{self.port}/v1/traces"

    @property
    def stored(self) -> int:
        """Number of spans received."""
        return self._tally["ended"]

    def start(self, wait: bool = True) -> None:
        """Start the receiver, and wait until it listens."""
        self._tally["ready"] = 0
        self.process = self._stage.start("-m", "tests.faults.peer", str(self.port), str(self._path))
        if wait:
            wait_for(lambda: self._tally["ready"], "the receiver listens")

    def kill(self) -> None:
        """Kill the receiver, and wait for its exit."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """Stop the receiver by SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue the receiver by SIGCONT."""
        self.process.send_signal(signal.SIGCONT)


def main() -> None:
    """Run the receiver until killed."""
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
