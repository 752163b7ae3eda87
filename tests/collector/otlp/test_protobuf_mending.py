"""Protobuf requests with texts that are not UTF-8: read, with the bad bytes replaced and counted."""

import pytest
from hypothesis import given, settings
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.collector.otlp.requests import make_request, make_span, requests, spans_of
from ztrace.errors import OtlpError
from ztrace_collector.otlp.mapping.incoming import parse_request
from ztrace_collector.otlp.mapping.protobuf_mending import mend_texts
from ztrace_collector.refusals import UTF8, Refusals


def test_a_text_that_is_not_utf8_costs_its_bytes() -> None:
    """A name, a key, a value, an event and a service in Latin-1 are kept, each with its letter replaced."""
    span = make_span(name="caf!")
    span.attributes.add(key="k!").value.string_value = "v!"
    span.attributes.add(key="list").value.array_value.values.add().string_value = "in!"
    span.events.add(name="e!", time_unix_nano=1)
    sent = make_request(span, make_span(span_id=b"another!"))
    refusals = Refusals()
    body = sent.SerializeToString().replace(b"another!", b"anotherx").replace(b"!", b"\xe9")
    read, other = spans_of(parse_request(body, refusals.note))
    assert refusals.counts == {UTF8: 5}
    assert (read.name, read.attributes[0].key, read.events[0].name) == ("caf\ufffd", "k\ufffd", "e\ufffd")
    assert read.attributes[0].value.string_value == "v\ufffd"
    assert read.attributes[1].value.array_value.values[0].string_value == "in\ufffd"
    assert (read.span_id, other.span_id) == (span.span_id, b"anotherx")


@settings(max_examples=settings().max_examples // 4)
@given(request=requests())
def test_a_request_of_valid_texts_is_unchanged(request: ExportTraceServiceRequest) -> None:
    """The walk copies everything but texts that are not UTF-8."""
    refusals = Refusals()
    mended = mend_texts(request.SerializeToString(), refusals.note)
    assert ExportTraceServiceRequest.FromString(mended) == request
    assert refusals.counts == {}


@pytest.mark.parametrize(
    "body", [b"\xff\xff", b"\x0a", b"\x0a\x05ab", b"\x80" * 20, b"\x0b", b"\x09abc", b"\x0f"]
)
def test_what_is_no_protobuf_is_refused(body: bytes) -> None:
    """Bytes that are no request raise an error, after the walk as before."""
    with pytest.raises(OtlpError):
        parse_request(body)
