"""Invalid input: refused or corrected, counted by reason, and without effect on other spans."""

import json
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.collector.hostile import BODIES, measure_all
from tests.collector.messages import (
    EPOCH_NS,
    Sender,
    is_balanced,
    make_span,
    pack_body,
    refusals,
    row,
    rows,
    span_id,
    trace_id,
)
from ztrace.records import UNFINISHED, ExceptionRecord, FrameRecord, Span
from ztrace.wire import DATA, MAX_FRAME_BYTES, TOPIC, pack_header
from ztrace_collector.refusals import MENDED_REASONS, MESSAGE_REASONS, SPAN_REASONS
from ztrace_collector.storing.store import Store

#: Memory limit of one message: three bytes on the wire can decode to a map of one item, which takes 200.
MOST_BYTES = 80 * MAX_FRAME_BYTES
HEADER = pack_header(Sender(5).header(DATA, span_count=1))


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([], "frames"),
        ([TOPIC], "frames"),
        ([TOPIC, HEADER], "frames"),
        ([TOPIC, HEADER, b"", b""], "frames"),
        ([TOPIC + b"!", HEADER, b""], "foreign"),
        ([TOPIC, b"", b""], "undecodable"),
        ([TOPIC, HEADER[:20], b""], "undecodable"),
        ([TOPIC, b"\xc1", b""], "undecodable"),
        ([TOPIC, msgpack.packb(["XX", 1]), b""], "foreign"),
        ([TOPIC, msgpack.packb(17), b""], "foreign"),
        ([TOPIC, msgpack.packb([b"ZT", 2]), b""], "version"),
        ([TOPIC, msgpack.packb([b"ZT", 1, 1]), b""], "header"),
        ([TOPIC, pack_header(Sender().header(9)), b""], "header"),
        ([TOPIC, pack_header(Sender().header(DATA, covered=2)), b""], "header"),
        ([TOPIC, pack_header(Sender().header(DATA, created=-1)), b""], "header"),
        ([TOPIC, HEADER, bytes(MAX_FRAME_BYTES + 1)], "oversized"),
    ],
)
def test_a_message_of_nobody_is_refused(store: Store, path: Path, frames: list[bytes], reason: str) -> None:
    """A message without a readable sender is counted, and the next message is stored."""
    sender = Sender()
    assert store.store([frames, sender.data(make_span())]).acknowledgements == {sender.incarnation: 1}
    assert refusals(path) == {reason: 1}
    assert reason in MESSAGE_REASONS
    assert row(path, "SELECT count(*) AS n FROM spans")["n"] == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "undecodable"),
        (b"\xc1", "undecodable"),
        (pack_body([make_span()])[:-9], "undecodable"),
        (pack_body([make_span()]) + b"\0", "undecodable"),
        (b"\x91" * 5000 + b"\xc0", "undecodable"),
        (pack_body({"spans": 1}), "body"),
        (pack_body(None), "body"),
        (pack_body([make_span()] * 2), "span_count"),
        (pack_body([]), "span_count"),
        (msgpack.packb([None] * 70_000), "undecodable"),
    ],
)
def test_a_broken_body_costs_its_own_spans_only(store: Store, path: Path, body: bytes, reason: str) -> None:
    """Spans of an undecodable body count as refused under their number, and the next batch is stored."""
    sender = Sender()
    messages = [sender.data(make_span(), body=body), sender.data(make_span(1))]
    assert store.store(messages).acknowledgements == {sender.incarnation: 2}
    assert refusals(path) == {reason: 1}
    publisher = row(path, "SELECT * FROM publishers")
    assert (publisher["spans_refused"], publisher["spans_stored"]) == (1, 1)
    assert is_balanced(publisher)


@pytest.mark.parametrize(
    ("span", "reason"),
    [
        (None, "fields"),
        ("span", "fields"),
        ([], "fields"),
        (list(make_span())[: -1 - len(Span._field_defaults)], "fields"),
        ([*make_span(), 1], "fields"),
        (make_span(trace_id=bytes(16)), "trace_id"),
        (make_span(trace_id=b"short"), "trace_id"),
        (make_span(trace_id="0123456789abcdef"), "trace_id"),
        (make_span(trace_id=None), "trace_id"),
        (make_span(span_id=bytes(8)), "span_id"),
        (make_span(span_id=b"123456789"), "span_id"),
        (make_span(parent_id=bytes(8)), "parent_id"),
        (make_span(parent_id=b""), "parent_id"),
        (make_span(parent_id={"a": 1}), "parent_id"),
        (make_span(kind=0), "kind"),
        (make_span(kind=6), "kind"),
        (make_span(kind="server"), "kind"),
        (make_span(kind=[2]), "kind"),
        (make_span(kind={"a": 1}), "kind"),
        (make_span(name=b"charge"), "name"),
        (make_span(name=None), "name"),
        (make_span(start_ns=-1), "time"),
        (make_span(start_ns=1 << 63), "time"),
        (make_span(start_ns=1.5), "time"),
        (make_span(start_ns=None), "time"),
        (make_span(start_ns=[]), "time"),
        (make_span(duration_ns=""), "time"),
        (make_span(duration_ns={}), "time"),
        (make_span(duration_ns=1.5), "time"),
        (make_span(self_ns=b""), "time"),
        (make_span(start_ns=(1 << 63) - 1), "time"),
        (make_span(duration_ns=-5), "time"),
        (make_span(duration_ns="1"), "time"),
        (make_span(self_ns=1 << 63), "time"),
        (make_span(cpu_ns=-1), "time"),
        (make_span(status=3), "status"),
        (make_span(status="1"), "status"),
        (make_span(status={}), "status"),
        (make_span(status=None), "status"),
        (make_span(duration_ns=None), "status"),
        (make_span(status=UNFINISHED), "status"),
    ],
)
def test_a_bad_span_is_refused_alone(store: Store, path: Path, span: Any, reason: str) -> None:
    """An invalid span is refused and counted by reason, and the rest of its batch is stored."""
    sender = Sender()
    good = make_span(1, attributes={"kept": 1})
    assert store.store([sender.data(good, span, make_span(2))]).acknowledgements == {sender.incarnation: 1}
    assert refusals(path) == {reason: 1}
    assert reason in SPAN_REASONS
    assert [one["trace_id"] for one in rows(path, "SELECT trace_id FROM spans ORDER BY id")] == [
        trace_id(1),
        trace_id(2),
    ]
    publisher = row(path, "SELECT * FROM publishers")
    assert (publisher["spans_refused"], publisher["spans_stored"]) == (1, 2)
    assert is_balanced(publisher)


def test_ids_with_zeros_beside_each_other_are_valid(store: Store, path: Path) -> None:
    """Ids that end and begin with many zeros are stored as they are, in one batch."""
    sender = Sender()
    ends, begins = (b"\1" + bytes(7), bytes(7) + b"\1")
    spans = [
        make_span(0, trace_id=2 * ends, span_id=ends),
        make_span(1, trace_id=2 * begins, span_id=begins, parent_id=ends),
        make_span(2, trace_id=2 * begins, parent_id=begins),
    ]
    store.store([sender.data(*spans)])
    stored = rows(path, "SELECT trace_id, span_id, parent_id FROM spans ORDER BY id")
    assert [tuple(one.values()) for one in stored] == [span[:3] for span in spans]
    assert refusals(path) == {}


@pytest.mark.process
@pytest.mark.slow
def test_no_body_takes_more_memory_than_it_may() -> None:
    """Any body that fits a frame is handled within the memory limit, and counted if it is not stored."""
    measured = measure_all()
    assert measured.keys() == BODIES.keys()
    assert {name: taken for name, taken in measured.items() if taken > MOST_BYTES} == {}


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("attributes", "stored", "reason"),
    [
        ({"a": msgpack.ExtType(5, b"x")}, {"a": "extension 5: b'x'"}, "attributes"),
        ({b"key": 1}, {"key": 1}, "attributes"),
        ({7: 1, "a": [b"z"]}, {"7": 1, "a": [{"$bytes": "eg=="}]}, "attributes"),
        ("text", None, "attributes"),
        ([1, 2], None, "attributes"),
    ],
)
def test_bad_attributes_are_mended(
    store: Store, path: Path, attributes: Any, stored: Any, reason: str
) -> None:
    """Attributes that JSON cannot hold become text or a note, and the span and its neighbours are kept."""
    good = {"fine": "yes"}
    sender = Sender()
    store.store([sender.data(make_span(attributes=attributes), make_span(1, attributes=good))])
    first, second = rows(path, "SELECT attributes FROM spans ORDER BY id")
    assert json.loads(first["attributes"] or "null") == stored
    assert json.loads(second["attributes"]) == good
    assert refusals(path) == {reason: 1}
    assert reason in MENDED_REASONS
    assert is_balanced(row(path, "SELECT * FROM publishers"))


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (b"\x00\xff", {"$bytes": "AP8="}),
        ([b"a", "b", [b""]], [{"$bytes": "YQ=="}, "b", [{"$bytes": ""}]]),
        ([{"a": b"b"}, {"c": b"d"}], [{"a": {"$bytes": "Yg=="}}, {"c": {"$bytes": "ZA=="}}]),
        ([NAN, INFINITY, -INFINITY], [{"$double": "NaN"}, {"$double": "Infinity"}, {"$double": "-Infinity"}]),
    ],
)
def test_what_json_lacks_is_stored_with_its_type(store: Store, path: Path, value: Any, stored: Any) -> None:
    """Bytes and non-finite numbers are stored with their type and not counted, in attributes and details."""
    event = {"name": "e", "time_ns": 1, "attributes": {"v": value}}
    span = make_span(attributes={"v": value, "one": 1, "real": 1.0}, details={"events": [event]})
    store.store([Sender().data(span, make_span(1))])
    first, second = rows(path, "SELECT attributes, details FROM spans ORDER BY id")
    assert first["attributes"].endswith(',"one":1,"real":1.0}')
    assert json.loads(first["attributes"])["v"] == stored
    assert json.loads(first["details"]) == {"events": [{**event, "attributes": {"v": stored}}]}
    assert second == {"attributes": None, "details": None}
    assert refusals(path) == {}


def test_deep_and_wide_attributes_are_cut(store: Store, path: Path) -> None:
    """Deeply nested attributes and long lists are truncated with a mark."""
    deep: Any = msgpack.ExtType(5, b"bottom")
    for _ in range(400):
        deep = [deep]
    wide = [msgpack.ExtType(5, b"")] * 50_000
    sender = Sender()
    store.store([sender.data(make_span(attributes={"deep": deep}), make_span(1, attributes={"wide": wide}))])
    first, second = rows(path, "SELECT attributes FROM spans ORDER BY id")
    assert "…" in first["attributes"]
    assert len(json.loads(second["attributes"])["wide"]) == 1024
    assert refusals(path) == {"attributes": 2}


def bad_utf8(span: Any) -> bytes:
    """Return a body of a valid span and of one in which each '?' is replaced by an invalid UTF-8 byte."""
    return b"\x92" + pack_body(make_span(8)) + pack_body(span).replace(b"?", b"\xff")


def test_text_that_is_not_utf8_is_mended(store: Store, path: Path) -> None:
    """Invalid UTF-8 in names, attributes and exceptions is replaced, and the spans are kept."""
    frames = [FrameRecord("f?", 1, "g?", "m", "c?", True)]
    exception = ExceptionRecord("Error?", "bad ?", frames, [], "raised", trace_id(0), span_id(0))
    span = make_span(name="char?e", attributes={"k?": "v?"}, exception=exception, status=1)
    store.store([Sender().data(1, 2, body=bad_utf8(span))])
    assert refusals(path) == {"utf8": 3}
    stored = row(path, "SELECT name, attributes FROM span_list WHERE trace_id = ?", trace_id(0).hex())
    assert stored["name"] == "char\ufffde"
    assert json.loads(stored["attributes"]) == {"k\ufffd": "v\ufffd"}
    assert row(path, "SELECT type, message FROM exceptions") == {
        "type": "Error\ufffd",
        "message": "bad \ufffd",
    }
    assert row(path, "SELECT count(*) AS n FROM spans")["n"] == 2


def test_long_names_are_cut(store: Store, path: Path) -> None:
    """A name is truncated to 256 characters."""
    store.store([Sender().data(make_span(name="x" * 256), make_span(1, name="y" * 257))])
    names = [one["name"] for one in rows(path, "SELECT name FROM span_list ORDER BY id")]
    assert names == ["x" * 256, "y" * 255 + "…"]
    assert refusals(path) == {"long_name": 1}


@pytest.mark.parametrize(
    ("links", "kept"),
    [
        ("links", 0),
        ([1, [trace_id(1), span_id(1)], [trace_id(1)], [bytes(16), span_id(1)]], 1),
        ([[trace_id(1), span_id(1)]] * 200, 128),
    ],
)
def test_bad_links_are_left_out(store: Store, path: Path, links: Any, kept: int) -> None:
    """Invalid links of a span are dropped, and the valid ones kept."""
    store.store([Sender().data(make_span(links=links))])
    found = row(path, "SELECT links, details FROM spans")
    assert len(json.loads(found["links"] or "[]")) == kept
    dropped = json.loads(found["details"] or "{}").get("dropped")
    assert dropped == (None if links == "links" else {"links": len(links) - kept})
    assert refusals(path) == {"links": 1}


@pytest.mark.parametrize(
    "exception",
    ["boom", [], ["E", "m", [], [], "raised"], [1] * 9, [[]] * 9, ["E", "m", [], [], {}, None, None, [], []]],
)
def test_a_bad_exception_is_left_out(store: Store, path: Path, exception: Any) -> None:
    """A span with an unreadable exception is stored as failed without one."""
    store.store([Sender().data(make_span(exception=exception, status=1), make_span(1))])
    assert refusals(path) == {"exception": 1}
    assert row(path, "SELECT count(*) AS n FROM spans")["n"] == 2
    assert rows(path, "SELECT type, message FROM exceptions") == [{"type": "", "message": ""}]


def test_refusals_say_when_and_an_example(path: Path) -> None:
    """A reason's row sums over transactions, with the last time and a printable example."""
    with Store(path, clock_ns=lambda: EPOCH_NS) as store:
        store.store([[b"\x1b[31m\n", HEADER, b""]])
        store.store([[b"x"], [b"evil\x1b", HEADER, b""]])
    refusal = row(path, "SELECT * FROM refusals WHERE reason = 'foreign'")
    assert (refusal["count"], refusal["last_ns"]) == (2, EPOCH_NS)
    assert refusal["detail"].isprintable()


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.sampled_from([trace_id(1), span_id(1), 1, 2, "charge", EPOCH_NS, "raised"]),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@settings(
    max_examples=settings().max_examples // 2, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.lists(st.dictionaries(st.integers(0, 12), anything, max_size=3), min_size=1, max_size=5),
    noise=st.lists(st.binary(max_size=40), max_size=3),
)
def test_nothing_that_arrives_stops_the_store(
    tmp_path_factory: pytest.TempPathFactory, changes: list[dict[int, Any]], noise: list[bytes]
) -> None:
    """Whatever the fields of its spans, a batch is accounted for and the next one is stored."""
    path = tmp_path_factory.mktemp("fuzz") / "traces.db"
    sender = Sender()
    spans = [[change.get(i, field) for i, field in enumerate(make_span())] for change in changes]
    with Store(path) as store:
        store.store([noise, [TOPIC, *noise], sender.data(*spans), sender.data(make_span(3))])
    publisher = row(path, "SELECT * FROM publishers")
    assert publisher["next_sequence"] == 2
    assert is_balanced(publisher)
    assert row(path, "SELECT count(*) AS n FROM spans")["n"] == publisher["spans_stored"]
