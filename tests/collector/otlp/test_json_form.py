"""OTLP as JSON: equivalence with protobuf, and errors for invalid JSON."""

import base64
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
from ztrace_collector.otlp.mapping.json_form import format_request, parse_pieces, parse_request
from ztrace_collector.refusals import ATTRIBUTES, DETAILS, LINKS, UTF8, Refusals

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
    """Values nested beyond protobuf's limit cost the innermost ones, and are counted."""
    value: Any = {"intValue": 1}
    for _ in range(60):
        value = {"arrayValue": {"values": [value]}}
    read, counts = mend(attributes=[{"key": "deep", "value": value}])
    assert counts == {ATTRIBUTES: 1}
    assert read.attributes[0].value.array_value.values[0].array_value.values


def mend(**changes: Any) -> tuple[Any, dict[str, int]]:
    """Return the span parsed from a JSON request, and the corrections by reason."""
    refusals = Refusals()
    document = {"resourceSpans": [{"scopeSpans": [{"spans": [SPAN_JSON | changes]}]}]}
    (read,) = spans_of(parse_request(json.dumps(document), refusals.note))
    return read, refusals.counts


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        # JavaScript writes 2**63 - 1 like this.
        ({"intValue": 9223372036854775808}, "9223372036854775808"),
        ({"intValue": "18446744073709551615"}, "18446744073709551615"),
        ({"intValue": -9223372036854775809}, "-9223372036854775809"),
        ({"intValue": 1.5}, "1.5"),
        ({"intValue": True}, "true"),
        ({"intValue": "ten"}, "ten"),
        ({"stringValue": 5}, "5"),
        ({"stringValue": ["a"]}, "an array of 1"),
        ({"boolValue": "yes"}, "yes"),
        ({"doubleValue": "much"}, "much"),
        ({"kvlistValue": 3}, "3"),
        ({"intValue": 1.5, "stringValue": "a"}, "1.5"),
        ("bare", "bare"),
        (7, "7"),
        (False, "false"),
    ],
)
def test_a_bad_value_of_an_attribute_is_kept_as_text(value: Any, kept: str) -> None:
    """A value that does not fit its type costs neither the attribute nor the request, and is counted."""
    attributes = [{"key": "n", "value": value}, {"key": "m", "value": {"intValue": 1}}]
    read, counts = mend(attributes=attributes)
    assert [pair.key for pair in read.attributes] == ["n", "m"]
    assert read.attributes[0].value.string_value == kept
    assert read.attributes[1].value.int_value == 1
    assert counts == {ATTRIBUTES: 1}


@pytest.mark.parametrize(
    ("value", "field", "kept"),
    [
        ({"intValue": 1e15}, "int_value", 10**15),
        ({"intValue": "12"}, "int_value", 12),
        ({"boolValue": "True", "stringValue": None}, "bool_value", True),
        ({"doubleValue": 1e400}, "double_value", float("inf")),
        ({"arrayValue": {"values": [{"boolValue": "false"}]}}, "array_value", None),
    ],
)
def test_other_spellings_of_a_value_are_read(value: Any, field: str, kept: Any) -> None:
    """A number in another notation and a boolean in quotes have their types, and count as nothing."""
    read, counts = mend(attributes=[{"key": "n", "value": value}])
    assert read.attributes[0].value.WhichOneof("value") == field
    assert kept is None or getattr(read.attributes[0].value, field) == kept
    assert counts == {}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": 5}, DETAILS),
        ({"name": {"a": 1}}, DETAILS),
        ({"kind": "sideways"}, DETAILS),
        ({"kind": "\ud800"}, DETAILS),
        ({"status": {"code": "\ud800"}}, DETAILS),
        ({"status": "bad"}, DETAILS),
        ({"status": {"code": 2.5}}, DETAILS),
        ({"flags": -1}, DETAILS),
        ({"traceState": ["a=b"]}, DETAILS),
        ({"droppedEventsCount": "some"}, DETAILS),
        ({"events": [None, {"name": "kept"}]}, DETAILS),
        ({"events": "none"}, DETAILS),
        ({"events": [{"name": "kept", "timeUnixNano": "noon"}]}, DETAILS),
        ({"links": {"traceId": TRACE.hex()}}, LINKS),
        ({"attributes": {"a": 1}}, ATTRIBUTES),
        ({"attributes": [None]}, ATTRIBUTES),
        ({"name": "\ud800"}, UTF8),
    ],
)
def test_a_bad_field_costs_the_field(changes: dict[str, Any], reason: str) -> None:
    """A field of the wrong type is left out and counted by reason; the span and the others stay."""
    read, counts = mend(**changes)
    assert (read.trace_id, read.start_time_unix_nano) == (TRACE, 1769860800000000000)
    assert counts == {reason: 1}


@pytest.mark.parametrize("value", [-1, "noon", 1.79e25, [], {}, True])
@pytest.mark.parametrize("field", ["startTimeUnixNano", "endTimeUnixNano"])
def test_a_bad_time_is_left_to_the_store(value: Any, field: str) -> None:
    """An invalid time is left out without a count, since the store refuses the span for it."""
    read, counts = mend(**{field: value})
    assert 0 in (read.start_time_unix_nano, read.end_time_unix_nano)
    assert counts == {}


def test_bad_fields_of_a_large_request_are_counted_once() -> None:
    """A request that is parsed in pieces has what is around its spans corrected once."""
    spans = [SPAN_JSON | {"spanId": f"{number:016x}"} for number in range(1, 6)]
    resource = {"attributes": [{"key": "n", "value": {"intValue": 1.5}}]}
    document = {"batches": [{"resource": resource, "instrumentationLibrarySpans": [{"spans": spans}]}]}
    refusals = Refusals()
    pieces = list(parse_pieces(json.dumps(document), 2, refusals.note))
    assert [len(list(spans_of(piece))) for piece in pieces] == [2, 2, 1]
    assert refusals.counts == {ATTRIBUTES: 1}


@pytest.mark.parametrize(
    "trace_id", [base64.b64encode(TRACE).decode(), base64.urlsafe_b64encode(TRACE).decode().rstrip("=")]
)
def test_ids_in_base64_are_read(trace_id: str) -> None:
    """Ids in protobuf's own JSON form, padded or not, are read as those in hex."""
    read = parse(traceId=trace_id, spanId=base64.b64encode(SPAN).decode())
    assert (read.trace_id, read.span_id) == (TRACE, SPAN)


@pytest.mark.parametrize("kind", ["SERVER", "server", "SPAN_KIND_SERVER", "2", 2, 2.0])
def test_enums_are_read_as_people_write_them(kind: Any) -> None:
    """An enum is read by number, by name, and by a name without its prefix."""
    read = parse(kind=kind, status={"code": "error"})
    assert (read.kind, read.status.code) == (2, 2)


@pytest.mark.parametrize("resources", ["resourceSpans", "resource_spans", "batches"])
@pytest.mark.parametrize(
    ("scopes", "scope"),
    [
        ("scopeSpans", "scope"),
        ("scope_spans", "scope"),
        ("instrumentationLibrarySpans", "instrumentationLibrary"),
        ("instrumentation_library_spans", "instrumentation_library"),
    ],
)
def test_other_names_of_the_lists_are_read(resources: str, scopes: str, scope: str) -> None:
    """The names of Tempo, of protobuf and of early versions of OTLP are read as today's."""
    span = {"trace_id": TRACE.hex(), "span_id": SPAN.hex(), "start_time_unix_nano": 1, "name": "charge"}
    request = parse_request(
        json.dumps({resources: [{"resource": {}, scopes: [{scope: {"name": "lib"}, "spans": [span]}]}]})
    )
    (read,) = request.resource_spans[0].scope_spans
    assert (read.scope.name, read.spans[0].trace_id, read.spans[0].start_time_unix_nano) == ("lib", TRACE, 1)


def test_bytes_that_are_not_utf8_cost_their_letter() -> None:
    """A name in Latin-1 has its letter replaced and counted; the request is read."""
    refusals = Refusals()
    text = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [SPAN_JSON | {"name": "caf!"}]}]}]})
    (read,) = spans_of(parse_request(text.encode().replace(b"caf!", b"caf\xe9"), refusals.note))
    assert (read.name, refusals.counts) == ("caf\ufffd", {UTF8: 1})


def test_an_endless_integer_costs_its_field() -> None:
    """An integer of more digits than Python reads is kept as text, cut like any other."""
    digits = "9" * 5000
    text = json.dumps(
        {
            "resourceSpans": [
                {
                    "scopeSpans": [
                        {"spans": [SPAN_JSON | {"attributes": [{"key": "n", "value": {"intValue": "$"}}]}]}
                    ]
                }
            ]
        }
    ).replace('"$"', digits)
    (read,) = spans_of(parse_request(text))
    assert read.attributes[0].value.string_value == digits
