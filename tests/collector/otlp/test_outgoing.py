"""Conversion of stored spans to OTLP: names, kinds, resources, exceptions and links, by the conventions."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

import ztrace
from tests.collector.otlp.requests import read_all, send_all, spans_of, take_in
from tests.viewer.stored import (
    MS,
    NOON,
    checkout,
    message,
    raised,
    span,
    span_id,
    store,
    trace_id,
    travelled,
)
from ztrace import records
from ztrace_collector.otlp.mapping.outgoing import Builder
from ztrace_collector.otlp.mapping.reading import read_after, read_process, read_traces, read_unfinished
from ztrace_collector.sealing.reading import add_views
from ztrace_collector.storing.store import Store
from ztrace_collector.tables.methods import MAX_METHODS
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.traces import read_tree

TRACE = trace_id(1)


def values(pairs: Sequence[KeyValue]) -> dict[str, Any]:
    """Return attributes that are not nested, as a mapping."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "key") for pair in pairs}


def send(path: Path, *spans: records.Span) -> Span:
    """Store spans, and return the first as sent."""
    store(path, {"shop": spans})
    return next(iter(spans_of(send_all(path))))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path at which a database may be created."""
    return tmp_path / "traces.db"


def test_a_call_is_named_after_its_method(path: Path) -> None:
    """A call's span has the method as name and as `rpc.method`, since zerorpc names no interface."""
    called = span(TRACE, 2, 1, name="charge", kind="client", attributes={"rpc.system.name": "zerorpc"})
    sent = send(path, called._replace(self_ns=700_000))
    assert (sent.name, sent.kind, sent.flags) == ("charge", Span.SPAN_KIND_CLIENT, 1)
    assert (sent.trace_id, sent.span_id, sent.parent_span_id) == (TRACE, span_id(2), span_id(1))
    assert (sent.start_time_unix_nano, sent.end_time_unix_nano) == (NOON, NOON + MS)
    assert values(sent.attributes) == {
        "rpc.system.name": "zerorpc",
        "rpc.method": "charge",
        "ztrace.self_ns": 700_000,
    }
    assert sent.status == Status()


def test_the_method_of_other_libraries_is_theirs(path: Path) -> None:
    """The attributes of another RPC library are sent unchanged."""
    sent = send(path, span(TRACE, 1, attributes={"rpc.system.name": "grpc", "rpc.method": "Bank/Pay"}))
    assert values(sent.attributes)["rpc.method"] == "Bank/Pay"
    bare = send(path.with_name("bare.db"), span(TRACE, 1, attributes={"rpc.system.name": "grpc"}))
    assert "rpc.method" not in values(bare.attributes)


@pytest.mark.parametrize(("kind", "operation"), [("producer", "send"), ("consumer", "process")])
def test_a_message_is_named_by_what_is_done_with_it(path: Path, kind: str, operation: str) -> None:
    """A message's span is named `{operation} {destination}` and has the matching attributes."""
    sent = send(path, span(TRACE, 1, name="ship", kind=kind, attributes={"messaging.system": "zerorpc"}))
    assert sent.name == f"{operation} ship"
    assert values(sent.attributes) == {
        "messaging.system": "zerorpc",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": "ship",
        "ztrace.name": "ship",
        "ztrace.self_ns": MS,
    }


def test_the_version_of_a_process_goes_along(path: Path) -> None:
    """A process's version is an attribute of its resource, here and as sent."""
    called = span(TRACE, 1, name="charge")
    with Store(path) as opened:
        opened.store([message("shop", [called], service_version="1.2")])
    (resource,) = send_all(path).resource_spans
    sent = values(resource.resource.attributes)
    assert (sent["service.name"], sent["service.version"]) == ("shop", "1.2")
    with open_file(path) as file:
        (root,) = read_tree(file, TRACE)["roots"]
    assert root["resource"] == {"service.version": "1.2"}
    take_in(path.with_name("copy.db"), send_all(path))
    assert send_all(path.with_name("copy.db")) == send_all(path)


def test_links_go_along(path: Path) -> None:
    """A span's links are sent."""
    sent = send(path, span(TRACE, 1, kind="consumer")._replace(links=[[trace_id(2), span_id(7)]]))
    assert [(link.trace_id, link.span_id) for link in sent.links] == [(trace_id(2), span_id(7))]


def test_a_process_is_a_resource(path: Path) -> None:
    """Each process is a resource with its identity, and its spans have the scope ztrace."""
    store(path, {"shop": [span(TRACE, 1), span(TRACE, 2, 1)], "bank": [span(TRACE, 3, 2)]})
    request = send_all(path)
    assert [len(resource.scope_spans[0].spans) for resource in request.resource_spans] == [2, 1]
    shop = request.resource_spans[0]
    attributes = values(shop.resource.attributes)
    incarnation, pid = attributes.pop("service.instance.id"), attributes.pop("process.pid")
    assert len(incarnation) == 32
    assert pid > 1000
    assert attributes == {
        "service.name": "shop",
        "host.name": "box",
        "telemetry.sdk.name": "ztrace",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": ztrace.__version__,
        "ztrace.started_ns": NOON,
    }
    scope = shop.scope_spans[0].scope
    assert (scope.name, scope.version) == ("ztrace", ztrace.__version__)


def test_an_exception_is_told_where_it_began(path: Path) -> None:
    """An exception is an event with a stack trace at its origin, and a reference elsewhere."""
    store(path, checkout(TRACE))
    sent = {each.span_id: each for each in spans_of(send_all(path))}
    origin = sent[span_id(9)]
    (event,) = origin.events
    told = values(event.attributes)
    assert (event.name, event.time_unix_nano) == ("exception", origin.end_time_unix_nano)
    assert (told["exception.type"], told["exception.message"]) == ("ZeroDivisionError", "division by zero")
    assert told["exception.stacktrace"].startswith("Traceback (most recent call last):\n")
    assert told["exception.stacktrace"].endswith(
        '  File "/srv/shop/stock.py", line 12, in Stock._ratio\n    return wanted / left\n'
        "ZeroDivisionError: division by zero"
    )
    group = values(origin.attributes)["ztrace.exception.group"]
    for number, how, type_ in ((8, "passed", "ZeroDivisionError"), (7, "wrapped", "billing.PaymentError")):
        on_the_way = sent[span_id(number)]
        attributes = values(on_the_way.attributes)
        assert not on_the_way.events
        assert attributes["ztrace.exception.how"] == how
        assert attributes["ztrace.exception.origin.trace_id"] == TRACE.hex()
        assert attributes["ztrace.exception.origin.span_id"] == span_id(9).hex()
        assert attributes["ztrace.exception.group"] == group
        assert attributes["error.type"] == type_
        assert "_ratio" not in str(on_the_way)
    for number in (6, 7, 8, 9):
        assert sent[span_id(number)].status.code == Status.STATUS_CODE_ERROR
    assert sent[span_id(7)].status.message == "billing.PaymentError: no stock"
    assert sent[span_id(1)].status == Status()


def test_an_error_without_an_exception_is_one(path: Path) -> None:
    """A failed span without an exception has an error status and no event."""
    sent = send(path, span(TRACE, 1, status=records.ERROR))
    assert sent.status == Status(code=Status.STATUS_CODE_ERROR)
    assert not sent.events


def test_an_error_type_that_is_known_stays(path: Path) -> None:
    """An existing `error.type` is kept."""
    failed = span(TRACE, 1, attributes={"error.type": "timeout"}, exception=raised("KeyError", ""))
    sent = send(path, failed)
    assert values(sent.attributes)["error.type"] == "timeout"
    assert sent.status.message == "KeyError"


def test_values_keep_their_types(path: Path) -> None:
    """Attribute values keep their types, and integers beyond 64 bits become text."""
    kept = {"raw": b"\0\xff", "one": 1, "float": 1.0, "far": float("inf"), "yes": True, "none": None}
    sent = send(path, span(TRACE, 1, attributes=kept | {"huge": (1 << 64) - 1}))
    told = {pair.key: pair.value for pair in sent.attributes}
    kinds = {key: value.WhichOneof("value") for key, value in told.items()}
    assert kinds == {
        "raw": "bytes_value",
        "one": "int_value",
        "float": "double_value",
        "far": "double_value",
        "yes": "bool_value",
        "none": None,
        "huge": "string_value",
        "ztrace.self_ns": "int_value",
    }
    assert told["raw"].bytes_value == b"\0\xff"
    assert told["huge"].string_value == str((1 << 64) - 1)


def test_a_name_too_many_leaves_with_its_own(path: Path) -> None:
    """A span stored under `(other)` is sent under its own name."""
    spans = [span(TRACE, number + 1, name=f"user {number}") for number in range(MAX_METHODS + 2)]
    store(path, {"shop": spans})
    assert {one.name for one in read_all(path)} >= {"(other)"}
    sent = list(spans_of(send_all(path)))
    assert [each.name for each in sent] == [each.name for each in spans]
    assert all("ztrace.name" not in values(each.attributes) for each in sent)


def test_spans_are_read_in_the_order_of_storing(path: Path) -> None:
    """Spans are read in the order of storing from a given position, with their exceptions."""
    store(path, checkout(TRACE))
    with closing(sqlite3.connect(path)) as db:
        add_views(db)
        first = read_after(db, 0, 5)
        rest = read_after(db, first[-1].id, 100)
        assert [one.id for one in first + rest] == list(range(1, 10))
        assert read_after(db, rest[-1].id, 100) == []
        assert read_traces(db, [TRACE, trace_id(7)]) == first + rest
        assert {one.span_id for one in first + rest if one.exception} == set(map(span_id, (6, 7, 8, 9)))


def test_an_unfinished_span_says_so(path: Path) -> None:
    """An unfinished span, sent on request, lasts until its last report and is marked."""
    store(path, {"shop": [span(TRACE, 1, duration_ms=None)]}, at_ns=NOON + 3 * MS)
    with closing(sqlite3.connect(path)) as db:
        (open_span,) = read_unfinished(db, [TRACE])
        (sent,) = spans_of(Builder(partial(read_process, db)).request([open_span]))
    assert open_span.status == records.UNFINISHED
    assert sent.end_time_unix_nano - sent.start_time_unix_nano == 3 * MS
    assert values(sent.attributes) == {"ztrace.unfinished": True}


def test_what_another_program_wrote_stops_nothing(path: Path) -> None:
    """Columns with invalid or unexpected JSON are ignored."""
    store(path, {"shop": [span(TRACE, 1, exception=raised("KeyError", "no"))]})
    for text in ("", "[", "7", "[]", json.dumps({"events": [7, {}], "links": {}, "scope": [], "dropped": 1})):
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE spans SET attributes = ?, details = ?, links = ?", (text, text, text))
            db.execute("UPDATE instances SET resource = ?", (text,))
            db.execute("UPDATE exceptions SET frames = ?, causes = ?, notes = ?", (text, text, text))
        (sent,) = spans_of(send_all(path))
        assert sent.span_id == span_id(1)


def test_the_same_is_built_of_what_is_kept(path: Path) -> None:
    """A builder's second request equals its first, and includes processes added since."""
    store(path, {"shop": [span(TRACE, 1, attributes={"rpc.system.name": "zerorpc"})]})
    with closing(sqlite3.connect(path)) as db:
        builder = Builder(partial(read_process, db))
        first = builder.request(read_after(db, 0, 10))
        assert builder.request(read_after(db, 0, 10)) == first
        failure = travelled("KeyError", "no", records.PASSED, (TRACE, 1))
        store(path, {"bank": [span(TRACE, 2, 1, exception=failure)]})
        second = builder.request(read_after(db, 0, 10))
    assert [each.resource.attributes[0].value.string_value for each in second.resource_spans] == [
        "shop",
        "bank",
    ]
