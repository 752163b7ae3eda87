"""Zipkin's JSON as OTLP: fields, shared ids, and values that are corrected."""

from collections.abc import Iterable
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from ztrace_collector.refusals import ATTRIBUTES, DETAILS, FIELDS, Refusals
from ztrace_viewer.export.zipkin_reading import read_trace

START_US = 1_472_470_996_199_000


def zipkin(**changes: Any) -> dict[str, Any]:
    """Return a span as Zipkin's specification shows it."""
    return {
        "traceId": "5982fe77008310cc80f1da5e10147517",
        "id": "bd7a977555f6b982",
        "name": "get /api",
        "timestamp": START_US,
        "duration": 207_000,
        "localEndpoint": {"serviceName": "frontend", "ipv4": "127.0.0.1", "port": 80},
    } | changes


def read(*spans: Any, counts: dict[str, int] | None = None) -> dict[str, list[Span]]:
    """Return the spans by service, after an assertion of what was counted."""
    refusals = Refusals()
    request = read_trace(spans, refusals.note)
    assert refusals.counts == (counts or {})
    return {
        resource.resource.attributes[0].value.string_value: list(resource.scope_spans[0].spans)
        for resource in request.resource_spans
    }


def plain(attributes: Iterable[Any]) -> dict[str, Any]:
    """Return attributes as a dictionary."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in attributes}


def test_a_span_becomes_a_span_of_otlp() -> None:
    """Every field of a span has its place in OTLP."""
    sent = zipkin(
        parentId="a1",
        kind="CLIENT",
        remoteEndpoint={"serviceName": "backend", "ipv4": "10.0.0.1", "port": 8080},
        annotations=[{"timestamp": START_US + 7, "value": "retry"}],
        tags={"http.method": "GET"},
    )
    ((found,),) = read(sent).values()
    assert (found.trace_id.hex(), found.span_id.hex(), found.parent_span_id.hex()) == (
        sent["traceId"],
        sent["id"],
        "00000000000000a1",
    )
    assert (found.name, found.kind) == ("get /api", Span.SPAN_KIND_CLIENT)
    assert found.start_time_unix_nano == START_US * 1000
    assert found.end_time_unix_nano == (START_US + 207_000) * 1000
    assert plain(found.attributes) == {
        "http.method": "GET",
        "peer.service": "backend",
        "network.peer.address": "10.0.0.1",
        "network.peer.port": 8080,
    }
    (event,) = found.events
    assert (event.name, event.time_unix_nano) == ("retry", (START_US + 7) * 1000)


def test_a_tag_says_that_a_span_failed() -> None:
    """The tag ``error`` is the status, and its value the message."""
    ((found,),) = read(zipkin(tags={"error": "no card"})).values()
    assert (found.status.code, found.status.message) == (Status.STATUS_CODE_ERROR, "no card")
    assert not found.attributes


def test_ids_of_64_bits_are_read() -> None:
    """A short trace id has zeros before it."""
    ((found,),) = read(zipkin(traceId="1e223ff1f80f1c69")).values()
    assert found.trace_id.hex() == "0" * 16 + "1e223ff1f80f1c69"


def test_the_two_halves_of_a_shared_id_are_two_spans() -> None:
    """The server's half of a call is a child of the client's, and the parent of its service's calls."""
    service = {"localEndpoint": {"serviceName": "backend"}}
    spans = read(
        zipkin(kind="CLIENT"),
        zipkin(kind="SERVER", shared=True, **service),
        zipkin(id="b1", parentId="bd7a977555f6b982", **service),
        zipkin(id="f1", parentId="bd7a977555f6b982"),
    )
    client, beside = spans["frontend"]
    server, below = spans["backend"]
    assert client.span_id not in (server.span_id, b"")
    assert (server.parent_span_id, below.parent_span_id) == (client.span_id, server.span_id)
    assert beside.parent_span_id == client.span_id


def test_a_shared_half_alone_keeps_its_id() -> None:
    """A server whose client reports elsewhere has the id and the parent that were sent."""
    ((found,),) = read(zipkin(kind="SERVER", shared=True, parentId="a1")).values()
    assert (found.span_id.hex(), found.parent_span_id.hex()) == ("bd7a977555f6b982", "00000000000000a1")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": 5}, DETAILS),
        ({"duration": "long"}, DETAILS),
        ({"duration": None}, DETAILS),
        ({"tags": [1]}, ATTRIBUTES),
        ({"tags": {"n": 1}}, ATTRIBUTES),
        ({"annotations": {"value": "a"}}, DETAILS),
        ({"localEndpoint": "frontend"}, ATTRIBUTES),
    ],
)
def test_a_bad_field_costs_the_field(change: dict[str, Any], reason: str) -> None:
    """A field of the wrong type is left out and counted by reason; the span stays."""
    ((found,),) = read(zipkin(**change), counts={reason: 1}).values()
    assert found.start_time_unix_nano == START_US * 1000


def test_what_is_no_span_is_refused() -> None:
    """An element that is not an object is a refused span."""
    assert len(read(zipkin(), 5, counts={FIELDS: 1})) == 1
