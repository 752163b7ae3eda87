"""One process of a mixed tree: ``python -m tests.ztrace.otel.mixed ROLE WAY COLLECTOR [NEXT]``.

    shopper ─HTTP─▶ web ─zerorpc─▶ orders ─zerorpc─▶ goods ─HTTP─▶ stock

The shopper and stock use OpenTelemetry only, orders uses ztrace only, web and goods use both. WAY is the
export of OpenTelemetry's spans: ``ztrace`` over ztrace's transport, ``otlp`` by the SDK's own exporter to
COLLECTOR, a URL. Each process prints its address; the shopper reads one path per line, requests the path and
prints the trace id. The paths are ``/order``, and ``/refuse``, which fails in goods.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

if sys.argv[1:2] == ["goods"]:
    import gevent.monkey

    gevent.monkey.patch_all()

import requests
import zerorpc
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind

import ztrace
import ztrace.otel


def trace_with_opentelemetry(role: str, way: str, url: str) -> trace.Tracer:
    """Set up OpenTelemetry with the exporter of the given way, and return a tracer."""
    provider = TracerProvider(resource=Resource({"service.name": role}))
    exporter = ztrace.otel.SpanExporter() if way == "ztrace" else OTLPSpanExporter(f"{url}/v1/traces")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    RequestsInstrumentor().instrument()
    return provider.get_tracer(role)


def serve_http(tracer: trace.Tracer, answer: Callable[[str], str]) -> None:
    """Serve HTTP requests, each within an OpenTelemetry server span."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = 500, b""
            with (
                suppress(Exception),
                tracer.start_as_current_span(
                    f"GET {self.path}", propagate.extract(self.headers), SpanKind.SERVER
                ),
            ):
                body = answer(self.path[1:]).encode()
                status = 200
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Discard the request log."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


def connect(endpoint: str) -> zerorpc.Client:
    """Return a client connected to the endpoint."""
    client = zerorpc.Client(heartbeat=None)
    client.connect(endpoint)
    return client


def serve_zerorpc(methods: dict[str, Callable[..., Any]]) -> None:
    """Serve the methods until the process is killed."""
    server = zerorpc.Server(methods)
    server.bind("tcp://127.0.0.1:0")
    print(server._events._socket.getsockopt_string(zerorpc.zmq.LAST_ENDPOINT), flush=True)
    server.run()


def shop(tracer: trace.Tracer, web: str) -> None:
    """Request the path of each input line, and print the trace ids."""
    for line in sys.stdin:
        with tracer.start_as_current_span("buy") as span:
            requests.get(f"{web}{line.strip()}", timeout=10)
        print(f"{span.get_span_context().trace_id:032x}", flush=True)


def refuse() -> None:
    """Raise an error that the caller receives."""
    raise KeyError("no such thing")


def main(role: str, way: str, url: str, upstream: str = "") -> None:
    """Run one role of the mixed tree."""
    has_opentelemetry, has_ztrace = role != "orders", role in ("web", "orders", "goods")
    if has_ztrace or way == "ztrace":
        ztrace.configure(role)
    if has_ztrace:
        ztrace.instrument("zerorpc")
    tracer = trace_with_opentelemetry(role, way, url) if has_opentelemetry else trace.NoOpTracer()
    if has_ztrace and has_opentelemetry:
        ztrace.otel.connect()
        propagate.set_global_textmap(ztrace.otel.Propagator())
    if role == "shopper":
        print("ready", flush=True)
        shop(tracer, upstream)
    elif role == "web":
        orders = connect(upstream)
        serve_http(tracer, lambda method: str(orders(method)))
    elif role == "orders":
        goods = connect(upstream)
        serve_zerorpc({"order": lambda: goods.reserve(), "refuse": lambda: goods.refuse()})
    elif role == "goods":
        level = f"{upstream}/level"
        serve_zerorpc({"reserve": lambda: requests.get(level, timeout=10).text, "refuse": refuse})
    else:
        serve_http(tracer, lambda path: "3")


if __name__ == "__main__":
    main(*sys.argv[1:])
