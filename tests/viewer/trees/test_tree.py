"""Trees built from rows: each span once, bounded self times, and reported defects of ids."""

import sys
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ztrace_viewer.trees.arrangement import cover
from ztrace_viewer.trees.missing import CIRCLE, END_LOST, NOT_TRACED, REPEATED, STILL_RUNNING
from ztrace_viewer.trees.spans import SpanRow
from ztrace_viewer.trees.states import RUNNING
from ztrace_viewer.trees.tree import build_tree, walk

TRACE = bytes(16)


def row(
    number: int,
    parent: int | None = None,
    start_ns: int = 0,
    duration_ns: int | None = 10,
    *,
    self_ns: int | None = None,
    kind: str = "server",
    status: int = 0,
    service: str = "shop",
) -> SpanRow:
    """Return a stored span."""
    return SpanRow(
        trace_id=TRACE,
        span_id=number.to_bytes(8, "big"),
        parent_id=None if parent is None else parent.to_bytes(8, "big"),
        service=service,
        name=f"call{number}",
        kind=kind,
        start_ns=start_ns,
        duration_ns=duration_ns,
        self_ns=self_ns,
        cpu_ns=None,
        lane=None,
        status=2 if duration_ns is None else status,
        attributes=None,
        links=None,
        details=None,
        instance_id="aa",
        host="box",
        pid=1,
        resource=None,
        unfinished=None,
    )


def test_children_stand_below_their_parents_by_start() -> None:
    """Children are below their parents in order of start, for any order of rows."""
    tree = build_tree(TRACE, [row(3, 1, 5), row(2, 1, 2), row(1, None, 0, 20), row(4, 3, 6)], {})
    assert [(span["name"], depth) for span, depth in walk(tree["roots"])] == [
        ("call1", 0),
        ("call2", 1),
        ("call3", 1),
        ("call4", 2),
    ]
    assert tree["complete"]
    assert tree["missing"] == []
    assert tree["span_count"] == 4


def test_a_span_without_its_parent_is_a_root_with_the_reason() -> None:
    """A span without stored parent is a root, and the reason names both."""
    tree = build_tree(TRACE, [row(1), row(3, 2)], {})
    assert [span["name"] for span in tree["roots"]] == ["call1", "call3"]
    assert tree["missing"] == [
        {"reason": NOT_TRACED, "span_id": "0000000000000003", "parent_id": "0000000000000002"}
    ]
    assert not tree["complete"]


def test_a_circle_is_opened_at_its_earliest_span() -> None:
    """A circle of parents, of one span too, is cut at its earliest span."""
    tree = build_tree(TRACE, [row(1, 3, 5), row(2, 1, 3), row(3, 2, 4), row(4, 1, 9), row(5, 5, 1)], {})
    assert [span["name"] for span in tree["roots"]] == ["call5", "call2"]
    assert [entry["reason"] for entry in tree["missing"]] == [CIRCLE, CIRCLE]
    assert len(list(walk(tree["roots"]))) == 5


def test_a_repeated_id_loses_no_span() -> None:
    """Spans with a repeated id are all kept, and children belong to the first."""
    tree = build_tree(TRACE, [row(1), row(2, 1, 1), row(2, 1, 2), row(3, 2, 3)], {})
    names = [(span["name"], len(span["children"])) for span, _ in walk(tree["roots"])]
    assert names == [("call1", 2), ("call2", 1), ("call3", 0), ("call2", 0)]
    assert tree["missing"] == [{"reason": REPEATED, "span_id": "0000000000000002"}]


def test_an_unfinished_span_is_missing_its_end() -> None:
    """An unfinished span has no duration and is reported, and its children are below it."""
    running = row(1, None, 0, None)._replace(unfinished={"state": RUNNING, "last_seen_ns": 9})
    tree = build_tree(TRACE, [running, row(2, 1, 3, 4)], {})
    [root] = tree["roots"]
    assert (root["status"], root["self_ns"], len(root["children"])) == ("unfinished", None, 1)
    assert root["unfinished"] == {"state": RUNNING, "last_seen_ns": 9}
    assert tree["missing"] == [{"reason": STILL_RUNNING, "span_id": "0000000000000001"}]
    assert tree["duration_ns"] is None
    assert build_tree(TRACE, [row(1), row(2, 1, 3, None)], {})["duration_ns"] == 10
    lost = build_tree(TRACE, [row(2, 1, 3, None), row(3, 1, 4, 8)], {})
    assert [entry["reason"] for entry in lost["missing"]] == [NOT_TRACED, END_LOST, NOT_TRACED]
    assert lost["duration_ns"] == 9


def test_the_duration_is_the_roots() -> None:
    """A tree's duration is its root's, whatever consumers do later."""
    tree = build_tree(TRACE, [row(1, None, 0, 10), row(2, 1, 5, 100, kind="consumer")], {})
    assert tree["duration_ns"] == 10


def test_self_time_leaves_out_what_other_processes_did() -> None:
    """Self time excludes the union of children in other processes, clipped to the span, without consumers."""
    children = [row(2, 1, 10, 20), row(3, 1, 20, 20), row(4, 1, 90, 50), row(5, 1, 50, 20, kind="consumer")]
    tree = build_tree(TRACE, [row(1, None, 0, 100, self_ns=100), *children], {})
    assert tree["roots"][0]["self_ns"] == 100 - 30 - 10


def test_a_smaller_stored_self_time_stays() -> None:
    """A smaller stored self time is kept, since the process knows children that are not stored."""
    tree = build_tree(TRACE, [row(1, None, 0, 100, self_ns=5), row(2, 1, 0, 10)], {})
    assert tree["roots"][0]["self_ns"] == 5


def test_a_tree_may_be_deeper_than_pythons_stack() -> None:
    """A chain of 20,000 spans is built."""
    depth = 20_000
    assert depth > sys.getrecursionlimit()
    tree = build_tree(TRACE, [row(n, n - 1 if n else None, n, depth - n) for n in range(depth)], {})
    assert max(level for _, level in walk(tree["roots"])) == depth - 1
    assert tree["complete"]


ROWS = st.lists(
    st.builds(
        row,
        st.integers(0, 12),
        st.none() | st.integers(0, 14),
        st.integers(0, 100),
        st.none() | st.integers(0, 100),
        self_ns=st.none() | st.integers(0, 100),
        kind=st.sampled_from(["server", "client", "consumer"]),
    ),
    min_size=1,
    max_size=40,
)


@given(ROWS)
def test_every_span_appears_exactly_once(rows: list[SpanRow]) -> None:
    """Every span appears once, for any ids and parents."""
    tree = build_tree(TRACE, rows, {})
    shown = [(span["span_id"], span["start_ns"]) for span, _ in walk(tree["roots"])]
    assert sorted(shown) == sorted((each.span_id.hex(), each.start_ns) for each in rows)
    assert tree["complete"] == (not tree["missing"])


@given(ROWS)
def test_what_stands_below_a_span_says_so(rows: list[SpanRow]) -> None:
    """Each child names its parent, and each root has no parent or a reason."""
    tree = build_tree(TRACE, rows, {})
    explained = {entry["span_id"] for entry in tree["missing"] if "parent_id" in entry}
    for span, _ in walk(tree["roots"]):
        assert [child["start_ns"] for child in span["children"]] == sorted(
            child["start_ns"] for child in span["children"]
        )
        assert all(child["parent_id"] == span["span_id"] for child in span["children"])
    assert all(root["parent_id"] is None or root["span_id"] in explained for root in tree["roots"])


@given(ROWS)
def test_self_time_is_within_the_span(rows: list[SpanRow]) -> None:
    """Self time is between zero and the time that no child covers."""
    tree = build_tree(TRACE, [each for each in rows if each.duration_ns is not None] or [row(1)], {})
    for span, _ in walk(tree["roots"]):
        assert span["duration_ns"] is not None
        assert span["self_ns"] is not None
        begin, end = span["start_ns"], span["start_ns"] + span["duration_ns"]
        busy = set()
        for child in span["children"]:
            if child["kind"] != "consumer":
                busy |= set(range(child["start_ns"], child["start_ns"] + (child["duration_ns"] or 0)))
        assert 0 <= span["self_ns"] <= len(set(range(begin, end)) - busy)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50))), st.integers(0, 50), st.integers(0, 50))
def test_a_cover_is_the_union(intervals: list[tuple[int, int]], start: int, end: int) -> None:
    """A cover is the clipped union of intervals, disjoint and ordered."""
    union = cover(intervals, start, end)
    points = {point for begin, stop in intervals for point in range(begin, stop) if start <= point < end}
    assert {point for begin, stop in union for point in range(begin, stop)} == points
    assert all(one[1] < other[0] for one, other in pairwise(union))
