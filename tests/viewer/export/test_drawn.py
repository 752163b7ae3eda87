"""Chrome trace events and speedscope profiles: nesting, lanes and exact times."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.viewer.conftest import Run
from tests.viewer.stored import MS, NOON, SECOND, span, store, trace_id
from ztrace.records import Span
from ztrace_collector.otlp.mapping.reading import StoredSpan
from ztrace_viewer.export.speedscope import SpeedscopeWriter
from ztrace_viewer.trees.forest import arrange
from ztrace_viewer.trees.lanes import Lanes, find_blocks

#: Requirements of speedscope's own schema, in our words.
_EVENT = {
    "type": "object",
    "required": ["type", "at", "frame"],
    "properties": {"type": {"enum": ["O", "C"]}, "at": {"type": "number"}, "frame": {"type": "number"}},
}
SPEEDSCOPE_SCHEMA = {
    "type": "object",
    "required": ["$schema", "profiles", "shared"],
    "properties": {
        "$schema": {"const": "https://www.speedscope.app/file-format-schema.json"},
        "name": {"type": "string"},
        "exporter": {"type": "string"},
        "shared": {
            "type": "object",
            "required": ["frames"],
            "properties": {
                "frames": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string"}},
                    },
                }
            },
        },
        "profiles": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "name", "unit", "startValue", "endValue", "events"],
                "properties": {
                    "type": {"const": "evented"},
                    "name": {"type": "string"},
                    "unit": {"const": "nanoseconds"},
                    "startValue": {"type": "number"},
                    "endValue": {"type": "number"},
                    "events": {"type": "array", "items": _EVENT},
                },
            },
        },
    },
}


def export(run: Run, path: Path, format_name: str) -> Any:
    """Return a database's trees exported in a format."""
    told = run("export", "--db", path, "--format", format_name)
    assert told.exit_code == 0, told.stderr
    return json.loads(told.stdout)


def read_slices(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the slices that a reader of trace events derives, with depth and arrows.

    Events are ordered by time, equal times by position in the file, and each end closes the last open slice
    of its
    track.
    """
    tracks: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        if event["ph"] in "BEsf":
            tracks[event["pid"], event["tid"]].append(event)
    slices = []
    for track in tracks.values():
        opened: list[dict[str, Any]] = []
        for event in sorted(track, key=lambda event: event["ts"]):
            if event["ph"] == "B":
                opened.append({**event, "depth": len(opened), "arrows": []})
            elif event["ph"] == "E":
                closed = opened.pop()
                slices.append({**closed, "end": event["ts"]})
            else:
                opened[-1]["arrows"].append((event["ph"], event["id"]))
        assert opened == []
    return slices


def test_every_call_is_a_slice_in_its_process(run: Run, shop: Path) -> None:
    """Calls are nested slices in their process, and arrows lead to calls in other processes."""
    document = export(run, shop, "chrome")
    events = document["traceEvents"]
    names = {each["pid"]: each["args"]["name"] for each in events if each.get("name") == "process_name"}
    assert {name.split()[0] for name in names.values()} == {"shop", "cart", "pricing", "billing", "stock"}
    slices = {(each["args"]["trace_id"], each["args"]["span_id"]): each for each in read_slices(events)}
    assert len(slices) == 18
    assert document["otherData"]["start_ns"] == str(NOON)
    first = {span: each for (trace, span), each in slices.items() if trace == trace_id(1).hex()}
    by_name = {each["name"]: each for each in first.values()}
    root, charge = by_name["shop.checkout"], by_name["shop → charge"]
    assert (root["ts"], root["end"], root["depth"]) == (0.0, 1_240_000.0, 0)
    assert (charge["ts"], charge["end"], charge["depth"]) == (1_105_000.0, 1_235_000.0, 1)
    assert (charge["pid"], charge["tid"]) == (root["pid"], root["tid"])
    assert charge["args"]["status"] == "error"
    assert charge["args"]["exception"] == "billing.PaymentError: no stock"
    assert by_name["cart.load"]["args"]["attributes"] == {"user": "ada"}
    served = by_name["billing.charge"]
    assert [kind for kind, _ in charge["arrows"]] == ["s"]
    assert ("f", charge["arrows"][0][1]) in served["arrows"]


def test_what_overlaps_has_lanes_of_its_own(run: Run, path: Path) -> None:
    """Concurrent siblings and children that outlive their caller have separate lanes, with an arrow."""
    trace = trace_id(1)
    store(
        path,
        {
            "shop": [
                span(trace, 1, name="root", duration_ms=100),
                span(trace, 2, 1, name="left", start_ms=10, duration_ms=50),
                span(trace, 3, 1, name="right", start_ms=20, duration_ms=50),
                span(trace, 4, 1, name="after", start_ms=60, duration_ms=30),
                span(trace, 5, 1, name="longer", start_ms=90, duration_ms=50),
            ]
        },
    )
    slices = {each["name"]: each for each in read_slices(export(run, path, "chrome")["traceEvents"])}
    lanes = {name.removeprefix("shop."): each["tid"] for name, each in slices.items()}
    assert lanes == {"root": 1, "left": 1, "right": 2, "after": 1, "longer": 2}
    depths = {name.removeprefix("shop."): each["depth"] for name, each in slices.items()}
    assert depths == {"root": 0, "left": 1, "right": 0, "after": 1, "longer": 0}
    assert [kind for kind, _ in slices["shop.root"]["arrows"]] == ["s", "s"]


def test_links_and_events_are_drawn(run: Run, path: Path) -> None:
    """A linked consumer without parent has an arrow from the linked span, and events are instants."""
    trace = trace_id(1)
    sent = span(trace, 1, kind="producer", name="push")
    sent = sent._replace(
        details={"events": [{"name": "queued", "time_ns": NOON + 500, "attributes": {"n": 1}}]}
    )
    got = span(trace, 2, kind="consumer", name="pull", start_ms=2)
    got = got._replace(links=[[trace, sent.span_id]])
    store(path, {"shop": [sent], "mail": [got]})
    events = export(run, path, "chrome")["traceEvents"]
    slices = {each["name"]: each for each in read_slices(events)}
    ((kind, arrow),) = slices["shop ⇢ push"]["arrows"]
    assert (kind, slices["mail ⇠ pull"]["arrows"]) == ("s", [("f", arrow)])
    (instant,) = [each for each in events if each["ph"] == "i"]
    assert (instant["name"], instant["ts"], instant["args"]) == ("queued", 0.5, {"n": 1})


def test_an_open_span_is_as_long_as_is_known(run: Run, path: Path) -> None:
    """An unfinished span lasts until its last report and is marked as unfinished."""
    store(path, {"shop": [span(trace_id(1), 1, duration_ms=None)]}, at_ns=NOON + 3 * SECOND)
    told = run("export", "--db", path, "--format", "chrome", "--unfinished")
    (slice_,) = read_slices(json.loads(told.stdout)["traceEvents"])
    assert (slice_["end"] - slice_["ts"], slice_["args"]["status"]) == (3_000_000.0, "unfinished")


def stored_span(
    number: int, parent: int | None, instance: int, start_ns: int, duration_ns: int
) -> StoredSpan:
    """Return a span as read from a file."""
    made: Span = span(trace_id(1), number, parent)
    return StoredSpan(
        id=number,
        trace_id=made.trace_id,
        span_id=made.span_id,
        parent_id=made.parent_id,
        service="shop",
        name="work",
        kind="internal",
        instance=instance,
        start_ns=start_ns,
        duration_ns=duration_ns,
        status=0,
        attributes=None,
        links=None,
        details=None,
        measures=(),
        exception=None,
    )


_trees = st.lists(
    st.tuples(
        st.integers(1, 8),
        st.none() | st.integers(1, 8),
        st.integers(1, 2),
        st.integers(0, 9),
        st.integers(0, 9),
    ),
    min_size=1,
    max_size=8,
).map(lambda rows: [stored_span(*row) for row in rows])


@settings(max_examples=4 * settings().max_examples)
@given(st.lists(_trees, min_size=1, max_size=3))
def test_nothing_in_a_lane_crosses(trees: list[list[StoredSpan]]) -> None:
    """Spans in a lane nest or are disjoint, for any times, parents, circles and repeated ids."""
    lanes: dict[int, Lanes] = defaultdict(Lanes)
    taken: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for tree in sorted(trees, key=lambda tree: min(each.start_ns for each in tree)):
        forest = arrange(tree)
        assert sorted(map(repr, forest.spans)) == sorted(map(repr, tree))
        blocks = find_blocks(forest)
        assert sorted(position for block in blocks for position in block.positions) == list(range(len(tree)))
        for block in blocks:
            spans = [forest.spans[position] for position in block.positions]
            assert {each.instance for each in spans} == {block.instance}
            for number, inner in enumerate(spans):
                assert block.start_ns <= inner.start_ns
                assert inner.start_ns + inner.duration_ns <= block.end_ns
                for outer in spans[:number]:
                    end_ns = outer.start_ns + outer.duration_ns
                    assert inner.start_ns >= end_ns or inner.start_ns + inner.duration_ns <= end_ns
            lane = lanes[block.instance].place(block)
            for begin, end in taken[block.instance, lane]:
                assert end < block.start_ns or block.end_ns < begin
            taken[block.instance, lane].append((block.start_ns, block.end_ns))


def read_widths(profile: dict[str, Any], frames: list[dict[str, str]]) -> dict[str, int]:
    """Return each frame's own time: the time while it is the innermost open one."""
    widths: dict[str, int] = defaultdict(int)
    opened: list[int] = []
    then = profile["startValue"]
    for event in profile["events"]:
        assert event["at"] >= then
        if opened:
            widths[frames[opened[-1]]["name"]] += event["at"] - then
        then = event["at"]
        if event["type"] == "O":
            opened.append(event["frame"])
        else:
            assert opened.pop() == event["frame"]
    assert opened == []
    assert then == profile["endValue"]
    return dict(widths)


def test_a_profile_has_each_calls_own_time(run: Run, shop: Path) -> None:
    """A profile of consecutive calls lasts as long as its root, and each frame has its own time."""
    document = export(run, shop, "speedscope")
    jsonschema.validate(document, SPEEDSCOPE_SCHEMA)
    first, second = document["profiles"]
    assert first["name"] == f"shop.checkout 1.24s 2026-01-31 12:00:00Z {trace_id(1).hex()}"
    assert (first["endValue"], second["endValue"]) == (1_240 * MS, 620 * MS)
    assert read_widths(first, document["shared"]["frames"]) == {
        "shop.checkout": 22 * MS,
        "shop → load": 6 * MS,
        "cart.load": 302 * MS,
        "shop → price": 7 * MS,
        "pricing.price": 773 * MS,
        "shop → charge": 7 * MS,
        "billing.charge": 13 * MS,
        "billing → reserve": 4 * MS,
        "stock.reserve": 106 * MS,
    }


def test_calls_at_the_same_time_are_as_wide_as_they_took(run: Run, path: Path) -> None:
    """Concurrent calls are drawn in sequence, and a consumer takes no time of its producer."""
    trace = trace_id(1)
    store(
        path,
        {
            "shop": [
                span(trace, 1, name="root", duration_ms=100),
                span(trace, 2, 1, name="left", start_ms=10, duration_ms=50),
                span(trace, 3, 1, name="right", start_ms=20, duration_ms=50),
                span(trace, 4, 1, kind="consumer", name="later", start_ms=80, duration_ms=500),
            ]
        },
    )
    document = export(run, path, "speedscope")
    (profile,) = document["profiles"]
    widths = read_widths(profile, document["shared"]["frames"])
    assert widths == {
        "shop.root": 40 * MS,
        "shop.left": 50 * MS,
        "shop.right": 50 * MS,
        "shop ⇠ later": 500 * MS,
    }


@settings(max_examples=2 * settings().max_examples)
@given(_trees)
def test_profiles_are_valid_whatever_the_times(tree: list[StoredSpan]) -> None:
    """Every span is opened and closed once in one of the profiles, for any times."""
    writer = SpeedscopeWriter()
    document = json.loads("".join([writer.begin(), *writer.add(tree), writer.end()]))
    jsonschema.validate(document, SPEEDSCOPE_SCHEMA)
    for profile in document["profiles"]:
        read_widths(profile, document["shared"]["frames"])
    assert sum(len(profile["events"]) for profile in document["profiles"]) == 2 * len(tree)


@pytest.mark.parametrize("format_name", ["chrome", "speedscope"])
def test_a_deep_tree_is_written(run: Run, path: Path, format_name: str) -> None:
    """A very deep tree is exported without recursion."""
    depth = 3_000
    trace = trace_id(1)
    calls = [
        span(
            trace,
            number,
            number - 1 if number > 1 else None,
            start_ms=number,
            duration_ms=2 * (depth - number) + 1,
        )
        for number in range(1, depth + 1)
    ]
    store(path, {"shop": calls})
    document = export(run, path, format_name)
    if format_name == "chrome":
        assert max(each["depth"] for each in read_slices(document["traceEvents"])) == depth - 1
    else:
        assert len(document["profiles"][0]["events"]) == 2 * depth
