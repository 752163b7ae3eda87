"""Slowest trees of any time range, found by index, and completeness."""

import sqlite3
from pathlib import Path

import pytest

from tests.viewer.stored import HOUR, MINUTE, NOON, checkout, span, span_id, store, trace_id
from ztrace.errors import SettingsError
from ztrace.records import ERROR
from ztrace_viewer.queries.selection import EVERYTHING, Selection
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.traces import list_slowest, read_tree

#: (hours from noon, duration in ms, method)
TREES = [(0, 50, "buy"), (0, 70, "look"), (1, 10, "buy"), (1, 90, "look"), (200, 60, "buy"), (200, 5, "buy")]


@pytest.fixture
def spread(path: Path) -> Path:
    """Return a database with traces in three hours, days apart."""
    spans = [
        span(
            trace_id(number),
            number,
            name=name,
            at_ns=NOON + hours * HOUR + number * MINUTE,
            duration_ms=duration,
        )
        for number, (hours, duration, name) in enumerate(TREES, 1)
    ]
    return store(path, {"shop": spans})


def durations(path: Path, selection: Selection, limit: int = 20) -> list[int]:
    """Return the durations that `list_slowest` finds, in ms."""
    with open_file(path) as db:
        traces = list_slowest(db, selection, limit)["traces"]
        return [(trace["duration_ns"] or 0) // 10**6 for trace in traces]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6, 20])
def test_the_slowest_come_first(spread: Path, limit: int) -> None:
    """The slowest trees of all hours come first."""
    assert durations(spread, Selection(), limit) == [90, 70, 60, 50, 10, 5][:limit]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(since_ns=NOON + HOUR), [90, 60, 10, 5]),
        (Selection(since_ns=NOON + HOUR + 4 * MINUTE), [90, 60, 5]),
        (Selection(until_ns=NOON + HOUR), [70, 50]),
        (Selection(until_ns=NOON + 2 * MINUTE), [50]),
        (Selection(since_ns=NOON + 2 * MINUTE, until_ns=NOON + HOUR + 4 * MINUTE), [70, 10]),
        (Selection(since_ns=NOON + 300 * HOUR), []),
        (Selection(until_ns=NOON), []),
        (Selection(service="shop", method="buy"), [60, 50, 10, 5]),
        (Selection(method="look", since_ns=NOON + HOUR), [90]),
        (Selection(service="bank"), []),
    ],
)
def test_a_selection_is_exact(spread: Path, selection: Selection, expected: list[int]) -> None:
    """A selection is exact to the nanosecond: since is inclusive, until exclusive."""
    assert durations(spread, selection) == expected


def test_since_after_until_is_refused() -> None:
    """A selection whose start is not before its end is rejected."""
    with pytest.raises(SettingsError, match="--since"):
        Selection(since_ns=2, until_ns=2)


def test_no_question_scans_a_table(spread: Path) -> None:
    """Each statement of `slow` uses an index, except on the small table of unfinished spans."""
    with open_file(spread) as db:
        statements: list[str] = []
        db.db.set_trace_callback(statements.append)
        list_slowest(db, Selection(since_ns=NOON + MINUTE))
        list_slowest(db, Selection(since_ns=NOON + MINUTE), errors=True)
        db.db.set_trace_callback(None)
        asked = [statement for statement in statements if "SELECT" in statement]
        assert len(asked) > 3
        for statement in asked:
            plan = [row[3] for row in db.db.execute(f"EXPLAIN QUERY PLAN {statement}")]
            scanned = {step for step in plan if step.startswith("SCAN") and "parts" not in step}
            # A sealed trace is decoded as a whole.
            decoded = {"SCAN all_spans", "SCAN json_each VIRTUAL TABLE INDEX 1:"}
            assert scanned <= {"SCAN unfinished_spans"} | decoded, plan


def test_trees_with_errors_are_listed(path: Path) -> None:
    """With errors, only trees with a failed span are listed, ended or not, the slowest first."""
    spans = [
        span(trace_id(1), 1, name="fine", duration_ms=900),
        span(trace_id(2), 2, name="failed", duration_ms=300, status=ERROR),
        span(trace_id(3), 3, name="handled", duration_ms=500),
        span(trace_id(3), 4, 3, duration_ms=5, status=ERROR),
        span(trace_id(4), 5, name="open", start_ms=-400, duration_ms=None),
        span(trace_id(4), 6, 5, duration_ms=5, status=ERROR),
        span(trace_id(5), 7, name="runs", start_ms=-700, duration_ms=None),
        span(trace_id(6), 8, name="yesterday", start_ms=-86_400_000, duration_ms=700, status=ERROR),
    ]
    store(path, {"shop": spans}, at_ns=NOON)

    def names(selection: Selection = EVERYTHING, limit: int = 20) -> list[str]:
        with open_file(path) as db:
            found = list_slowest(db, selection, limit, NOON, errors=True)["traces"]
            return [trace["name"] for trace in found]

    assert names() == ["yesterday", "handled", "open", "failed"]
    assert names(limit=2) == ["yesterday", "handled"]
    assert names(Selection(since_ns=NOON - HOUR)) == ["handled", "open", "failed"]
    assert names(Selection(method="failed")) == ["failed"]


def test_a_listed_tree_is_as_a_shown_one(shop: Path) -> None:
    """A listed tree and a shown tree agree in their common fields."""
    with open_file(shop) as db:
        for summary in list_slowest(db)["traces"]:
            tree = read_tree(db, bytes.fromhex(summary["trace_id"]))
            for field in (
                "trace_id",
                "start_ns",
                "duration_ns",
                "services",
                "span_count",
                "error_count",
                "complete",
            ):
                assert summary[field] == tree[field]
            assert (summary["service"], summary["name"]) == ("shop", "checkout")


@pytest.mark.parametrize(
    ("parents", "unfinished", "complete"),
    [
        ({1: None, 2: 1, 3: 2}, None, True),
        ({1: None, 3: 2}, None, False),
        ({2: 1, 3: 2}, None, False),
        ({1: None, 2: 1}, 2, False),
        ({1: None, 2: None}, None, True),
    ],
)
def test_complete_is_told_alike(
    path: Path, parents: dict[int, int | None], unfinished: int | None, complete: bool
) -> None:
    """The list, which counts, and the tree, which is built, agree on completeness."""
    trace = trace_id(1)
    spans = [
        span(trace, number, parent, duration_ms=None if number == unfinished else 5)
        for number, parent in parents.items()
    ]
    store(path, {"shop": spans})
    with open_file(path) as db:
        assert list_slowest(db)["traces"][0]["complete"] is complete
        assert read_tree(db, trace)["complete"] is complete


def test_a_tree_is_read_in_full(shop: Path) -> None:
    """Attributes, processes, times and exceptions are in their spans."""
    with open_file(shop) as db:
        tree = read_tree(db, trace_id(1))
    [root] = tree["roots"]
    load, price, charge = root["children"]
    assert (load["kind"], price["name"]) == ("client", "price")
    [cart] = load["children"]
    assert cart["attributes"] == {"user": "ada"}
    assert cart["instance"]["host"] == "box"
    assert cart["span_id"] == span_id(3).hex()
    assert load["self_ns"] == 6_000_000
    origin = charge["children"][0]["children"][0]["children"][0]["exception"]
    assert origin is not None
    assert origin["origin"]
    assert origin["frames"][-1]["code"] == "return wanted / left"
    wrapped = charge["children"][0]["exception"]
    assert wrapped is not None
    assert (wrapped["how"], wrapped["origin"], wrapped["group"]) == ("wrapped", False, origin["group"])
    assert wrapped["origin_span_id"] == span_id(9).hex()


def test_many_spans_of_a_wide_tree_are_read(path: Path) -> None:
    """A tree of 20,000 siblings is read in full."""
    trace = trace_id(1)
    store(path, {"shop": [span(trace, 1, None)]})
    for first in range(2, 20_001, 5_000):
        store(path, {"shop": [span(trace, n, 1) for n in range(first, min(first + 5_000, 20_001))]})
    with open_file(path) as db:
        assert len(read_tree(db, trace)["roots"][0]["children"]) == 19_999


def test_stored_json_that_is_none_is_left_out(path: Path) -> None:
    """Invalid JSON in columns, as another program may write, is ignored."""
    store(path, checkout(trace_id(1)))
    with sqlite3.connect(path) as db:
        db.execute("UPDATE spans SET attributes = '[1'")
        db.execute("UPDATE exceptions SET frames = 'null', causes = '{}'")
        db.execute("UPDATE traces SET services = '7'")
    db.close()
    with open_file(path) as reader:
        assert list_slowest(reader)["traces"][0]["services"] == []
        assert read_tree(reader, trace_id(1))["roots"][0]["attributes"] == {}
