"""Cost of OTLP: encoding stored spans, compared with OpenTelemetry's SDK for the same spans, and decoding.

    python -m tests.benchmarks.otlp

CPU time of the thread, in batches of 2,048 as in forwarding; both encoders alternate in one run, so the ratio
is
independent of the machine. The SDK's spans are created before the measurement.

- calls: spans of zerorpc as the middleware makes them, with four attributes when sent.
- failures: one call in ten ends with an exception of twelve frames.
- foreign: spans received by OTLP, with an event, a link, a scope and a resource.
"""

import os
import sqlite3
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from tests.viewer.stored import NOON, raised, store
from ztrace import records
from ztrace_collector.checking.parcels import pack
from ztrace_collector.otlp.mapping.incoming import read_request
from ztrace_collector.otlp.mapping.json_form import format_request, parse_request
from ztrace_collector.otlp.mapping.outgoing import Builder
from ztrace_collector.otlp.mapping.reading import read_after, read_process
from ztrace_collector.storing.store import Store

#: Spans per batch, batches of a kind, and rounds.
SPANS, BATCHES, ROUNDS = 2048, 10, 7

_KINDS = {
    1: SpanKind.INTERNAL,
    2: SpanKind.SERVER,
    3: SpanKind.CLIENT,
    4: SpanKind.PRODUCER,
    5: SpanKind.CONSUMER,
}
_FRAMES = [
    (f"/srv/shop/m{at}.py", at + 1, f"step{at}", f"shop.m{at}", "step(order)", True) for at in range(12)
]


def main() -> None:
    """Measure each kind of spans, and print the table."""
    titles = ("ztrace", "SDK", "ratio", "in", "JSON out", "JSON in")
    print(f"{'spans per second, CPU':22}" + "".join(f"{title:>11}" for title in titles))
    for label, fill in (
        ("calls", fill_with_calls),
        ("failures", fill_with_failures),
        ("foreign", fill_with_foreign),
    ):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "traces.db"
            fill(path)
            print(f"{label:22}" + measure(path))


def measure(path: Path) -> str:
    """Return a line of figures for the spans in a file."""
    with closing(sqlite3.connect(path)) as db:
        builder = Builder(partial(read_process, db))
        batches = [read_after(db, at * SPANS, SPANS) for at in range(BATCHES)]
        requests = [builder.request(batch) for batch in batches]
        sdk = [list(map(_as_sdk, _flatten(request))) for request in requests]

        def send() -> None:
            for at in range(BATCHES):
                builder.request(read_after(db, at * SPANS, SPANS)).SerializeToString()

        def encode() -> None:
            for batch in sdk:
                encode_spans(batch).SerializeToString()

        texts = [format_request(request) for request in requests[:2]]
        ours, theirs = _take_turns(send, encode)
        (bring,) = _take_turns(lambda: [read_request(request) for request in requests])
        write, read = _take_turns(
            lambda: [format_request(request) for request in requests[:2]],
            lambda: [parse_request(text) for text in texts],
        )
    count, few = BATCHES * SPANS, 2 * SPANS
    figures = (count / ours, count / theirs, theirs / ours, count / bring, few / write, few / read)
    return "".join(f"{figure:11,.1f}" if figure < 100 else f"{figure:11,.0f}" for figure in figures)


def _take_turns(*functions: Callable[[], object]) -> list[float]:
    """Return the median CPU seconds of each function, over alternate rounds."""
    taken: list[list[float]] = [[] for _ in functions]
    for _ in range(ROUNDS):
        for function, times in zip(functions, taken, strict=True):
            begin = time.thread_time()
            function()
            times.append(time.thread_time() - begin)
    return [statistics.median(times) for times in taken]


def fill_with_calls(path: Path, failing: int = 0) -> None:
    """Store both ends of calls; with `failing`, every so many calls one fails."""
    for batch in range(BATCHES):
        spans = []
        for number in range(SPANS):
            is_client = number % 2 == 1
            attributes: dict[str, Any] = {"rpc.system.name": "zerorpc"}
            if is_client:
                attributes |= {"server.address": "127.0.0.1", "server.port": 4000 + number % 7}
            failure = raised("shop.Declined", f"order {number}", frames=_FRAMES)
            failed = failing and number % failing == 0
            spans.append(
                records.Span(
                    trace_id=os.urandom(16),
                    span_id=os.urandom(8),
                    parent_id=os.urandom(8) if number % 4 else None,
                    kind=3 if is_client else 2,
                    name=f"method{number % 40}",
                    start_ns=NOON + batch * SPANS + number,
                    duration_ns=1_000_000,
                    self_ns=900_000,
                    cpu_ns=None if is_client else 400_000,
                    status=records.ERROR if failed else records.OK,
                    attributes=attributes,
                    links=None,
                    exception=failure if failed else None,
                    details=None,
                )
            )
        store(path, {"billing": spans})


def fill_with_failures(path: Path) -> None:
    """Store calls of which one in ten fails."""
    fill_with_calls(path, failing=10)


def fill_with_foreign(path: Path) -> None:
    """Store spans of an HTTP server traced with OpenTelemetry."""
    with Store(path) as opened:
        for batch in range(BATCHES):
            request = ExportTraceServiceRequest()
            resource = request.resource_spans.add()
            resource.resource.attributes.add(key="service.name").value.string_value = "web"
            scope = resource.scope_spans.add()
            scope.scope.name, scope.scope.version = "opentelemetry.instrumentation.asgi", "0.50"
            for number in range(SPANS):
                span = scope.spans.add(
                    trace_id=os.urandom(16),
                    span_id=os.urandom(8),
                    name="GET /orders",
                    kind=OtlpSpan.SPAN_KIND_SERVER,
                    start_time_unix_nano=NOON + batch * SPANS + number,
                    end_time_unix_nano=NOON + batch * SPANS + number + 1_000_000,
                    flags=0x101,
                )
                for key in ("http.request.method", "url.path", "client.address", "user_agent.original"):
                    span.attributes.add(key=key).value.string_value = f"{key} {number % 50}"
                span.attributes.add(key="http.response.status_code").value.int_value = 200
                event = span.events.add(name="retry", time_unix_nano=NOON)
                event.attributes.add(key="attempt").value.int_value = 1
                span.links.add(trace_id=os.urandom(16), span_id=os.urandom(8))
            opened.store([], [parcel for each in read_request(request) for parcel in pack(each)])


def _flatten(request: ExportTraceServiceRequest) -> list[tuple[Resource, InstrumentationScope, OtlpSpan]]:
    return [
        (
            Resource(_values(resource.resource.attributes)),
            InstrumentationScope(scope.scope.name, scope.scope.version),
            span,
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _as_sdk(made_by: tuple[Resource, InstrumentationScope, OtlpSpan]) -> ReadableSpan:
    """Return a span as the SDK's class."""
    resource, scope, span = made_by
    return ReadableSpan(
        name=span.name,
        context=_context(span.trace_id, span.span_id),
        parent=_context(span.trace_id, span.parent_span_id) if span.parent_span_id else None,
        resource=resource,
        attributes=_values(span.attributes),
        events=[Event(each.name, _values(each.attributes), each.time_unix_nano) for each in span.events],
        links=[Link(_context(each.trace_id, each.span_id)) for each in span.links],
        kind=_KINDS[span.kind],
        instrumentation_scope=scope,
        status=Status(StatusCode(span.status.code), span.status.message or None)
        if span.status.code == 2
        else Status(),
        start_time=span.start_time_unix_nano,
        end_time=span.end_time_unix_nano,
    )


def _context(trace_id: bytes, span_id: bytes) -> SpanContext:
    return SpanContext(int.from_bytes(trace_id), int.from_bytes(span_id), False, TraceFlags(1))


def _values(pairs: Sequence[Any]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


if __name__ == "__main__":
    main()
