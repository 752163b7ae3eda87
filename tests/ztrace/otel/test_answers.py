"""Origins in HTTP responses, read by the clients that OpenTelemetry instruments, in programs of their own."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from opentelemetry import trace
from opentelemetry.context.context import Context
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import ztrace
from tests.ztrace.otel.entry_points import register
from tests.ztrace.programs import run_program
from tests.ztrace.receiving import Receiver
from tests.ztrace.recording import Recorder
from ztrace.otel import answers, clients, servers
from ztrace.otel.propagating import Propagator
from ztrace.records import PASSED, ExceptionRecord

#: Server that answers each request with status 500 and an origin by the variable HEADER, if it is not empty.
START = """
import os, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
import ztrace, ztrace.otel
ztrace.configure("shop", sys.argv[1])
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        trace = self.headers["traceparent"].split("-")[1]
        self.send_response(500)
        if os.environ["HEADER"]:
            self.send_header("ztrace", os.environ["HEADER"].format(trace))
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_): pass
server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/"
ztrace.otel.instrument()
"""

CLIENTS = {
    "requests": """
import requests
requests.get(url, timeout=30).raise_for_status()""",
    "httpx": """
import httpx
httpx.get(url, timeout=30).raise_for_status()""",
    "httpx async": """
import asyncio, httpx
async def main():
    async with httpx.AsyncClient(timeout=30) as client: (await client.get(url)).raise_for_status()
asyncio.run(main())""",
}


def fail(
    receiver: Receiver, client: str, header: str = "o={}-00f067aa0ba902b7"
) -> dict[str, ExceptionRecord | None]:
    """Run a client within a span, and return the exceptions of the span and of the client's own."""
    code = CLIENTS[client].strip().replace("\n", "\n        ")
    program = f"{START}\ntry:\n    with ztrace.span('outer'):\n        {code}\nexcept Exception: pass\n"
    run_program(program, receiver.endpoint, HEADER=header)
    return {
        span.name: None if span.exception is None else ExceptionRecord(*span.exception)
        for span in receiver.spans
    }


def assert_passed(receiver: Receiver, exception: ExceptionRecord | None) -> None:
    """Assert that an exception has its origin at the server."""
    assert exception is not None
    assert exception.how == PASSED
    assert exception.origin_span_id == bytes.fromhex("00f067aa0ba902b7")
    assert exception.origin_trace_id == receiver.spans[0].trace_id


@pytest.mark.process
@pytest.mark.parametrize("client", CLIENTS)
def test_the_exception_of_an_http_error_has_its_origin_at_the_server(receiver: Receiver, client: str) -> None:
    """The client's span, and the span that the exception leaves, name the origin in the response."""
    found = fail(receiver, client)
    assert set(found) == {"outer", "GET"}
    for exception in found.values():
        assert_passed(receiver, exception)


HOOKS = [
    ("requests", lambda headers: (None, SimpleNamespace(status_code=500, headers=headers))),
    ("httpx", lambda headers: (None, SimpleNamespace(status_code=500, headers=headers))),
    ("urllib3", lambda headers: (None, SimpleNamespace(status=500, headers=headers))),
    (
        "aiohttp-client",
        lambda headers: (SimpleNamespace(response=SimpleNamespace(status=500, headers=headers)),),
    ),
]


@pytest.mark.parametrize(("name", "arguments_of"), HOOKS)
def test_a_hook_marks_the_clients_span(
    tracer: trace.Tracer,
    exported: InMemorySpanExporter,
    name: str,
    arguments_of: Callable[[dict[str, str]], tuple[object, ...]],
) -> None:
    """Each instrumentation's hook reads the response in the form in which it gets it."""
    with tracer.start_as_current_span("GET") as span:
        trace_id = f"{span.get_span_context().trace_id:032x}"
        headers = {"ztrace": f"o={trace_id}-00f067aa0ba902b7"}
        clients.HOOKS[name]["response_hook"](span, *arguments_of(headers))
    (ended,) = exported.get_finished_spans()
    assert ended.attributes == {
        "ztrace.exception.how": "passed",
        "ztrace.exception.origin.trace_id": trace_id,
        "ztrace.exception.origin.span_id": "00f067aa0ba902b7",
    }
    (event,) = ended.events
    assert (event.attributes or {})["exception.type"] == "HTTP 500"


@pytest.mark.process
def test_an_error_of_an_untraced_server_begins_at_the_client(receiver: Receiver) -> None:
    """Without an origin in the response, the exception is the client's own."""
    found = fail(receiver, "requests", "")
    outer = found["outer"]
    assert found["GET"] is None
    assert outer is not None
    assert outer.how != PASSED


CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def refuse(start_response: Any) -> None:
    """Answer with an error that has no exception."""
    start_response("503 Service Unavailable", [])


def refuse_within_spans(start_response: Any) -> None:
    """Answer within spans of the application's."""
    with trace.get_tracer("t").start_as_current_span("outer"), ztrace.span("inner"):
        start_response("503 Service Unavailable", [])


def fail_within(start_response: Any) -> None:
    """Answer for an exception that has left a span."""
    try:
        with ztrace.span("inner"):
            raise LookupError("no")
    except LookupError:
        pass
    start_response("404 Not Found", [])


def pass_on(start_response: Any) -> None:
    """Answer for an HTTP error of a service further down."""
    with trace.get_tracer("t").start_as_current_span("GET") as span:
        answers.take_response(span, 500, {"ztrace": f"o={span.get_span_context().trace_id:032x}-{'5' * 16}"})
    start_response("502 Bad Gateway", [])


@pytest.mark.parametrize(
    ("application", "name"),
    [(refuse, "GET /"), (refuse_within_spans, "GET /"), (fail_within, "inner"), (pass_on, "5" * 16)],
)
@pytest.mark.parametrize("traceparent", [CALLER, None])
def test_an_error_names_the_latest_failure_of_its_request(
    recorder: Recorder,
    tracer: trace.Tracer,
    exported: InMemorySpanExporter,
    connected: None,
    monkeypatch: pytest.MonkeyPatch,
    application: Callable[[Any], None],
    name: str,
    traceparent: str | None,
) -> None:
    """The origin is a span within the request, one further down, or without any the request's own span."""
    servers.wrap_wsgi()
    monkeypatch.setattr(trace, "get_tracer", lambda *_, **__: tracer)
    given: list[tuple[str, str]] = []

    def serve(environ: Any, start_response: Any) -> list[bytes]:
        application(start_response)
        return []

    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    if traceparent is not None:
        environ["HTTP_TRACEPARENT"] = traceparent
    middleware: Any = OpenTelemetryMiddleware(serve)
    list(middleware(environ, lambda status, headers, *_: given.extend(headers)))
    ended = [(span.name, span.get_span_context()) for span in exported.get_finished_spans()]
    found = {name: f"{ids.span_id:016x}" for name, ids in ended if ids is not None}
    found |= {span.name: span.span_id.hex() for span in recorder.spans}
    expected = [("ztrace", f"o={CALLER[3:35]}-{found.get(name, name)}")]
    assert given == (expected if traceparent is not None else [])


def test_a_response_propagator_names_a_span_that_has_failed(tracer: trace.Tracer) -> None:
    """An instrumentation that has set the span's status sends its origin; a request that is well has none."""
    propagator = servers.OriginPropagator()
    caller = Propagator().extract({"traceparent": CALLER})
    for failed in (False, True):
        given: dict[str, str] = {}
        with tracer.start_as_current_span("GET", context=caller) as span:
            if failed:
                span.set_status(trace.StatusCode.ERROR)
            propagator.inject(given, trace.set_span_in_context(span, Context()))
        ids = span.get_span_context()
        assert given == ({"ztrace": f"o={ids.trace_id:032x}-{ids.span_id:016x}"} if failed else {})


@pytest.mark.parametrize("key", ["http.status_code", "http.response.status_code"])
@pytest.mark.parametrize(("status", "names"), [(200, False), (302, False), (404, True), (500, True)])
def test_a_response_that_is_no_error_names_nothing(
    recorder: Recorder, tracer: trace.Tracer, connected: None, key: str, status: int, names: bool
) -> None:
    """An exception that was handled within a request is told to the client only with an error."""
    given: dict[str, str] = {}
    caller = Propagator().extract({"traceparent": CALLER})
    with tracer.start_as_current_span("GET", context=caller) as span:
        try:
            with ztrace.span("inner"):
                raise LookupError("no")
        except LookupError:
            pass
        span.set_attribute(key, status)
        servers.OriginPropagator().inject(given)
    assert bool(given) is names


def test_flask_names_nothing_without_an_error() -> None:
    """What the response propagator has added to a response is removed where the status is no error."""
    headers = [("A", "1"), ("ztrace", "o=")]
    servers.HOOKS["flask"]["response_hook"](None, "200 OK", headers)
    assert headers == [("A", "1")]


@pytest.mark.process
@pytest.mark.parametrize(
    "header",
    ["o=4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", "o={}-00f067aa0ba902b7;", "o={}", "x" * 60_000],
)
def test_a_forged_header_is_ignored(receiver: Receiver, header: str) -> None:
    """An origin in another trace, and a header of another form, change nothing."""
    found = fail(receiver, "requests", header)
    outer = found["outer"]
    assert found["GET"] is None
    assert outer is not None
    assert outer.how != PASSED


@pytest.mark.process
def test_an_instrumentation_that_fails_is_a_warning(receiver: Receiver, tmp_path: Path) -> None:
    """The others are switched on; those whose library is missing, or that are disabled, are left out."""
    (tmp_path / "broken_otel.py").write_text(
        "class Broken:\n"
        "    is_instrumented_by_opentelemetry = False\n"
        "    def instrument(self, **_): raise LookupError('no hook')\n"
    )
    broken = "broken_otel:Broken"
    register(tmp_path, "broken", broken, "nowhere", "no_such_module:Instrumentor", "off", broken)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import ztrace.otel\n"
        "ztrace.otel.instrument()\n"
        "from opentelemetry.instrumentation.requests import RequestsInstrumentor\n"
        "from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor\n"
        "for each in (RequestsInstrumentor, HTTPXClientInstrumentor):\n"
        "    print(each().is_instrumented_by_opentelemetry)\n"
    )
    done = run_program(program, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="off, httpx")
    assert done.stdout.split() == ["True", "False"]
    assert done.stderr == (
        "ztrace: OpenTelemetry's instrumentation 'broken' failed, and is off: LookupError('no hook')\n"
    )


@pytest.mark.process
def test_the_programs_own_setup_stays(receiver: Receiver) -> None:
    """A tracer provider and an instrumentation that the program has set up are left as they are."""
    program = """
import sys
from opentelemetry import propagate, trace
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
import ztrace, ztrace.otel
provider, kept = TracerProvider(), InMemorySpanExporter()
provider.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(provider)
RequestsInstrumentor().instrument()
ztrace.otel.instrument()
ztrace.configure("shop", sys.argv[1])
assert trace.get_tracer_provider() is provider
try:
    with ztrace.span("outer"), trace.get_tracer("t").start_as_current_span("inner"):
        raise LookupError("no")
except LookupError: pass
print([span.name for span in kept.get_finished_spans()])
print(sorted(propagate.get_global_textmap().fields))
"""
    done = run_program(program, receiver.endpoint)
    assert done.stdout == "['inner']\n['baggage', 'traceparent', 'tracestate']\n"
    assert done.stderr == ""
    (outer,) = receiver.spans
    assert outer.exception is not None
    exception = ExceptionRecord(*outer.exception)
    assert (exception.how, exception.origin_span_id == outer.span_id) == (PASSED, False)
