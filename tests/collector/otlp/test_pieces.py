"""Large requests cut into pieces: nothing is lost, and nothing is made of more than a piece."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.collector.otlp.requests import make_request, make_span, put_in_order
from ztrace.errors import OtlpError
from ztrace_collector.otlp.mapping import json_form, pieces
from ztrace_collector.otlp.mapping.pieces import LargeRequest, divide_bytes
from ztrace_collector.refusals import DETAILS, FIELDS, Refusals


def large_request() -> ExportTraceServiceRequest:
    """Return a request with several resources and scopes."""
    whole = make_request()
    for number in range(3):
        for scope in range(2):
            spans = [
                make_span(span_id=(100 * number + 50 * scope + each + 1).to_bytes(8, "big"), name="n" * each)
                for each in range(40)
            ]
            one = make_request(*spans).resource_spans[0]
            one.resource.attributes.add(key="number").value.int_value = number
            one.schema_url = f"https://example.org/{number}"
            one.scope_spans[0].scope.name = f"scope {scope}"
            whole.resource_spans.append(one)
    return whole


def join(parts: Sequence[ExportTraceServiceRequest]) -> ExportTraceServiceRequest:
    """Return the pieces as one request."""
    whole = ExportTraceServiceRequest()
    for part in parts:
        whole.MergeFrom(part)
    return whole


def refuse() -> None:
    """Fail: no span is to be left out."""
    raise AssertionError("a span was left out")


def test_bytes_are_divided_without_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pieces of a protobuf request hold its spans, each with its resource and scope."""
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1000)
    sent = large_request()
    parts = list(divide_bytes(sent.SerializeToString(), refuse))
    assert len(parts) > 5
    assert max(map(len, parts)) < 2000
    assert put_in_order(join([ExportTraceServiceRequest.FromString(part) for part in parts])) == put_in_order(
        sent
    )


def test_a_resource_behind_its_spans_is_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resource that stands behind its scopes goes to each piece."""
    monkeypatch.setattr(pieces, "PIECE_BYTES", 100)
    sent = large_request()
    first = sent.resource_spans[-1]
    resource, spans = type(first)(resource=first.resource), type(first)(scope_spans=first.scope_spans)
    body = spans.SerializeToString() + resource.SerializeToString()
    content = b"\x0a" + bytes((len(body) & 0x7F | 0x80, len(body) >> 7)) + body
    parts = [ExportTraceServiceRequest.FromString(part) for part in divide_bytes(content, refuse)]
    assert len(parts) > 2
    assert all(part.resource_spans[0].resource == first.resource for part in parts)


def test_a_span_that_is_too_large_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A span beyond the limit costs neither the request nor the spans beside it."""
    monkeypatch.setattr(pieces, "PIECE_BYTES", 100)
    monkeypatch.setattr(pieces, "MAX_SPAN_BYTES", 1000)
    left_out: list[None] = []
    sent = make_request(make_span(name="x" * 2000), make_span(name="small"))
    parts = list(divide_bytes(sent.SerializeToString(), lambda: left_out.append(None)))
    whole = join([ExportTraceServiceRequest.FromString(part) for part in parts])
    assert [span.name for span in whole.resource_spans[0].scope_spans[0].spans] == ["small"]
    assert len(left_out) == 1


@pytest.mark.parametrize(
    "unit",
    [
        pytest.param(b"\x0a\x00", id="resources"),
        pytest.param(b"\x0a\x02\x12\x00", id="scopes"),
        pytest.param(b"\x0a\x04\x12\x02\x12\x00", id="spans"),
        pytest.param(b"\xa0\x06\x01", id="unknown fields"),
    ],
)
def test_too_many_entries_are_refused(monkeypatch: pytest.MonkeyPatch, unit: bytes) -> None:
    """A body of countless empty entries is refused before any object is made of them."""
    monkeypatch.setattr(pieces, "PIECE_BYTES", 100)
    with pytest.raises(LargeRequest):
        list(divide_bytes(unit * (pieces.MAX_ENTRIES + 1), refuse))


def test_a_resource_that_is_too_large_is_refused() -> None:
    """A resource that each piece would have to repeat is refused."""
    sent = large_request()
    sent.resource_spans[0].resource.attributes.add(key="k").value.string_value = "x" * (1 << 20)
    with pytest.raises(LargeRequest):
        list(divide_bytes(sent.SerializeToString(), refuse))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\x0a\xff\x01" + bytes(9), id="ends too early"),
        pytest.param(b"\x0a" + b"\xff" * 20, id="endless varint"),
        pytest.param(b"\xa3\x06\xa4\x06" * 9, id="groups"),
        pytest.param(b"\x0a\x02\x12\x07" + bytes(20), id="part beyond its whole"),
    ],
)
def test_what_is_no_message_is_refused(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Bytes that are not protobuf are refused in pieces, as they are as a whole."""
    monkeypatch.setattr(pieces, "PIECE_BYTES", 4)
    with pytest.raises(OtlpError):
        list(divide_bytes(content, refuse))


def test_json_is_divided_without_loss() -> None:
    """The pieces of a JSON request hold its spans, each with its resource and scope."""
    sent = large_request()
    text = json_form.format_request(sent)
    parts = list(json_form.parse_pieces(text, 7))
    assert [sum(len(s.spans) for r in part.resource_spans for s in r.scope_spans) for part in parts] == [
        7
    ] * 34 + [2]
    assert put_in_order(join(parts)) == put_in_order(sent)


@pytest.mark.parametrize(
    "content",
    [
        {"resourceSpans": [7]},
        {"resourceSpans": [{"scopeSpans": 7}]},
        {"resourceSpans": [{"scopeSpans": [7]}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": 7}]}]},
    ],
)
def test_json_of_wrong_types_is_refused(content: object) -> None:
    """A wrong type of the lists around the spans of a large JSON request is refused."""
    with pytest.raises(OtlpError):
        list(json_form.parse_pieces(json.dumps(content), 7))


#: Resource with one span.
GOOD: dict[str, Any] = {"scopeSpans": [{"spans": [{}]}]}


@pytest.mark.parametrize(
    "resources",
    [
        [None, GOOD],
        [7, GOOD],
        [{"scopeSpans": 7}, GOOD],
        [{"scopeSpans": [None]}, GOOD],
        [{"scopeSpans": [{"spans": {}}, *GOOD["scopeSpans"]]}],
    ],
)
def test_a_wrong_list_beside_spans_costs_itself(resources: object) -> None:
    """A resource, a scope or a list of spans of a wrong type is refused, and the others are read."""
    text = json.dumps({"resourceSpans": resources})
    whole, in_pieces = Refusals(), Refusals()
    (piece,) = json_form.parse_pieces(text, 7, in_pieces.note)
    for part in (json_form.parse_request(text, whole.note), piece):
        assert sum(len(s.spans) for r in part.resource_spans for s in r.scope_spans) == 1
    assert whole.counts == in_pieces.counts == {FIELDS: 1}


@pytest.mark.parametrize(
    ("scope", "reason"), [({"spans": [7, {}]}, FIELDS), ({"spans": [{}], "scope": 7}, DETAILS)]
)
def test_a_wrong_type_beside_spans_costs_itself(scope: object, reason: str) -> None:
    """A span of a wrong type is refused, and a scope of a wrong type is left out; the others are read."""
    refusals = Refusals()
    text = json.dumps({"resourceSpans": [{"scopeSpans": [scope]}]})
    (part,) = json_form.parse_pieces(text, 7, refusals.note)
    assert len(part.resource_spans[0].scope_spans[0].spans) == 1
    assert refusals.counts == {reason: 1}
