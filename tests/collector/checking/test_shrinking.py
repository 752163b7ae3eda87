"""Attributes that are too long: the longest values are cut, and the others kept."""

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.collector.messages import Sender, make_open, make_span, refusals, row, rows
from tests.collector.otlp.requests import make_request, send_all, take_in
from tests.collector.otlp.requests import make_span as make_otlp_span
from ztrace_collector.checking.attributes import IDENTITY
from ztrace_collector.checking.encoding import MAX_ATTRIBUTES, encode_one
from ztrace_collector.checking.shrinking import LEAST, PROTECTED, cut_text, find_level, shrink
from ztrace_collector.storing.store import Store


def test_a_long_value_costs_itself(store: Store, path: Path) -> None:
    """A long attribute of a span is cut and counted as dropped; its neighbours and other spans are kept."""
    long = {"http.route": "/chat", "prompt": "word " * 14_000, "user": "u1"}
    store.store([Sender().data(make_span(0, attributes=long), make_span(1, attributes={"fine": "yes"}))])
    first, second = rows(path, "SELECT attributes, details FROM spans ORDER BY id")
    found = json.loads(first["attributes"])
    assert list(found) == ["http.route", "prompt", "user"]
    assert (found["http.route"], found["user"]) == ("/chat", "u1")
    assert found["prompt"].startswith("word word")
    assert found["prompt"].endswith("…")
    assert MAX_ATTRIBUTES - 100 < len(first["attributes"]) <= MAX_ATTRIBUTES
    assert json.loads(first["details"]) == {"dropped": {"attributes": 1}}
    assert second == {"attributes": '{"fine":"yes"}', "details": None}
    assert refusals(path) == {"large_attributes": 1}
    detail = row(path, "SELECT detail FROM refusals")["detail"]
    assert detail == "of charge: prompt"


def test_an_open_span_is_cut_as_well(store: Store, path: Path) -> None:
    """A long attribute of an unfinished span is cut and counted."""
    store.store([Sender().open(make_open(0, attributes={"a": "x" * 70_000, "b": 1}))])
    found = row(path, "SELECT attributes, details FROM unfinished_spans")
    assert json.loads(found["attributes"])["b"] == 1
    assert json.loads(found["details"]) == {"dropped": {"attributes": 1}}


def test_counts_of_the_sender_are_added_to(store: Store, path: Path) -> None:
    """What is cut here is added to what the sender dropped."""
    span = make_span(0, attributes={"a": "x" * 70_000}, details={"dropped": {"attributes": 4, "links": 2}})
    store.store([Sender().data(span)])
    details = json.loads(row(path, "SELECT details FROM spans")["details"])
    assert details == {"dropped": {"attributes": 5, "links": 2}}


def test_a_resource_keeps_what_identifies_it(path: Path) -> None:
    """Long and many attributes of a resource are cut; those that identify the process stay, and go out."""
    known: dict[str, Any] = {
        "service.instance.id": "i" * 300,
        "host.name": "box",
        "process.pid": 7,
        "service.name": "llm",
    }
    many = {f"label{number}": "v" * 50 for number in range(3_000)}
    take_in(path, make_request(make_otlp_span(), **many, command="x" * 70_000, **known))
    instance = row(path, "SELECT service, host, pid, resource FROM instances")
    assert (instance["service"], instance["host"], instance["pid"]) == ("llm", "box", 7)
    found = json.loads(instance["resource"])
    assert {key: found[key] for key in known} == known
    assert len(instance["resource"]) <= MAX_ATTRIBUTES
    (resource,) = send_all(path).resource_spans
    sent = {pair.key for pair in resource.resource.attributes}
    assert known.keys() <= sent
    assert resource.resource.dropped_attributes_count == found["ztrace.dropped_attributes"]
    assert resource.resource.dropped_attributes_count >= len(many) + len(known) + 1 - len(sent)
    assert "ztrace.dropped_attributes" not in sent


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), 1 << 63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.binary(max_size=300)
    | st.text(st.sampled_from('ab"\\\n\x01é𝄞'), max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=9), inner, max_size=9),
    max_leaves=30,
)


@given(st.dictionaries(st.text(max_size=20), VALUES, max_size=40), st.integers(2, 4000))
def test_what_is_cut_fits(attributes: dict[str, Any], room: int) -> None:
    """Attributes of any kind fit the bound; what fits is unchanged, and what is not is named."""
    found, cut = shrink(attributes, room)
    assert len(encode_one(found)) <= room
    assert list(found) == [key for key in attributes if key in found]
    assert {key for key in attributes if key not in found} <= set(cut)
    for key in attributes.keys() - set(cut):
        assert encode_one(found[key]) == encode_one(attributes[key])
    for key in set(cut) & found.keys():
        assert len(encode_one(attributes[key])) > LEAST
    if len(encode_one(attributes)) <= room:
        assert cut == []


@given(st.lists(st.integers(0, 100)), st.integers(0, 2000))
def test_the_level_uses_the_room(sizes: list[int], room: int) -> None:
    """The level is the highest at which the cut sizes fit."""
    level = find_level(sizes, room)
    assert sum(min(size, level) for size in sizes) <= room
    assert level >= max(sizes, default=0) or sum(min(size, level + 1) for size in sizes) > room


@given(st.text(st.sampled_from('ab"\\\n\x01é𝄞')), st.integers(4, 99))
def test_a_cut_text_is_the_beginning(text: str, room: int) -> None:
    """A cut text is the longest beginning that fits, to within one escape."""
    found = cut_text(text, room)
    assert len(encode_one(found)) <= room
    assert found == text or text.startswith(found.removesuffix("…"))
    assert found == text or len(encode_one(found)) > room - 6


def test_protected_attributes_go_last() -> None:
    """Attributes that identify a process stay whole up to a bound, whatever else there is."""
    attributes = {f"a{number}": "x" * 900 for number in range(200)} | dict.fromkeys(IDENTITY, "y" * 900)
    found, cut = shrink(attributes, 20_000, IDENTITY)
    assert all(found[key] == attributes[key] for key in IDENTITY)
    assert len(cut) == 200
    longer, _ = shrink({"service.name": "y" * 5_000, "a": "x" * 900}, 2_000, IDENTITY)
    assert len(encode_one(longer["service.name"])) == PROTECTED
