"""Any value in any place of a foreign file: read, refused or corrected, and never an exception."""

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.collector.otlp.requests import make_request, make_span
from ztrace_collector.checking.messages import read_parcel
from ztrace_collector.checking.parcels import pack
from ztrace_collector.otlp.mapping.incoming import read_request
from ztrace_collector.otlp.mapping.json_form import read_content as read_otlp
from ztrace_collector.refusals import Refusals
from ztrace_viewer.export.dialects import NoSpans, read_content
from ztrace_viewer.export.jaeger import make_traces

#: Values of every type, and texts and numbers at the bounds of what protobuf holds.
ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, float("inf"), float("nan"), 2**63, 2**64, 10**30),
    *("", "x", "\ud800", "\0", "a" * 300, "-5", "0" * 32, "qqqqqqqqqqqqqqqqqqqqoQ=="),
    *([], {}, [None], [[]], {"a": 1}, {"\ud800": 1}, {"stringValue": 1}, [{"key": "k"}]),
)


def _documents() -> list[Any]:
    """Return a document of each format, with every field in use."""
    span = make_span(parent_span_id=b"p" * 8, trace_state="a=b", flags=1)
    span.attributes.add(key="a").value.array_value.values.add().int_value = 1
    span.attributes.add(key="b").value.kvlist_value.values.add(key="c").value.bytes_value = b"\xff"
    event = span.events.add(name="exception", time_unix_nano=5)
    event.attributes.add(key="exception.stacktrace").value.string_value = "E: no"
    span.links.add(trace_id=b"t" * 16, span_id=b"s" * 8, trace_state="c=d")
    span.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message="no"))
    request = make_request(span)
    zipkin = {
        **{"traceId": "1", "id": "2", "parentId": "3", "name": "n", "kind": "SERVER", "shared": True},
        **{"timestamp": 1_790_000_000_000_000, "duration": 5, "tags": {"error": "no", "k": "v"}},
        "localEndpoint": {"serviceName": "a", "ipv4": "127.0.0.1"},
        "remoteEndpoint": {"serviceName": "b", "port": 5},
        "annotations": [{"timestamp": 5, "value": "v"}],
    }
    return [read_otlp(request), json.loads(json.dumps({"data": make_traces([request])})), [zipkin, zipkin]]


DOCUMENTS = _documents()


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of each value in a document, as the keys that lead there."""
    if place:
        yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _places(item, (*place, key))


@given(data=st.data())
def test_any_value_in_any_place_is_read_or_counted(data: st.DataObject) -> None:
    """A document with odd values is read; each of its spans is kept, refused, or in a place of no format."""
    document = copy.deepcopy(data.draw(st.sampled_from(DOCUMENTS)))
    for _ in range(data.draw(st.integers(1, 3))):
        *above, last = data.draw(st.sampled_from(list(_places(document)) or [()])) or (None,)
        inner = document
        for key in above:
            inner = inner[key]
        if last is not None:
            inner[last] = copy.deepcopy(data.draw(st.sampled_from(ODD)))
    refusals, told = Refusals(), ""
    try:
        for request in read_content(document, refusals.note):
            for batch in read_request(request):
                for parcel in pack(batch):
                    read_parcel(parcel, refusals)
    except NoSpans as error:
        told = str(error)
    assert told.isprintable()
    assert all(len(detail) < 300 for detail in refusals._details.values())
