"""Service traced by OpenTelemetry's own SDK, with its own exporters.

Run as a program with a protocol, an endpoint and a compression, it exports every kind of data that a span can
have, and prints the exported spans: as OTLP in hex, from the SDK's own encoder, and as JSON, from the SDK's
spans.
"""

import json
import math
import sys
from importlib.metadata import version
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

#: Whether the SDK keeps bytes that are no text; versions before 1.45 drop them with a message.
KEEPS_BYTES = tuple(map(int, version("opentelemetry-sdk").split(".")[:2])) >= (1, 45)


def make_exporter(protocol: str, endpoint: str, compression: str) -> SpanExporter:
    """Return the SDK's exporter for the protocol."""
    if protocol == "http":
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as OverHttp

        return OverHttp(endpoint + "/v1/traces", compression=Compression(compression))
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as OverGrpc

    coded = grpc.Compression.Gzip if compression == "gzip" else grpc.Compression.NoCompression
    return OverGrpc(endpoint, insecure=True, compression=coded)


def work(tracer: trace.Tracer) -> None:
    """Record a tree with every kind of data."""
    elsewhere = SpanContext(
        (7 << 64) + 8, 9, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("a", "b")])
    )
    with tracer.start_as_current_span("checkout", kind=SpanKind.SERVER) as root:
        root.set_attributes(
            {
                "text": "grüße\x00 ",
                "bool": True,
                "int": 1,
                "large": -(1 << 63),
                "double": 1.0,
                "nan": math.nan,
                "infinite": -math.inf,
                **({"bytes": b"\x00\xff"} if KEEPS_BYTES else {}),
                "texts": ["a", "b"],
                "ints": [1, 2],
                "doubles": [1.0, 2.5],
                "bools": [True, False],
                "empty": [],
            }
        )
        root.add_event("cache miss", {"key": "card", "age": 2.0, "tries": 3})
        root.add_event("bare")
        with tracer.start_as_current_span(
            "publish", kind=SpanKind.PRODUCER, links=[Link(elsewhere, {"why": "batch"}), Link(elsewhere)]
        ) as producer:
            producer.set_status(Status(StatusCode.OK))
        with tracer.start_as_current_span("get", kind=SpanKind.CLIENT) as client:
            client.set_status(Status(StatusCode.ERROR, "503 from the bank"))
        try:
            with tracer.start_as_current_span("charge", kind=SpanKind.CONSUMER):
                raise ValueError("card declined")
        except ValueError:
            pass


def describe(span: ReadableSpan) -> dict[str, Any]:
    """Return the fields that ``ztrace show --json`` should print for a span."""
    assert span.context is not None
    assert span.start_time is not None
    assert span.end_time is not None
    return {
        "trace_id": f"{span.context.trace_id:032x}",
        "span_id": f"{span.context.span_id:016x}",
        "parent_id": None if span.parent is None else f"{span.parent.span_id:016x}",
        "service": span.resource.attributes["service.name"],
        "name": span.name,
        "kind": span.kind.name.lower(),
        "start_ns": span.start_time,
        "duration_ns": span.end_time - span.start_time,
        "status": "error" if span.status.status_code == StatusCode.ERROR else "ok",
        "attributes": {key: _plain(value) for key, value in (span.attributes or {}).items()},
    }


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return {"$bytes": "AP8="}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$double": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    return list(value) if isinstance(value, tuple) else value


def main(protocol: str, endpoint: str, compression: str) -> None:
    """Export the tree, and print the exported spans."""
    resource = Resource(
        {"service.name": "shop", "host.name": "desk", "process.pid": 42, "shelf": 1.5, "tags": ["a", "b"]}
    )
    provider = TracerProvider(resource=resource)
    kept = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    provider.add_span_processor(BatchSpanProcessor(make_exporter(protocol, endpoint, compression)))
    work(provider.get_tracer("shop.checkout", "1.2", "https://example.org/schema", {"team": "pay"}))
    assert provider.force_flush(20_000)
    provider.shutdown()
    spans = kept.get_finished_spans()
    exported = encode_spans(spans).SerializeToString().hex()
    print(json.dumps({"otlp": exported, "spans": [describe(span) for span in spans]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
