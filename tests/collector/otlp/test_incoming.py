"""Conversion of OTLP requests to spans, and robustness against invalid ones."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.collector.messages import refusals, rows
from tests.collector.otlp.requests import (
    NOON_NS,
    SPAN,
    TRACE,
    make_request,
    make_span,
    put_in_order,
    send_all,
    spans_of,
    store_batches,
    take_in,
)
from ztrace import records
from ztrace.errors import OtlpError
from ztrace.records import ExceptionRecord, FrameRecord
from ztrace_collector.checking.parcels import ForeignBatch, Outcome
from ztrace_collector.otlp.mapping.incoming import parse_request, read_request
from ztrace_viewer.queries.exceptions import read_exceptions
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.traces import read_tree
from ztrace_viewer.queries.way import read_error

STACK = """Traceback (most recent call last):
  File "/srv/shop/pay.py", line 7, in pay
    charge(card)
  File "/usr/lib/python3.12/socket.py", line 9, in send
    raise OSError("gone")
OSError: gone

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/srv/shop/pay.py", line 9, in pay
    raise Declined("no") from error
shop.Declined: no
"""
OWN = {"telemetry.sdk.name": "ztrace", "service.instance.id": "ab" * 16}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path at which a database may be created."""
    return tmp_path / "traces.db"


def read(span: Span, **resource: Any) -> records.Span:
    """Return the span converted from an OTLP span."""
    ((only,),) = [batch.spans for batch in read_request(make_request(span, **resource))]
    return only


def failed(*events: dict[str, str], **changes: Any) -> Span:
    """Return a failed span, with an exception event for each mapping of attributes."""
    span = make_span(status=Status(code=Status.STATUS_CODE_ERROR), **changes)
    for attributes in events:
        event = span.events.add(name="exception", time_unix_nano=NOON_NS + 5)
        for key, value in attributes.items():
            event.attributes.add(key=key).value.string_value = value
    return span


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"trace_id": b""}, "trace_id"),
        ({"trace_id": bytes(16)}, "trace_id"),
        ({"trace_id": b"x" * 15}, "trace_id"),
        ({"span_id": bytes(8)}, "span_id"),
        ({"span_id": b"x" * 16}, "span_id"),
        ({"parent_span_id": b"x" * 7}, "parent_id"),
        ({"start_time_unix_nano": 0}, "time"),
        ({"end_time_unix_nano": 0}, "time"),
        ({"start_time_unix_nano": 1 << 63}, "time"),
        ({"end_time_unix_nano": (1 << 64) - 1}, "time"),
    ],
)
def test_a_span_that_cannot_be_placed_is_refused(path: Path, changes: dict[str, Any], reason: str) -> None:
    """A span with invalid ids or times is refused by reason, and the others are stored unchanged."""
    nested = AnyValue(int_value=1)
    for _ in range(5):
        outer = AnyValue()
        outer.array_value.values.append(nested)
        nested = outer
    good = make_span(span_id=b"goodgood")
    good.attributes.add(key="deep").value.CopyFrom(nested)
    (outcome,) = take_in(path, make_request(make_span(**changes), good))
    assert outcome == Outcome(stored=1, duplicates=0, refused={reason: 1})
    assert refusals(path) == {reason: 1}
    assert put_in_order(send_all(path)) == put_in_order(make_request(good))
    assert rows(path, "SELECT spans_created, spans_stored, spans_refused FROM publishers") == [
        {"spans_created": 2, "spans_stored": 1, "spans_refused": 1}
    ]


def test_a_parent_of_zeros_is_none() -> None:
    """A parent id of zeros is treated as none, as in OpenTelemetry's collector."""
    assert read(make_span(parent_span_id=bytes(8))).parent_id is None


def test_a_span_that_ends_before_it_begins_takes_no_time(path: Path) -> None:
    """A span that ends before its start has zero duration, is counted, and is sent on unchanged."""
    request = make_request(make_span(end_time_unix_nano=NOON_NS - 1))
    (outcome,) = take_in(path, request)
    assert outcome.stored == 1
    assert refusals(path) == {"end_before_start": 1}
    assert rows(path, "SELECT start_ns, duration_ns FROM spans") == [{"start_ns": NOON_NS, "duration_ns": 0}]
    assert put_in_order(send_all(path)) == put_in_order(request)


def test_a_kind_that_nobody_knows_is_unspecified() -> None:
    """An unknown kind is unspecified and counts as internal."""
    for kind in (0, 6, -1):
        span = read(make_span(kind=kind))
        assert (span.kind, span.details) == (1, {"kind": 0})


def test_an_event_of_an_exception_is_the_span_s_exception(path: Path) -> None:
    """The last exception event of a span becomes its exception, and all events are kept."""
    span = failed(
        {"exception.type": "KeyError", "exception.message": "tried again"},
        {"exception.type": "shop.Declined", "exception.message": "no", "exception.stacktrace": STACK},
    )
    take_in(path, make_request(span))
    with open_file(path) as db:
        exception = read_exceptions(db, TRACE)[SPAN]
        tree = read_tree(db, TRACE)
    assert (exception["type"], exception["message"], exception["how"]) == ("shop.Declined", "no", "raised")
    assert exception["origin"]
    assert [(frame["function"], frame["line"], frame["in_app"]) for frame in exception["frames"]] == [
        ("pay", 9, True)
    ]
    (cause,) = exception["causes"]
    assert (cause["type"], cause["how"]) == ("OSError", "wrapped")
    assert [frame["in_app"] for frame in cause["frames"]] == [True, False]
    assert tree["error_count"] == 1
    assert put_in_order(send_all(path)) == put_in_order(make_request(span))


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        ({"exception.type": "Boom"}, ("Boom", "")),
        ({"exception.message": "it broke"}, ("Exception", "it broke")),
        ({"exception.stacktrace": STACK}, ("shop.Declined", "no")),
        ({"exception.stacktrace": "at Shop.pay(Shop.java:12)"}, ("Exception", "")),
        ({}, None),
    ],
)
def test_whatever_an_event_tells_is_used(attributes: dict[str, str], wanted: tuple[str, str] | None) -> None:
    """An exception event without type or message is completed from its stack trace."""
    exception = read(failed(attributes)).exception
    assert (None if exception is None else (exception[0], exception[1])) == wanted


def test_an_exception_that_was_handled_is_an_event() -> None:
    """A span without an error has no exception, whatever its events."""
    span = failed({"exception.type": "KeyError"})
    span.status.Clear()
    kept = read(span)
    assert kept.exception is None
    assert (kept.details or {})["events"][0]["attributes"] == {"exception.type": "KeyError"}


def test_what_is_ztrace_s_is_taken_from_its_own_processes_alone() -> None:
    """ztrace's own attributes are read from its own processes only, and kept as attributes of others."""
    span = make_span()
    span.attributes.add(key="ztrace.self_ns").value.int_value = 5
    assert read(span).attributes == {"ztrace.self_ns": 5}
    home = read(span, **OWN)
    assert (home.self_ns, home.attributes, home.cpu_ns) == (5, None, None)


@pytest.mark.parametrize("text", ["", "7", "[]", "{}", "[" * 9999, '{"type": 7, "frames": [1], "causes": 3}'])
def test_what_only_looks_like_ztrace_s_stops_nothing(path: Path, text: str) -> None:
    """A malformed record of an exception is ignored or read in part."""
    span = failed({"exception.type": "KeyError", "ztrace.exception": text})
    span.attributes.add(key="ztrace.exception").value.string_value = text
    span.attributes.add(key="ztrace.self_ns").value.string_value = "soon"
    (outcome,) = take_in(path, make_request(span, **OWN))
    assert outcome.stored == 1


#: Parts of an exception's record, and values that may replace them.
_PARTS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just("ab" * 8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(st.sampled_from(ExceptionRecord._fields + FrameRecord._fields), inner, max_size=9),
    ),
    max_leaves=30,
)


@given(parts=_PARTS, how=st.sampled_from(["passed", "raised", ""]))
def test_whatever_a_record_is_made_of_it_stops_nothing(parts: Any, how: str) -> None:
    """Any record of an exception, at an origin or on its path, is read or ignored."""
    record = json.dumps({"type": "KeyError", "how": how} | parts if type(parts) is dict else parts)
    at_origin, passed = failed({"ztrace.exception": record}), failed()
    passed.attributes.add(key="ztrace.exception").value.string_value = record
    for span in (at_origin, passed):
        exception = read(span, **OWN).exception
        assert exception is None or type(exception[0]) is str


def test_who_takes_the_id_of_another_service_is_refused(path: Path) -> None:
    """A service that uses another service's instance id is refused."""
    take_in(path, make_request(make_span(), **OWN))
    span = make_span(span_id=b"x" * 8)
    (outcome,) = take_in(path, make_request(span, **OWN, **{"service.name": "bank"}))
    assert outcome.refused == {"incarnation": 1}


def test_links_that_are_none_are_left_out_and_the_others_keep_what_they_have(path: Path) -> None:
    """Invalid links are dropped, and the others keep their details."""
    span = make_span()
    for number, link_id in enumerate((b"one12345", b"", b"two12345")):
        link = span.links.add(trace_id=TRACE, span_id=link_id)
        link.attributes.add(key="number").value.int_value = number
    take_in(path, make_request(span))
    assert refusals(path) == {"links": 1}
    del span.links[1]
    span.dropped_links_count = 1
    assert put_in_order(send_all(path)) == put_in_order(make_request(span))


def test_parts_of_one_resource_are_one_batch() -> None:
    """Parts with the same resource are one batch."""
    request = ExportTraceServiceRequest()
    for number in range(3):
        request.MergeFrom(make_request(make_span(span_id=bytes([number + 1]) * 8)))
    (batch,) = read_request(request)
    assert isinstance(batch, ForeignBatch)
    assert len(batch.spans) == 3


def test_what_is_too_large_is_cut(path: Path) -> None:
    """An oversized attribute is cut, events are dropped, both are counted, and the span is stored."""
    span = make_span()
    items = span.attributes.add(key="many").value.array_value.values
    for _ in range(70_000):
        items.add().int_value = 1
    for _ in range(70_000):
        span.events.add(name="again")
    (outcome,) = store_batches(path, read_request(make_request(span, **{"service.name": "shop"})))
    assert outcome.stored == 1
    assert set(refusals(path)) == {"large_attributes", "large_details"}
    (stored,) = spans_of(send_all(path))
    assert len(stored.attributes[0].value.array_value.values) > 30_000
    assert stored.dropped_attributes_count == 1
    assert stored.dropped_events_count == 70_000 - len(stored.events)


@settings(max_examples=2 * settings().max_examples)
@given(body=st.binary(max_size=200))
@example(body=b"\x0a" * 5000)
def test_a_bad_body_is_one_error(body: bytes) -> None:
    """Any body is parsed or raises `OtlpError`."""
    request = ExportTraceServiceRequest()
    try:
        request = parse_request(body)
    except OtlpError:
        pass
    assert read_request(request) is not None


def test_values_nested_without_end_are_refused() -> None:
    """Values nested beyond protobuf's limit raise an error."""
    value = AnyValue(int_value=1).SerializeToString()
    for _ in range(120):  # Nested lists, made by hand because the library refuses to encode them.
        value = _field(5, _field(1, value))
    attribute = _field(1, b"deep") + _field(2, value)
    body = _field(1, _field(2, _field(2, _field(9, attribute))))
    with pytest.raises(OtlpError, match="protobuf"):
        parse_request(body)


def _field(number: int, content: bytes) -> bytes:
    """Return an encoded protobuf field with a length prefix."""
    length, rest = b"", len(content)
    while rest > 0x7F:
        length, rest = length + bytes([rest & 0x7F | 0x80]), rest >> 7
    return bytes([number << 3 | 2]) + length + bytes([rest]) + content


#: Stack traces as JavaScript, Go, Java, .NET and Ruby print them.
JAVASCRIPT = (
    "TypeError: x is not a function\n    at pay (/app/pay.js:4:17)\n    at async main (/app/main.js:1:1)"
)
GO = "goroutine 1 [running]:\nmain.charge(0x1)\n\t/app/main.go:12 +0x1d"
JAVA = "java.io.IOException: closed\n\tat shop.Net.read(Net.java:3)\nCaused by: java.lang.Error\n\t... 2 more"
DOTNET = "System.InvalidOperationException: no card\n   at Shop.Charge(Int32 n) in C:\\src\\Shop.cs:line 17"
RUBY = "app.rb:3:in `charge': no card (RuntimeError)\n\tfrom app.rb:7:in `<main>'"


def logged(**fields: str) -> Span:
    """Return a failed span with an error log of OpenTracing, which Jaeger stores as an event."""
    span = make_span(status=Status(code=Status.STATUS_CODE_ERROR))
    event = span.events.add(name="error", time_unix_nano=NOON_NS + 5)
    for key, value in fields.items():
        event.attributes.add(key=key.replace("_", ".")).value.string_value = value
    return span


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"error_kind": "KeyError", "message": "'x'", "stack": STACK}, ("KeyError", "'x'")),
        (
            {"error_kind": "TypeError", "error_object": "TypeError: no", "stack": JAVASCRIPT},
            ("TypeError", "no"),
        ),
        ({"error_object": "no card left"}, ("Exception", "no card left")),
        ({"message": "it broke"}, ("Exception", "it broke")),
        ({"stack": JAVASCRIPT}, ("TypeError", "x is not a function")),
        ({"stack": STACK}, ("shop.Declined", "no")),
        ({"level": "bad"}, None),
    ],
)
def test_an_error_log_of_opentracing_is_an_exception(
    fields: dict[str, str], wanted: tuple[str, str] | None
) -> None:
    """The log of a failed span with the event ``error`` is the span's exception."""
    exception = read(logged(**fields)).exception
    assert (None if exception is None else (exception[0], exception[1])) == wanted


@pytest.mark.parametrize(
    ("stack", "type_", "message"),
    [
        (JAVASCRIPT, "TypeError", "x is not a function"),
        (GO, "Exception", ""),
        (JAVA, "java.io.IOException", "closed"),
        (DOTNET, "System.InvalidOperationException", "no card"),
        (RUBY, "Exception", ""),
        (
            "java.lang.NullPointerException\n\tat shop.Net.read(Net.java:3)",
            "java.lang.NullPointerException",
            "",
        ),
    ],
)
def test_a_stack_trace_of_another_language_is_kept(path: Path, stack: str, type_: str, message: str) -> None:
    """A stack trace that is not Python's is the exception's text, and its first line names the exception."""
    take_in(path, make_request(failed({"exception.stacktrace": stack})))
    with open_file(path) as db:
        (root,) = read_tree(db, TRACE)["roots"]
        exception = root["exception"]
        assert exception is not None
        shown = read_error(db, exception["group"])["exception"]
    assert shown is not None
    for each in (exception, shown):
        assert (each["type"], each["message"], each["frames"], each["stack"]) == (type_, message, [], stack)


def test_a_python_stack_trace_has_frames_and_no_text(path: Path) -> None:
    """A stack trace that was read as frames is not repeated as text."""
    take_in(path, make_request(failed({"exception.stacktrace": STACK})))
    with open_file(path) as db:
        (root,) = read_tree(db, TRACE)["roots"]
    assert root["exception"] is not None
    assert root["exception"]["frames"]
    assert root["exception"]["stack"] is None
