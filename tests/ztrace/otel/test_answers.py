"""Origins in HTTP responses, read by the clients that OpenTelemetry instruments, in programs of their own."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.ztrace.otel.entry_points import register
from tests.ztrace.programs import run_program
from tests.ztrace.receiving import Receiver
from ztrace.otel import answers
from ztrace.records import PASSED, ExceptionRecord

#: Server that answers each request with status 500 and an origin by the variable HEADER.
START = """
import os, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
import ztrace, ztrace.otel
ztrace.configure("shop", sys.argv[1])
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        trace = self.headers["traceparent"].split("-")[1]
        self.send_response(500)
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
requests.get(url, timeout=5).raise_for_status()""",
    "httpx": """
import httpx
httpx.get(url).raise_for_status()""",
    "httpx async": """
import asyncio, httpx
async def main():
    async with httpx.AsyncClient() as client: (await client.get(url)).raise_for_status()
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
        answers.HOOKS[name]["response_hook"](span, *arguments_of(headers))
    (ended,) = exported.get_finished_spans()
    assert ended.attributes == {
        "ztrace.exception.how": "passed",
        "ztrace.exception.origin.trace_id": trace_id,
        "ztrace.exception.origin.span_id": "00f067aa0ba902b7",
    }
    (event,) = ended.events
    assert (event.attributes or {})["exception.type"] == "HTTP 500"


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
