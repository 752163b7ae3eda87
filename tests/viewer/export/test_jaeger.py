"""Jaeger's JSON: equal to the output of Jaeger's collector, and back without loss."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from tests.collector.otlp.requests import spans_of
from ztrace_collector.checking.messages import read_parcel
from ztrace_collector.checking.parcels import pack
from ztrace_collector.otlp.mapping.incoming import read_request
from ztrace_collector.refusals import (
    ATTRIBUTES,
    DETAILS,
    LINKS,
    PARENT_ID,
    SPAN_ID,
    TIME,
    TRACE_ID,
    UTF8,
    Refusals,
)
from ztrace_viewer.export.jaeger import TraceParts, make_traces
from ztrace_viewer.export.jaeger_reading import read_trace

TRACE = bytes.fromhex("01a2b3c4d5e6f708090a0b0c0d0e0f10")
PARENT, CHILD = bytes.fromhex("00000000000000a1"), bytes.fromhex("00000000000000a2")
START_NS = 1_769_860_800_000_001_234


def attribute(key: str, **value: Any) -> KeyValue:
    """Return an attribute with a value such as ``string_value="x"``."""
    return KeyValue(key=key, value=AnyValue(**value))


def request(*spans: Span, resource: Resource | None = None) -> ExportTraceServiceRequest:
    """Return a request of spans with one resource and one scope."""
    if resource is None:
        resource = Resource(attributes=[attribute("service.name", string_value="shop")])
    scopes = ScopeSpans(spans=spans)
    scopes.scope.name = "requests"
    return ExportTraceServiceRequest(resource_spans=[ResourceSpans(resource=resource, scope_spans=[scopes])])


def span(**fields: Any) -> Span:
    """Return a span of 5.5 µs."""
    made = {
        "trace_id": TRACE,
        "span_id": CHILD,
        "name": "GET /",
        "start_time_unix_nano": START_NS,
        "end_time_unix_nano": START_NS + 5_500,
    }
    return Span(**{**made, **fields})


def come_home(sent: ExportTraceServiceRequest) -> ExportTraceServiceRequest:
    """Return a request written as Jaeger's JSON and read back."""
    (trace,) = json.loads(json.dumps(make_traces([sent], exact=True)))
    refusals = Refusals()
    read = read_trace(trace, refusals.note)
    assert refusals.counts == {}
    return read


def test_a_span_becomes_what_jaeger_makes_of_it() -> None:
    """Tags, references and logs have Jaeger's names, types and order."""
    sent = span(
        parent_span_id=PARENT,
        kind=Span.SPAN_KIND_CLIENT,
        trace_state="vendor=1",
        attributes=[
            attribute("http.method", string_value="GET"),
            attribute("retries", int_value=2),
            attribute("big", int_value=1 << 60),
            attribute("share", double_value=0.5),
            attribute("cached", bool_value=False),
            attribute("raw", bytes_value=b"\x00\xff"),
            attribute(
                "sizes", array_value=ArrayValue(values=[AnyValue(int_value=1), AnyValue(double_value=2.5)])
            ),
        ],
        status=Status(code=Status.STATUS_CODE_ERROR, message="refused"),
        links=[Span.Link(trace_id=bytes(15) + b"\x01", span_id=PARENT)],
        events=[
            Span.Event(
                name="retry", time_unix_nano=START_NS + 1_000, attributes=[attribute("n", int_value=1)]
            )
        ],
    )
    (trace,) = make_traces([request(sent)])
    expected: object = {
        "traceID": TRACE.hex(),
        "spans": [
            {
                "traceID": TRACE.hex(),
                "spanID": "00000000000000a2",
                "operationName": "GET /",
                "references": [
                    {"refType": "CHILD_OF", "traceID": TRACE.hex(), "spanID": "00000000000000a1"},
                    {"refType": "FOLLOWS_FROM", "traceID": "0" * 31 + "1", "spanID": "00000000000000a1"},
                ],
                "startTime": 1_769_860_800_000_001,
                "duration": 5,
                "tags": [
                    {"key": "otel.scope.name", "type": "string", "value": "requests"},
                    {"key": "http.method", "type": "string", "value": "GET"},
                    {"key": "retries", "type": "int64", "value": 2},
                    {"key": "big", "type": "int64", "value": "1152921504606846976"},
                    {"key": "share", "type": "float64", "value": 0.5},
                    {"key": "cached", "type": "bool", "value": False},
                    {"key": "raw", "type": "binary", "value": "AP8="},
                    {"key": "sizes", "type": "string", "value": "[1,2.5]"},
                    {"key": "span.kind", "type": "string", "value": "client"},
                    {"key": "otel.status_code", "type": "string", "value": "ERROR"},
                    {"key": "error", "type": "bool", "value": True},
                    {"key": "otel.status_description", "type": "string", "value": "refused"},
                    {"key": "w3c.tracestate", "type": "string", "value": "vendor=1"},
                ],
                "logs": [
                    {
                        "timestamp": 1_769_860_800_000_002,
                        "fields": [
                            {"key": "event", "type": "string", "value": "retry"},
                            {"key": "n", "type": "int64", "value": 1},
                        ],
                    }
                ],
                "processID": "p1",
                "warnings": None,
            }
        ],
        "processes": {"p1": {"serviceName": "shop", "tags": []}},
        "warnings": None,
    }
    assert trace == expected


def test_what_ran_in_one_process_shares_it() -> None:
    """Processes are distinguished by their whole resource, and numbered in order of appearance."""
    host = Resource(
        attributes=[
            attribute("service.name", string_value="shop"),
            attribute("host.name", string_value="box"),
        ]
    )
    first, second = request(span()), request(span(span_id=PARENT), resource=host)
    (trace,) = make_traces([first, second, first])
    assert [each["processID"] for each in trace["spans"]] == ["p1", "p2", "p1"]
    assert trace["processes"]["p2"] == {
        "serviceName": "shop",
        "tags": [{"key": "host.name", "type": "string", "value": "box"}],
    }


_names = st.sampled_from(
    ["a", "b.c", "error", "span.kind", "hostname", "event", "ztrace.start_ns", "host.name"]
)
_scalars: st.SearchStrategy[AnyValue] = st.one_of(
    st.text(max_size=4).map(lambda value: AnyValue(string_value=value)),
    st.booleans().map(lambda value: AnyValue(bool_value=value)),
    st.integers(-(1 << 63), (1 << 63) - 1).map(lambda value: AnyValue(int_value=value)),
    st.floats(allow_nan=False).map(lambda value: AnyValue(double_value=value)),
    st.binary(max_size=4).map(lambda value: AnyValue(bytes_value=value)),
)
_values: st.SearchStrategy[AnyValue] = st.recursive(
    _scalars | st.just(AnyValue()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2).map(
            lambda values: AnyValue(array_value=ArrayValue(values=values)),
        ),
        st.dictionaries(_names, inner, max_size=2).map(
            lambda values: AnyValue(
                kvlist_value=KeyValueList(
                    values=[KeyValue(key=key, value=value) for key, value in values.items()]
                )
            )
        ),
    ),
    max_leaves=3,
)
_attributes = st.dictionaries(_names, _values, max_size=3).map(
    lambda values: [KeyValue(key=key, value=value) for key, value in values.items()]
)
_counts = st.sampled_from([0, 0, 0, 7])
_LONGEST_NS = 10**15
_times = st.integers(0, (1 << 63) - 1)
#: Ends of stored spans fit SQLite's integers.
_starts = st.integers(0, (1 << 63) - 1 - _LONGEST_NS)
_states = st.sampled_from(["", "a=1,b=2"])
_flags = st.sampled_from([0, 1, 0x301])
_ids = st.sampled_from([PARENT, bytes.fromhex("ff" * 8)])
_links = st.builds(
    Span.Link,
    trace_id=st.sampled_from([TRACE, bytes(15) + b"\x01"]),
    span_id=_ids,
    trace_state=_states,
    attributes=_attributes | st.just([]),
    flags=_flags,
    dropped_attributes_count=_counts,
)
_events = st.builds(
    Span.Event,
    name=st.sampled_from(["", "retry", "exception"]),
    time_unix_nano=_times,
    attributes=_attributes,
    dropped_attributes_count=_counts,
)
_spans = st.builds(
    lambda start_ns, duration_ns, **fields: Span(
        trace_id=TRACE, start_time_unix_nano=start_ns, end_time_unix_nano=start_ns + duration_ns, **fields
    ),
    start_ns=_starts,
    duration_ns=st.integers(0, _LONGEST_NS),
    span_id=_ids,
    parent_span_id=_ids | st.just(b""),
    name=st.text(max_size=4),
    kind=st.integers(0, 5),
    trace_state=_states,
    flags=_flags,
    attributes=_attributes,
    events=st.lists(_events, max_size=2),
    links=st.lists(_links, max_size=2),
    dropped_attributes_count=_counts,
    dropped_events_count=_counts,
    dropped_links_count=_counts,
    status=st.builds(Status, code=st.integers(0, 2), message=st.sampled_from(["", "why"])),
)


@settings(max_examples=3 * settings().max_examples)
@given(_spans, _attributes, st.sampled_from(["shop", "", None]))
def test_every_span_comes_home(sent: Span, process: list[KeyValue], service: str | None) -> None:
    """Any OTLP span with its resource survives a round trip through Jaeger's JSON."""
    named = [] if service is None else [attribute("service.name", string_value=service)]
    whole = request(sent, resource=Resource(attributes=[*named, *process]))
    assert come_home(whole) == whole


def test_what_jaegers_own_clients_send_is_read() -> None:
    """Short ids, errors as text, other references and old names of Jaeger's clients are read."""
    trace = {
        "traceID": "abc",
        "spans": [
            {
                "traceID": "abc",
                "spanID": "1",
                "operationName": "work",
                "references": [
                    {"refType": "FOLLOWS_FROM", "traceID": "abc", "spanID": "2"},
                    {"refType": "CHILD_OF", "traceID": "def", "spanID": "3"},
                ],
                "startTime": 1_769_860_800_000_000,
                "duration": 10.0,
                "tags": [
                    {"key": "error", "type": "string", "value": "true"},
                    {"key": "otel.library.name", "type": "string", "value": "old"},
                    {"key": "size", "type": "int64", "value": "9007199254740993"},
                    {"key": "share", "type": "float64", "value": 1},
                    {"key": "untyped", "value": 3},
                ],
                "logs": [{"timestamp": 1_769_860_800_000_001, "fields": [{"key": "message", "value": "hm"}]}],
                "processID": "p1",
            }
        ],
        "processes": {
            "p1": {
                "serviceName": "old",
                "tags": [{"key": "hostname", "type": "string", "value": "box"}],
            }
        },
    }
    refusals = Refusals()
    (resource_spans,) = read_trace(trace, refusals.note).resource_spans
    assert refusals.counts == {}
    assert list(resource_spans.resource.attributes) == [
        attribute("service.name", string_value="old"),
        attribute("host.name", string_value="box"),
    ]
    (scope_spans,) = resource_spans.scope_spans
    assert scope_spans.scope.name == "old"
    (found,) = scope_spans.spans
    assert (found.trace_id.hex(), found.span_id.hex()) == ("0" * 29 + "abc", "0" * 15 + "1")
    assert found.parent_span_id.hex() == "0" * 15 + "2"
    assert found.end_time_unix_nano - found.start_time_unix_nano == 10_000
    assert found.status.code == Status.STATUS_CODE_ERROR
    assert list(found.attributes) == [
        attribute("size", int_value=9007199254740993),
        attribute("share", double_value=1.0),
        attribute("untyped", string_value="3"),
    ]
    (link,) = found.links
    assert link.trace_id.hex() == "0" * 29 + "def"
    assert list(link.attributes) == [attribute("opentracing.ref_type", string_value="child_of")]
    (event,) = found.events
    assert (event.name, list(event.attributes)) == ("", [attribute("message", string_value="hm")])


def mend(change: dict[str, object]) -> tuple[Span, dict[str, int]]:
    """Return a span of Jaeger's after a change, and the corrections by reason."""
    (trace,) = json.loads(json.dumps(make_traces([request(span())])))
    trace["spans"][0].update(change)
    refusals = Refusals()
    (resource,) = read_trace(trace, refusals.note).resource_spans
    return resource.scope_spans[0].spans[0], refusals.counts


def tag(kind: str, value: object) -> dict[str, object]:
    """Return the tags of a span with one tag."""
    return {"tags": [{"key": "n", "type": kind, "value": value}]}


@pytest.mark.parametrize(
    ("kind", "value", "kept"),
    [
        ("int64", "18446744073709551615", "18446744073709551615"),
        ("int64", 9223372036854775808, "9223372036854775808"),
        ("int64", 1.5, "1.5"),
        ("int64", "x", "x"),
        ("int64", None, ""),
        ("float64", "much", "much"),
        ("bool", "perhaps", "perhaps"),
        ("binary", "not base64!!", "not base64!!"),
        ("binary", ["a"], "an array of 1"),
    ],
)
def test_a_tag_that_does_not_fit_its_type_is_kept_as_text(kind: str, value: object, kept: str) -> None:
    """The value of a tag costs its type alone, and is counted."""
    found, counts = mend(tag(kind, value))
    assert (list(found.attributes), counts) == ([attribute("n", string_value=kept)], {ATTRIBUTES: 1})


@pytest.mark.parametrize(
    ("kind", "value", "kept"),
    [
        ("int64", 9007199254740993, {"int_value": 9007199254740993}),
        ("int64", 1e15, {"int_value": 10**15}),
        ("int64", "7", {"int_value": 7}),
        ("bool", "True", {"bool_value": True}),
        ("float64", "1e3", {"double_value": 1000.0}),
        ("string", 3, {"string_value": "3"}),
        ("newtype", "a", {"string_value": "a"}),
    ],
)
def test_other_spellings_of_a_tag_are_read(kind: str, value: object, kept: dict[str, Any]) -> None:
    """Numbers and booleans in other notations, and unknown types, are read without a count."""
    found, counts = mend(tag(kind, value))
    assert (list(found.attributes), counts) == ([attribute("n", **kept)], {})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"operationName": 5}, DETAILS),
        ({"flags": "many"}, DETAILS),
        ({"duration": "long"}, DETAILS),
        ({"duration": None}, DETAILS),
        ({"duration": 1 << 63}, DETAILS),
        ({"processID": "p9"}, DETAILS),
        ({"logs": 5}, DETAILS),
        ({"logs": [5]}, DETAILS),
        ({"logs": [{"timestamp": "noon", "fields": []}]}, DETAILS),
        ({"tags": {"n": 1}}, ATTRIBUTES),
        ({"tags": [5]}, ATTRIBUTES),
        ({"tags": [{"key": 5, "value": "a"}]}, ATTRIBUTES),
        ({"references": 5}, LINKS),
        ({"tags": [{"key": "ztrace.otlp", "type": "string", "value": "{}"}]}, DETAILS),
        ({"operationName": "\ud800"}, UTF8),
    ],
)
def test_a_bad_field_costs_the_field(change: dict[str, object], reason: str) -> None:
    """A field of the wrong type is left out and counted by reason; the span and the others stay."""
    found, counts = mend(change)
    assert (len(found.trace_id), len(found.span_id), found.start_time_unix_nano > 0) == (16, 8, True)
    assert counts == {reason: 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"traceID": 5}, TRACE_ID),
        ({"traceID": "a" * 33}, TRACE_ID),
        ({"spanID": "xyz"}, SPAN_ID),
        ({"spanID": ""}, SPAN_ID),
        ({"parentSpanID": "xyz"}, PARENT_ID),
        ({"references": [{"refType": "CHILD_OF", "traceID": "1", "spanID": "xyz"}]}, PARENT_ID),
        ({"references": [{"refType": "CHILD_OF"}]}, PARENT_ID),
        ({"startTime": "now"}, TIME),
        ({"startTime": -1}, TIME),
        ({"startTime": None}, TIME),
        ({"startTime": 1e30}, TIME),
    ],
)
def test_a_bad_id_or_time_is_left_to_the_store(change: dict[str, object], reason: str) -> None:
    """A span without a place in its tree or without its time is refused by the store, with its reason."""
    (trace,) = json.loads(json.dumps(make_traces([request(span())])))
    trace["spans"][0].update(change)
    refusals = Refusals()
    for batch in read_request(read_trace(trace, refusals.note)):
        for parcel in pack(batch):
            assert read_parcel(parcel, refusals) is None
    assert refusals.counts == {reason: 1}


def test_a_negative_duration_is_an_end_before_the_start() -> None:
    """A span with a negative duration keeps the end that it was sent with."""
    found, counts = mend({"startTime": 1_769_860_800_000_000, "duration": -5, "tags": []})
    assert found.end_time_unix_nano - found.start_time_unix_nano == -5_000
    assert counts == {}


@pytest.mark.parametrize("value", ["1769860800000000", 1_769_860_800_000_000, 1.7698608e15])
def test_times_are_read_as_programs_write_them(value: object) -> None:
    """A time may be a number, a number with a fraction, or a text of digits."""
    found, counts = mend({"startTime": value, "duration": 0.5, "tags": []})
    start_ns = 1_769_860_800_000_000_000
    assert (found.start_time_unix_nano, found.end_time_unix_nano) == (start_ns, start_ns + 500)
    assert counts == {}


@pytest.mark.parametrize("is_carried", [True, False])
@pytest.mark.parametrize("parents", [[1], [2, 1], [2, 3, 1, 2]])
def test_a_circle_of_parents_has_a_root_in_a_file(parents: list[int], is_carried: bool) -> None:
    """Jaeger's page draws the earliest span of a circle as a root, and an import restores its parent."""
    spans = [
        span(
            span_id=number.to_bytes(8, "big"),
            parent_span_id=parent.to_bytes(8, "big"),
            start_time_unix_nano=START_NS + number,
            status=Status(),
            dropped_events_count=0 if is_carried else 1,
        )
        for number, parent in enumerate(parents, 1)
    ]
    parts = TraceParts(exact=True)
    made = list(parts.make_spans(request(*spans)))
    assert [each["spanID"] for each in made if not each["references"]] == [f"{1:016x}"]
    document = json.loads(json.dumps({"spans": made, "processes": parts.processes}))
    refusals = Refusals()
    assert list(spans_of(read_trace(document, refusals.note))) == spans
    assert refusals.counts == {}
