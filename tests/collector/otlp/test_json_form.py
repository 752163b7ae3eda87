"""OTLP as JSON: equivalence with protobuf, and errors for invalid JSON."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.collector.otlp.requests import (
    SPAN,
    TRACE,
    make_request,
    make_span,
    put_in_order,
    requests,
    spans_of,
)
from ztrace.errors import OtlpError
from ztrace_collector.otlp.mapping.incoming import read_request
from ztrace_collector.otlp.mapping.json_form import format_request, parse_request

#: Span as sent by a browser's SDK.
SPAN_JSON: dict[str, Any] = {
    "traceId": TRACE.hex(),
    "spanId": SPAN.hex(),
    "name": "charge",
    "kind": 2,
    "startTimeUnixNano": "1769860800000000000",
    "endTimeUnixNano": "1769860800010000000",
    "status": {},
}


def parse(**changes: Any) -> Any:
    """Return the span parsed from a JSON request."""
    span = {key: value for key, value in (SPAN_JSON | changes).items() if value is not ...}
    document = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
    (read,) = spans_of(parse_request(json.dumps(document).encode()))
    return read


@settings(max_examples=settings().max_examples // 2)
@given(request=requests())
def test_json_says_what_protobuf_says(request: ExportTraceServiceRequest) -> None:
    """A request is the same through JSON as through protobuf, and its JSON is one line."""
    text = format_request(request)
    assert "\n" not in text
    for written in (text, text.encode()):
        assert put_in_order(parse_request(written)) == put_in_order(request)


def test_the_form_is_that_of_the_specification() -> None:
    """The JSON has hex ids, numeric enums, 64-bit integers as texts, and lowerCamelCase names."""
    span = make_span(parent_span_id=b"p" * 8)
    span.links.add(trace_id=TRACE, span_id=SPAN)
    span.attributes.add(key="amount").value.int_value = 3
    span.attributes.add(key="raw").value.bytes_value = b"\xff"
    document = json.loads(format_request(make_request(span)))
    (written,) = document["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert written == {
        "traceId": TRACE.hex(),
        "spanId": SPAN.hex(),
        "parentSpanId": (b"p" * 8).hex(),
        "name": "charge",
        "kind": 2,
        "startTimeUnixNano": "1769860800000000000",
        "endTimeUnixNano": "1769860800010000000",
        "attributes": [
            {"key": "amount", "value": {"intValue": "3"}},
            {"key": "raw", "value": {"bytesValue": "/w=="}},
        ],
        "links": [{"traceId": TRACE.hex(), "spanId": SPAN.hex()}],
    }


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"startTimeUnixNano": 1769860800000000000}, {}),
        ({"kind": "SPAN_KIND_SERVER"}, {}),
        ({"traceId": TRACE.hex().upper()}, {}),
        ({"somethingNew": {"deep": [1, {}]}, "kind": 2}, {}),
        ({"parentSpanId": ""}, {}),
        ({"parentSpanId": None}, {}),
        ({"status": {"code": 2, "message": "no"}}, {"status": {"code": 2, "message": "no"}}),
        ({"status": {"code": "STATUS_CODE_ERROR"}}, {"status": {"code": 2}}),
        ({"traceState": "a=b", "flags": 257}, {"trace_state": "a=b", "flags": 257}),
    ],
)
def test_what_senders_may_write_is_read(changes: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Integers as numbers, enums by name, upper-case ids and unknown fields are accepted."""
    read = parse(**({"status": ...} | changes))
    assert read == make_span(**wanted)


@pytest.mark.parametrize("value", ["", "xyz", "0" * 32, 7, [], "0x00", TRACE.hex()[:-2]])
def test_a_bad_id_costs_its_span_alone(value: Any) -> None:
    """An invalid id is passed on as invalid, so the store refuses only its span."""
    span = read_request(make_request(parse(traceId=value)))[0].spans[0]
    assert len(span.trace_id) != 16 or not any(span.trace_id)
    assert span.span_id == SPAN


def test_a_bad_parent_is_no_root() -> None:
    """An invalid parent id is passed on as invalid, not as absent."""
    span = read_request(make_request(parse(parentSpanId="nothing")))[0].spans[0]
    assert span.parent_id is not None
    assert len(span.parent_id) != 8


#: Known field names, so that generated documents reach the inner checks.
_NAMES = (
    *(
        "resourceSpans",
        "scopeSpans",
        "spans",
        "traceId",
        "spanId",
        "parentSpanId",
        "links",
        "attributes",
        "key",
    ),
    *("value", "intValue", "bytesValue", "arrayValue", "kvlistValue", "values", "events", "status", "code"),
)
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(_NAMES), inner, max_size=3)
    ),
    max_leaves=25,
)


@given(content=st.one_of(st.binary(max_size=40), _JSON.map(lambda value: json.dumps(value).encode())))
@example(content=b"[" * 100_000)
@example(content=b'{"resourceSpans":' * 5_000)
@example(
    content=b'{"resourceSpans":[{"resource":{"attributes":[{"key":"a","value":{"stringValue":"\\ud800"}}]}}]}'
)
@example(content=b"9" * 10_000)
def test_bad_json_is_one_error(content: bytes) -> None:
    """Any JSON is parsed or raises a one-line `OtlpError`."""
    request = said = None
    try:
        request = parse_request(content)
    except OtlpError as error:
        said = str(error)
    assert (said is None) != (request is None)
    assert "\n" not in (said or "")
    assert read_request(request or ExportTraceServiceRequest()) is not None


def test_deep_values_are_bounded() -> None:
    """Values nested beyond protobuf's limit raise an error."""
    value: Any = {"intValue": 1}
    for _ in range(60):
        value = {"arrayValue": {"values": [value]}}
    with pytest.raises(OtlpError, match="JSON"):
        parse(attributes=[{"key": "deep", "value": value}])
