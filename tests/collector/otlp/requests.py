"""Requests of OTLP for the tests: made by hypothesis, taken in by the real store, and put into one order."""

import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from ztrace_collector.checking.parcels import ForeignBatch, Outcome, pack
from ztrace_collector.otlp.mapping.incoming import read_request
from ztrace_collector.otlp.mapping.outgoing import Builder
from ztrace_collector.otlp.mapping.reading import StoredSpan, read_after
from ztrace_collector.storing.store import Store

#: When a span of these tests begins, unless it is of no matter.
NOON_NS = 1_769_860_800_000_000_000
TRACE, SPAN = bytes(range(16)), bytes(range(1, 9))

_COUNTS = st.integers(0, (1 << 32) - 1)
_TEXTS = st.text(max_size=12)
_STACKS = st.sampled_from(
    [
        "",
        "at com.example.Shop.pay(Shop.java:12)",
        'Traceback (most recent call last):\n  File "/srv/shop.py", line 3, in pay\n    a()\nKeyError: 1',
    ]
)


def values(depth: int = 3) -> st.SearchStrategy[AnyValue]:
    """Return values of every kind."""
    flat = st.one_of(
        st.just(AnyValue()),
        st.booleans().map(lambda value: AnyValue(bool_value=value)),
        st.integers(-(1 << 63), (1 << 63) - 1).map(lambda value: AnyValue(int_value=value)),
        # There are many NaNs, and JSON has one.
        st.floats().map(lambda value: AnyValue(double_value=math.nan if math.isnan(value) else value)),
        _TEXTS.map(lambda value: AnyValue(string_value=value)),
        st.binary(max_size=9).map(lambda value: AnyValue(bytes_value=value)),
    )
    if not depth:
        return flat
    return st.one_of(
        flat,
        st.lists(values(depth - 1), max_size=3).map(
            lambda items: AnyValue(array_value=ArrayValue(values=items))
        ),
        attributes(depth - 1).map(lambda pairs: AnyValue(kvlist_value=KeyValueList(values=pairs))),
    )


def attributes(depth: int = 3, **known: AnyValue) -> st.SearchStrategy[list[KeyValue]]:
    """Return attributes, some of them known, and some that look like what ztrace makes of values."""
    keys = st.one_of(_TEXTS, st.sampled_from(["$bytes", "$double", "$map", "error.type", "ztrace.self_ns"]))
    return st.dictionaries(keys, values(depth), max_size=3).map(
        lambda mapping: [KeyValue(key=key, value=value) for key, value in (mapping | known).items()]
    )


def text_value(text: str) -> AnyValue:
    """Return a text as a value."""
    return AnyValue(string_value=text)


@st.composite
def _events(draw: st.DrawFn) -> Span.Event:
    name = draw(st.one_of(_TEXTS, st.just("exception")))
    known = {}
    if name == "exception":
        known = {
            "exception.type": text_value(draw(_TEXTS)),
            "exception.stacktrace": text_value(draw(_STACKS)),
        }
    return Span.Event(
        name=name,
        time_unix_nano=draw(st.integers(0, (1 << 63) - 1)),
        attributes=draw(attributes(2, **known)),
        dropped_attributes_count=draw(_COUNTS),
    )


_LINKS = st.builds(
    Span.Link,
    trace_id=st.binary(min_size=16, max_size=16).filter(any),
    span_id=st.binary(min_size=8, max_size=8).filter(any),
    trace_state=_TEXTS,
    attributes=attributes(2),
    dropped_attributes_count=_COUNTS,
    flags=_COUNTS,
)

SPANS = st.builds(
    Span,
    trace_id=st.binary(min_size=16, max_size=16).filter(any),
    span_id=st.binary(min_size=8, max_size=8).filter(any),
    parent_span_id=st.one_of(st.just(b""), st.binary(min_size=8, max_size=8).filter(any)),
    name=_TEXTS,
    kind=st.integers(0, 5),
    start_time_unix_nano=st.integers(1, (1 << 63) - 1),
    end_time_unix_nano=st.integers(1, (1 << 63) - 1),
    trace_state=_TEXTS,
    flags=_COUNTS,
    attributes=attributes(),
    events=st.lists(_events(), max_size=3),
    links=st.lists(_LINKS, max_size=3),
    status=st.builds(Status, code=st.integers(0, 2), message=_TEXTS),
    dropped_attributes_count=_COUNTS,
    dropped_events_count=_COUNTS,
    dropped_links_count=_COUNTS,
)


@st.composite
def requests(draw: st.DrawFn) -> ExportTraceServiceRequest:
    """Return a request of anybody's: some resources, each with some scopes, each with some spans."""
    request = ExportTraceServiceRequest()
    met = set()
    for _ in range(draw(st.integers(1, 2))):
        resource = request.resource_spans.add(schema_url=draw(_TEXTS))
        service = draw(st.one_of(st.just(text_value("shop")), values(0)))
        resource.resource.attributes.extend(draw(attributes(**{"service.name": service})))
        resource.resource.dropped_attributes_count = draw(_COUNTS)
        for _ in range(draw(st.integers(1, 2))):
            scope = resource.scope_spans.add(schema_url=draw(_TEXTS))
            scope.scope.name, scope.scope.version = draw(_TEXTS), draw(_TEXTS)
            scope.scope.attributes.extend(draw(attributes(2)))
            for span in draw(st.lists(SPANS, min_size=1, max_size=3)):
                if (span.trace_id, span.span_id) not in met:  # Of each the first is stored.
                    met.add((span.trace_id, span.span_id))
                    scope.spans.append(span)
    return request


def make_request(*spans: Span, **resource: Any) -> ExportTraceServiceRequest:
    """Return a request of one resource and no scope; the resource's attributes are texts or integers."""
    made = ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])
    for key, value in {"service.name": "shop", **resource}.items():
        of_kind = {"int_value": value} if isinstance(value, int) else {"string_value": value}
        made.resource.attributes.append(KeyValue(key=key, value=AnyValue(**of_kind)))
    return ExportTraceServiceRequest(resource_spans=[made])


def make_span(**changes: Any) -> Span:
    """Return a span of 10 ms."""
    fields: dict[str, Any] = {
        "trace_id": TRACE,
        "span_id": SPAN,
        "name": "charge",
        "kind": Span.SPAN_KIND_SERVER,
        "start_time_unix_nano": NOON_NS,
        "end_time_unix_nano": NOON_NS + 10_000_000,
    }
    return Span(**(fields | changes))


def take_in(path: Path, request: ExportTraceServiceRequest) -> list[Outcome]:
    """Store what a request brings; return what became of each parcel."""
    return store_batches(path, read_request(request))


def store_batches(path: Path, batches: Sequence[ForeignBatch]) -> list[Outcome]:
    """Store batches; return what became of each parcel."""
    with Store(path) as store:
        outcomes = store.store_with([], [parcel for batch in batches for parcel in pack(batch)]).outcomes
    assert outcomes is not None
    return outcomes


def read_all(path: Path) -> list[StoredSpan]:
    """Return everything that is stored and has ended."""
    with closing(sqlite3.connect(path)) as db:
        return read_after(db, 0, 1 << 30)


def send_all(path: Path) -> ExportTraceServiceRequest:
    """Return everything that is stored and has ended as it is sent."""
    with closing(sqlite3.connect(path)) as db:
        return Builder(db).request(read_after(db, 0, 1 << 30))


def spans_of(request: ExportTraceServiceRequest) -> Iterator[Span]:
    """Yield a request's spans."""
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            yield from scope.spans


def put_in_order(request: ExportTraceServiceRequest) -> list[tuple[bytes, bytes]]:
    """Return resource with scope, and span, for each span: equal for requests that say the same.

    Attributes are a mapping: what order they are in says nothing. Nor does how spans are spread over parts of
    the same resource and scope.
    """
    flat = []
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                around = ResourceSpans(resource=resource.resource, schema_url=resource.schema_url)
                around.scope_spans.add(scope=scope.scope, schema_url=scope.schema_url)
                one = Span()
                one.CopyFrom(span)
                if one.status == Status():  # Which says what none says.
                    one.ClearField("status")
                _sort(around.resource.attributes)
                _sort(around.scope_spans[0].scope.attributes)
                for part in (one, *one.events, *one.links):
                    _sort(part.attributes)
                flat.append(
                    (around.SerializeToString(deterministic=True), one.SerializeToString(deterministic=True))
                )
    return sorted(flat)


def _sort(pairs: Any) -> None:
    """Sort attributes by key, whatever is nested in them likewise."""
    for pair in pairs:
        _sort_value(pair.value)
    ordered = sorted(pairs, key=lambda pair: str(pair.key))
    copies = [KeyValue.FromString(pair.SerializeToString()) for pair in ordered]
    del pairs[:]
    pairs.extend(copies)


def _sort_value(value: AnyValue) -> None:
    if value.HasField("array_value"):
        for item in value.array_value.values:
            _sort_value(item)
    elif value.HasField("kvlist_value"):
        _sort(value.kvlist_value.values)
