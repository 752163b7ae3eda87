"""Events of OpenTelemetry spans, in documents and on the screen."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.viewer.stored import MS, NOON, raised, span, store, trace_id
from ztrace_viewer.queries.figures import list_methods
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.traces import read_tree
from ztrace_viewer.render.call_tree import draw_tree
from ztrace_viewer.render.lists import draw_stats
from ztrace_viewer.trees.details import read_events, read_object, read_status_message

TRACE = trace_id(1)


def event(name: str, at_ms: float, **attributes: Any) -> dict[str, Any]:
    """Return an event of a span."""
    return {"name": name, "time_ns": NOON + int(at_ms * MS), "attributes": attributes}


def tree_of(path: Path, details: dict[str, Any], **changes: Any) -> Any:
    """Return the tree of a span with details."""
    stored = span(TRACE, 1, name="work", start_ms=1, duration_ms=20, **changes)
    store(path, {"cart": [stored._replace(details=details)]})
    with open_file(path) as db:
        return read_tree(db, TRACE)


def lines_of(tree: Any, width: int = 100) -> list[str]:
    """Return the lines drawn below a tree's only span."""
    return [line.plain for line in draw_tree(tree, width, None, NOON)][5:]


def test_events_are_told_by_time(tmp_path: Path) -> None:
    """Events are in the document in full, and on the screen with their time since the span's start."""
    events = [event("later", 5, size=3), event("cache.miss", 2.5, key="user:42", hit=[False, None])]
    tree = tree_of(tmp_path / "db", {"events": events, "status_message": "fine"})
    (root,) = tree["roots"]
    assert root["events"] == [events[1], events[0]]
    assert root["status_message"] == "fine"
    assert lines_of(tree) == [
        "  fine",
        "  · +1.50ms cache.miss  key=user:42  hit=[false, null]",
        "  · +4.00ms later  size=3",
    ]


def test_ztrace_own_spans_have_none(tmp_path: Path) -> None:
    """A span of ztrace has an empty list of events and no lines."""
    store(tmp_path / "db", {"cart": [span(TRACE, 1)]})
    with open_file(tmp_path / "db") as db:
        tree = read_tree(db, TRACE)
    assert (tree["roots"][0]["events"], tree["roots"][0]["status_message"]) == ([], None)
    assert lines_of(tree) == []


def test_many_events_do_not_hide_the_tree(tmp_path: Path) -> None:
    """Many events are cut to some, with the number of the others, which is at least two."""
    for count, shown in ((4, 4), (5, 3)):
        tree = tree_of(tmp_path / f"{count}.db", {"events": [event("e", 2)] * count})
        lines = lines_of(tree)
        assert sum(line.startswith("  · ") for line in lines) == shown
    assert lines[-1] == "  … 2 more events; --json has them all"


def test_why_it_failed_is_said_once(tmp_path: Path) -> None:
    """The reason of a failure is drawn once, as the exception or else as the status message."""
    details = {"events": [event("exception", 3, **{"exception.type": "E"})], "status_message": "E: no"}
    failed = tree_of(tmp_path / "a", details, exception=raised("E", "no"))
    assert not any("exception" in line or line.strip() == "E: no" for line in lines_of(failed)[:1])
    assert failed["roots"][0]["events"] == details["events"]
    alone = tree_of(tmp_path / "b", {"status_message": "quota\x1b[31m exceeded"}, status=1)
    assert lines_of(alone) == ["  quota[31m exceeded"]


def test_lines_fit(tmp_path: Path) -> None:
    """Lines of events fit the screen and have no control characters, for any names and times."""
    events = [event("n\x1b[2J\n" * 30, -2, **{"k\r": "v" * 500}), event("e", 2, a={"b": "\u202e" * 200})]
    for line in lines_of(tree_of(tmp_path / "db", {"events": events}), 60):
        assert len(line) <= 60
        assert line.isprintable()
        assert "-3.00ms" in line or "+1.00ms" in line


@pytest.mark.parametrize(
    "details",
    ["", "{", "5", '{"events": 5}', '{"events": [5, {"name": 5}, {"name": "e", "time_ns": "1"}]}'],
)
def test_a_damaged_column_tells_nothing(details: str) -> None:
    """A damaged column of details is ignored."""
    assert read_events(read_object(details)) == []
    assert read_status_message(read_object('{"status_message": 5}')) is None


def test_a_span_without_own_time_gets_what_its_children_leave(tmp_path: Path) -> None:
    """A span without stored self time gets the time its children leave, and counts in figures with none."""
    spans = [
        span(TRACE, 1, name="top", duration_ms=20)._replace(self_ns=None),
        span(TRACE, 2, 1, name="one", start_ms=2, duration_ms=4)._replace(self_ns=None),
        span(TRACE, 3, 1, name="two", start_ms=4, duration_ms=6)._replace(self_ns=None),
    ]
    store(tmp_path / "db", {"cart": spans})
    with open_file(tmp_path / "db") as db:
        (root,) = read_tree(db, TRACE)["roots"]
        figures = {each["name"]: each for each in list_methods(db)["methods"]}
    assert root["self_ns"] == 12 * MS
    assert [child["self_ns"] for child in root["children"]] == [4 * MS, 6 * MS]
    assert (figures["top"]["total_ns"], figures["top"]["self_ns"]) == (20 * MS, 0)
    assert [line.plain.split()[-1] for line in draw_stats({"methods": [figures["top"]]}, 100)] == ["OWN", "-"]
    assert json.loads(json.dumps(root["events"])) == []
