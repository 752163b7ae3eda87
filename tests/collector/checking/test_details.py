"""Details of OpenTelemetry spans: checked types and bounded size."""

import json
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.collector.messages import Sender, make_open, make_span, refusals, rows, span_id, trace_id
from ztrace_collector.checking.encoding import MAX_ATTRIBUTES
from ztrace_collector.storing.store import Store

EVENT = {"name": "e", "time_ns": 5, "attributes": {"a": [1, 2.0, {"b": None}]}, "dropped_attributes": 1}
LINK = [trace_id(7), span_id(8)]
WHOLE: dict[str, Any] = {
    "events": [EVENT, {"name": "bare", "time_ns": 0}],
    "status": "ok",
    "status_message": "fine",
    "kind": 0,
    "trace_state": "a=b",
    "flags": 0x301,
    "scope": {"name": "lib", "version": "1", "attributes": {"x": 1}, "schema_url": "http://s"},
    "links": [None, {"trace_state": "c=d", "attributes": {"l": True}, "flags": 1, "dropped_attributes": 2}],
    "dropped": {"attributes": 1, "events": 2, "links": 3},
}


def stored(store: Store, path: Path, details: Any, **changes: Any) -> Any:
    """Return the stored details of a span, after checking that its neighbours have none."""
    store.store([Sender().data(make_span(1), make_span(2, details=details, **changes), make_span(3))])
    before, found, after = (one["details"] for one in rows(path, "SELECT details FROM spans ORDER BY id"))
    assert (before, after) == (None, None)
    return None if found is None else json.loads(found)


def test_what_is_as_it_should_be_stays_as_it_is(store: Store, path: Path) -> None:
    """Valid details are stored unchanged, unknown keys included."""
    more = {**WHOLE, "more": [1, {"a": 2}], "scope": {**WHOLE["scope"], "more": 1}}
    assert stored(store, path, more, links=[LINK, LINK]) == more
    assert refusals(path) == {}
    assert rows(path, "SELECT count(*) AS n FROM span_list WHERE details IS NOT NULL") == [{"n": 1}]


@pytest.mark.parametrize(
    ("details", "kept"),
    [
        ("text", None),
        ([1], None),
        ({"status": "error", "kind": 0}, {"kind": 0}),
        ({"status": ["ok"], "kind": False}, {}),
        ({"status_message": 5, "trace_state": None, "flags": -1}, {}),
        ({"flags": 1 << 32, "scope": "lib"}, {}),
        ({"scope": {"name": 5}, "dropped": {"events": "2"}}, {}),
        ({"events": {"name": "e"}}, {}),
        ({"events": [EVENT, "e", {"name": "e"}, {"name": "e", "time_ns": -1}]}, {"events": [EVENT]}),
        ({"links": [None]}, {}),
        ({"links": [None, {"flags": "x"}]}, {"links": [None, None]}),
    ],
)
def test_what_is_of_another_type_is_left_out(store: Store, path: Path, details: Any, kept: Any) -> None:
    """A detail of the wrong type is dropped and counted, and the rest of the span is kept."""
    assert stored(store, path, details, links=[LINK, LINK]) == (kept or None)
    assert refusals(path) == {"details": 1}


def test_what_json_cannot_hold_is_mended(store: Store, path: Path) -> None:
    """Values that JSON cannot hold are corrected in details as in attributes."""
    event = {**EVENT, "attributes": {"a": msgpack.ExtType(5, b"x")}}
    mended = {**EVENT, "attributes": {"a": "extension 5: b'x'"}}
    assert stored(store, path, {"events": [event]}) == {"events": [mended]}
    assert refusals(path) == {"attributes": 1}


def test_too_much_is_left_out_the_largest_first(store: Store, path: Path) -> None:
    """Events whose names are too large are dropped one by one and counted, but not the exception."""
    small = {"name": "small", "time_ns": 2}
    large = {"name": "x" * 30_000, "time_ns": 1}
    exception = {**large, "became_exception": True}
    details = {**WHOLE, "events": [small, exception, small, large, large]}
    kept = {**details, "events": [small, exception, small, large]}
    kept["dropped"] = {"attributes": 1, "events": 3, "links": 3}
    assert stored(store, path, details, links=[LINK, LINK]) == kept
    assert refusals(path) == {"large_details": 1}


def test_values_that_are_too_long_are_cut_and_the_rest_kept(store: Store, path: Path) -> None:
    """Long attributes of events, links and the scope are cut and counted there, and all else is kept."""
    long = {"long": "x" * 40_000, "short": "yes"}
    event = {"name": "exception", "time_ns": 1, "attributes": long, "became_exception": True}
    details = {
        "events": [event, {**EVENT, "attributes": {"n": 1}}],
        "links": [None, {"attributes": long, "dropped_attributes": 2}],
        "scope": {"name": "lib", "attributes": {**long, "odd": [1] * 30_000}},
        "status_message": "no " * 20_000,
    }
    found = stored(store, path, details, links=[LINK, LINK])
    assert refusals(path) == {"large_details": 1}
    assert len(json.dumps(found, separators=(",", ":"), ensure_ascii=False)) > MAX_ATTRIBUTES - 2000
    assert len(json.dumps(found, separators=(",", ":"), ensure_ascii=False)) <= MAX_ATTRIBUTES
    assert found["events"][1] == {**EVENT, "attributes": {"n": 1}}
    assert found["events"][0]["became_exception"]
    parts = [found["events"][0], found["links"][1], found["scope"]]
    assert [part["dropped_attributes"] for part in parts] == [1, 3, 2]
    for part in parts:
        assert part["attributes"]["short"] == "yes"
        assert part["attributes"]["long"].endswith("x…")
    assert found["scope"]["name"] == "lib"
    assert found["status_message"].startswith("no no")
    assert "dropped" not in found


def test_details_of_links_stay_with_their_links(store: Store, path: Path) -> None:
    """Of many links, the first are kept with their details, and the others counted."""
    bad = [bytes(16), span_id(1)]
    links = [bad if number == 3 else [trace_id(number), span_id(1)] for number in range(300)]
    found = stored(store, path, {"links": [{"flags": number} for number in range(300)]}, links=links)
    assert [link["flags"] for link in found["links"]] == [number for number in range(129) if number != 3]
    assert found["dropped"] == {"links": 172}


@pytest.mark.parametrize("key", ["trace_state", "links", "anything"])
def test_one_part_that_is_too_large_goes_alone(store: Store, path: Path, key: str) -> None:
    """An oversized part that cannot be cut is dropped alone, and the events are kept."""
    value = [None, {"trace_state": "x" * 70_000}] if key == "links" else "x" * 70_000
    found = stored(store, path, {"events": [EVENT], key: value}, links=[LINK, LINK])
    assert found == {"events": [EVENT]} | ({"dropped": {"links": 2}} if key == "links" else {})


def test_many_events_never_exceed_the_bound(store: Store, path: Path) -> None:
    """Many small events are limited by their total size, and the dropped ones counted."""
    events = [{"name": "x" * (number % 40), "time_ns": number} for number in range(3000)]
    found = stored(store, path, {"events": events})
    assert len(json.dumps(found, separators=(",", ":"))) <= MAX_ATTRIBUTES
    assert len(found["events"]) + found["dropped"]["events"] == 3000
    assert len(found["events"]) > 1000


def test_what_is_too_large_anywhere_is_bounded(store: Store, path: Path) -> None:
    """An oversized value in an unexpected place is dropped."""
    assert stored(store, path, {"status": "ok", "dropped": {"x": "x" * 70_000}}) == {}


def test_a_span_that_has_not_ended_has_them_too(store: Store, path: Path) -> None:
    """Details of unfinished spans are stored, and later ones replace them."""
    sender = Sender()
    for name in ("first", "second"):
        details = {"events": [{"name": name, "time_ns": 1}]}
        store.store([sender.open(make_open(details=details))])
    (found,) = rows(path, "SELECT details FROM unfinished_list")
    assert json.loads(found["details"])["events"][0]["name"] == "second"
