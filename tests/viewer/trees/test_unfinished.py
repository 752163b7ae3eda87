"""Unfinished spans in trees and lists, with the state of their process."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.viewer.stored import (
    HOUR,
    NOON,
    SECOND,
    header,
    message,
    open_message,
    span,
    span_id,
    store,
    trace_id,
)
from ztrace import records, wire
from ztrace.records import ABANDONED
from ztrace_collector.layout import SILENT_AFTER_NS
from ztrace_collector.storing.store import Store
from ztrace_viewer.documents.traces import TraceSummary
from ztrace_viewer.documents.trees import TreeDocument
from ztrace_viewer.queries.identifiers import find_trace, shorten_traces
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.status import read_status
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.traces import list_slowest, read_tree
from ztrace_viewer.trees.states import LOST_AFTER_NS, state_of_span

#: Ends of a publisher, with the resulting state and time of its open spans.
ENDS = [
    (None, 2, "running", 2),
    (None, 2 + SILENT_AFTER_NS / SECOND + 1, "silent", 2),
    (wire.BYE, 3, "ended", 3),
    (wire.CRASH, 900, "crashed", 3),
]


def end(path: Path, kind: int, at_s: float) -> None:
    """End the publisher of `running`."""
    with Store(path, clock_ns=lambda: NOON + int(at_s * SECOND)) as opened:
        bye = header("shop", [], 1, kind=kind, sequence=1, floor=1, created=1, retired=1)
        body = wire.pack_stretch(NOON, NOON + 3 * SECOND)
        opened.store([[wire.TOPIC, wire.pack_header(bye), body]])


@pytest.fixture
def running(path: Path) -> Path:
    """Return a database with a running root and an ended child, last seen two seconds after noon."""
    trace = trace_id(1)
    with Store(path, clock_ns=lambda: NOON + 2 * SECOND) as opened:
        child = span(trace, 2, 1, name="step", kind="client", start_ms=100, duration_ms=500)
        opened.store([message("shop", [child])])
        root = span(trace, 1, name="buy", duration_ms=None, attributes={"user": "ada"})
        opened.store([open_message("shop", [root], sequence=1, created=1)])
    return path


def tree_and_summary(path: Path, now_ns: int, number: int = 1) -> tuple[TreeDocument, TraceSummary]:
    """Return a trace as shown and as listed."""
    with open_file(path) as db:
        [summary] = [
            each
            for each in list_slowest(db, now_ns=now_ns)["traces"]
            if each["trace_id"] == trace_id(number).hex()
        ]
        return read_tree(db, trace_id(number), now_ns), summary


@pytest.mark.parametrize(("kind", "at_s", "state", "seen_s"), ENDS)
def test_a_span_is_as_alive_as_its_process(
    running: Path, kind: int | None, at_s: float, state: str, seen_s: int
) -> None:
    """An unfinished span has its process's state in the tree, the list and the totals."""
    if kind is not None:
        end(running, kind, at_s)
    now_ns = NOON + int(at_s * SECOND)
    tree, summary = tree_and_summary(running, now_ns)
    [root] = tree["roots"]
    assert (root["name"], root["status"], root["duration_ns"]) == ("buy", "unfinished", None)
    assert root["unfinished"] == {"state": state, "last_seen_ns": NOON + seen_s * SECOND}
    assert root["attributes"] == {"user": "ada"}
    assert [(child["name"], child["unfinished"]) for child in root["children"]] == [("step", None)]
    expected = "still running" if state == "running" else "ended with its process"
    assert tree["missing"] == [{"reason": expected, "span_id": span_id(1).hex()}]
    assert not tree["complete"]
    assert (summary["name"], summary["state"], summary["duration_ns"]) == ("buy", state, None)
    assert summary["running_ns"] == seen_s * SECOND
    with open_file(running) as db:
        status = read_status(db, now_ns)
    counts = (status["unfinished"], status["unfinished_running"], status["unfinished_ended"])
    assert counts == (1, int(state == "running"), int(state != "running"))


def test_the_end_makes_it_a_span_like_others(running: Path) -> None:
    """The end of a root makes its tree complete, with the root's duration."""
    with Store(running) as opened:
        root = span(trace_id(1), 1, name="buy", duration_ms=700)
        opened.store([message("shop", [root], sequence=1, created=2)])
    tree, summary = tree_and_summary(running, NOON + 3 * SECOND)
    assert (tree["complete"], tree["missing"], tree["duration_ns"]) == (True, [], 700_000_000)
    assert (summary["state"], summary["running_ns"], summary["complete"]) == ("finished", None, True)
    assert tree["roots"][0]["unfinished"] is None


def test_what_is_told_of_no_more_has_lost_its_end() -> None:
    """A span no longer reported by a live process has lost its end, and an abandoned one keeps that state."""
    seen_ns = NOON + LOST_AFTER_NS
    assert state_of_span("live", seen_ns, NOON, False, seen_ns)["state"] == "running"
    assert state_of_span("live", seen_ns + 1, NOON, False, seen_ns) == {"state": "lost", "last_seen_ns": NOON}
    assert state_of_span("live", seen_ns, NOON, True, seen_ns) == {"state": "abandoned", "last_seen_ns": NOON}


def test_an_abandoned_span_is_counted_as_lost(path: Path) -> None:
    """A span that its process reports as abandoned counts as lost."""
    abandoned = span(trace_id(1), 1, duration_ms=None, attributes={ABANDONED: True})
    store(path, {"shop": [abandoned, span(trace_id(2), 2, duration_ms=None)]}, at_ns=NOON)
    with open_file(path) as db:
        status = read_status(db, NOON)
        tree = read_tree(db, trace_id(1), NOON)
    assert (status["unfinished_running"], status["unfinished_lost"]) == (1, 1)
    assert tree["missing"] == [{"reason": "let go without an end", "span_id": span_id(1).hex()}]


def test_a_trace_of_which_nothing_has_ended_is_found(path: Path) -> None:
    """A trace without ended spans is found by a unique prefix of its id."""
    one, other = trace_id(1), trace_id(2)
    store(path, {"shop": [span(one, 1, duration_ms=None), span(other, 2)]}, at_ns=NOON)
    with open_file(path) as db:
        short = shorten_traces(db, [one.hex(), other.hex()])
        assert all(find_trace(db, prefix).hex() == whole for whole, prefix in short.items())
        tree = read_tree(db, one, NOON + SECOND)
    assert (tree["span_count"], tree["duration_ns"], tree["services"]) == (1, None, ["shop"])


def test_slow_ones_that_run_are_in_their_place(path: Path) -> None:
    """Running trees are listed by their time so far, and selected like ended ones."""
    spans = [
        span(trace_id(1), 1, name="short", duration_ms=1000),
        span(trace_id(2), 2, name="long", duration_ms=5000),
        span(trace_id(3), 3, name="runs", start_ms=-3000, duration_ms=None),
        # Of this one a child has ended, which would be slowest: its root is what counts.
        span(trace_id(4), 4, name="young", start_ms=-500, duration_ms=None),
        span(trace_id(4), 5, 4, name="part", start_ms=-400, duration_ms=9000),
    ]
    store(path, {"shop": spans}, at_ns=NOON)

    def names(limit: int = 20, **choice: Any) -> list[str]:
        with open_file(path) as db:
            found = list_slowest(db, Selection(**choice), limit, NOON)["traces"]
            return [trace["name"] for trace in found]

    assert names() == ["long", "runs", "short", "young"]
    assert [names(limit) for limit in (1, 2, 3)] == [["long"], ["long", "runs"], ["long", "runs", "short"]]
    assert names(since_ns=NOON) == ["long", "short"]
    assert names(until_ns=NOON - SECOND) == ["runs"]
    assert names(method="young") == ["young"]
    assert names(method="part") == []
    assert names(service="bank") == []


def test_a_refused_parent_is_known(path: Path) -> None:
    """A missing parent that was refused is reported with its refusal."""
    bad = span(trace_id(1), 1)._replace(kind=9)
    store(path, {"shop": [bad, span(trace_id(1), 2, 1)]}, at_ns=NOON)
    with open_file(path) as db:
        [entry] = read_tree(db, trace_id(1), NOON)["missing"]
    assert (entry["reason"], entry["refusal"]) == ("refused", "kind")


def test_a_lost_parent_is_in_a_gap(path: Path) -> None:
    """A missing parent within a loss of its process is reported with the loss, as in the status."""
    lost = header("shop", [], 1, kind=wire.TOMBSTONE, sequence=1, span_count=40, created=41)
    body = wire.pack_stretch(NOON, NOON + SECOND)
    with Store(path, clock_ns=lambda: NOON + 2 * SECOND) as opened:
        opened.store([message("shop", [span(trace_id(1), 2, 1, kind="internal")])])
        opened.store([[wire.TOPIC, wire.pack_header(lost), body]])
    with open_file(path) as db:
        [entry] = read_tree(db, trace_id(1), NOON + HOUR)["missing"]
        status = read_status(db, NOON + HOUR)
    assert (entry["reason"], entry["gap"]) == ("lost", status["losses"][0])
    assert entry["gap"] == {
        "service": "shop",
        "host": "box",
        "pid": 1001,
        "reason": "window full",
        "span_count": 40,
        "first_ns": NOON,
        "last_ns": NOON + SECOND,
    }
    assert (status["spans_created"], status["spans_lost"], status["spans_waiting"]) == (41, 40, 0)
    assert status["publishers"][0]["spans_tombstoned"] == 40


@st.composite
def traces(draw: st.DrawFn) -> list[records.Span]:
    """Draw the spans of one trace, with missing parents and ends."""
    return [
        span(
            trace_id(1),
            number,
            draw(st.none() | st.sampled_from([other for other in range(1, 7) if other != number])),
            name=f"call{number}",
            kind=draw(st.sampled_from(["server", "client"])),
            start_ms=draw(st.integers(0, 3)),
            duration_ms=draw(st.none() | st.integers(0, 5)),
        )
        for number in draw(st.lists(st.integers(1, 5), min_size=1, max_size=5, unique=True))
    ]


@settings(max_examples=settings().max_examples // 2)
@given(traces())
def test_a_list_says_what_the_tree_says(
    tmp_path_factory: pytest.TempPathFactory, spans: list[records.Span]
) -> None:
    """List and tree agree on any trace without circles."""
    path = tmp_path_factory.mktemp("alike") / "ztrace.db"
    store(path, {"shop": spans[::2], "bank": spans[1::2]}, at_ns=NOON)
    tree, summary = tree_and_summary(path, NOON + SECOND)
    reasons = {entry["reason"] for entry in tree["missing"]}
    if "parents form a circle" not in reasons:
        shared: Mapping[str, object] = {**summary, "complete": tree["complete"]}
        assert summary["complete"] == tree["complete"]
        for field in ("trace_id", "start_ns", "duration_ns", "services", "span_count", "error_count"):
            assert shared[field] == dict(tree)[field], field


def test_the_commands_show_what_runs(running: Path, run: Callable[..., Any], ask: Callable[..., Any]) -> None:
    """``slow``, ``show`` and ``status`` print the state of a span whose process is silent."""
    text = run("slow", "--db", running).stdout
    assert "its process is silent" in text
    assert ">2.00s" in text
    shown = run("show", trace_id(1).hex(), "--db", running).stdout
    assert "ended with its process (silent), last heard from at 2026-01-31 12:00:02" in shown
    assert shown.endswith("incomplete; 1 span: ended with its process\n")
    assert "unfinished  1 span: 1 ended with their process" in run("status", "--db", running).stdout
    assert ask("slow", "--db", running)["traces"][0]["state"] == "silent"
