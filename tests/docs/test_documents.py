"""Fields and types of the JSON documents, compared with the page of commands."""

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.docs import pages
from tests.viewer.queries.test_comparison import AFTER_MIDDLE, BEFORE_MIDDLE, around, usual, write_minutes
from tests.viewer.stored import MINUTE, NOON, checkout, header, raised, span, store, trace_id
from ztrace.records import REPLACED
from ztrace.wire import TOMBSTONE, TOPIC, pack_header, pack_stretch
from ztrace_collector.otlp.forwarding.messages import Report
from ztrace_collector.otlp.forwarding.rows import register, write_reports
from ztrace_collector.otlp.sending.destinations import read_destinations
from ztrace_collector.settling.settler import settle_all
from ztrace_collector.storing.store import Store
from ztrace_viewer.cli import ztrace
from ztrace_viewer.queries.comparison import compare
from ztrace_viewer.queries.following import Follower
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.sqlite.store import open_file

PAGE = pages.sections(pages.read("reference/commands.md"))

#: Predicate for each type named in the page's tables.
TYPES: dict[str, Callable[[Any], bool]] = {
    "int": lambda value: type(value) is int,
    "text": lambda value: type(value) is str,
    "float": lambda value: type(value) is float,
    "bool": lambda value: type(value) is bool,
    "array": lambda value: type(value) is list,
    "array of text": lambda value: type(value) is list and all(type(each) is str for each in value),
    "object": lambda value: type(value) is dict,
    "null": lambda value: value is None,
    "16 hex": lambda value: re.fullmatch("[0-9a-f]{16}", str(value)) is not None,
    "32 hex": lambda value: re.fullmatch("[0-9a-f]{32}", str(value)) is not None,
}


def fields(shape: str) -> dict[str, str]:
    """Return the fields of a documented shape and their types."""
    return {pages.code(row[0])[0]: row[1] for row in pages.rows(PAGE[shape])}


def check(
    value: Mapping[str, Any], shape: str, more: str = "", optional: frozenset[str] = frozenset()
) -> None:
    """Assert that an object has the fields of a shape, and of another shape it extends."""
    expected = fields(shape) | (fields(more) if more else {})
    assert expected.keys() - optional <= value.keys() <= expected.keys()
    for name, item in value.items():
        allowed = expected[name].split(" or ")
        assert any(TYPES[each](item) for each in allowed), f"{shape}.{name}: {item!r} is not {allowed}"


def check_frames(frames: list[dict[str, Any]]) -> None:
    """Assert that there are frames with the documented fields."""
    assert frames
    for frame in frames:
        check(frame, "Frame")


def check_group(group: dict[str, Any]) -> None:
    """Check an exception group and its samples."""
    check(group, "Exception group")
    check_frames(group["frames"])
    assert len(group["when"]) == 24
    assert group["samples"]
    for sample in group["samples"]:
        check(sample, "Sample")


def check_exception(exception: dict[str, Any]) -> int:
    """Check an exception with its causes and members; return the number of these."""
    check(exception, "Exception")
    for frame in exception["frames"]:
        check(frame, "Frame")
    return sum(1 + check_exception(nested) for nested in [*exception["causes"], *exception["members"]])


def walk(spans: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield spans and their descendants."""
    for each in spans:
        yield each
        yield from walk(each["children"])


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database with data for every field: causes, members, orphans, an open span, a loss."""
    path = tmp_path_factory.mktemp("documents") / "shop.db"
    store(path, checkout(trace_id(1), NOON), at_ns=NOON)
    cause = raised("OSError", "disk")._replace(how=REPLACED)
    error = raised("ValueError", "no", causes=[cause])._replace(members=[raised("KeyError", "'x'")])
    orphan = trace_id(2)
    store(
        path,
        {
            "shop": [
                span(orphan, 1, name="lost", parent=77, kind="client", exception=error),
                span(orphan, 2, name="open", parent=1, duration_ms=None),
                span(orphan, 3, name="refused")._replace(kind=9),
                span(orphan, 4, name="child", parent=3),
            ],
            "bank": [],
        },
        at_ns=NOON,
    )
    gone = header("bank", [], 99, kind=TOMBSTONE, span_count=5, created=5)
    with Store(path, clock_ns=lambda: NOON) as opened:
        opened.store([[TOPIC, pack_header(gone), pack_stretch(NOON, NOON + 1_000_000)]])
        with opened.transaction() as db:
            register(db, read_destinations(["http://host:4318"], [], {}), NOON)
            write_reports(db, [Report(1, NOON, refused={"HTTP 400": (1, "no")}), Report(1, NOON, error="no")])
        list(settle_all(opened))
    return path


@pytest.fixture
def ask(database: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Return a function that runs a command with ``--json`` and parses its document."""
    monkeypatch.delenv("ZTRACE_DB", raising=False)

    def invoke(*arguments: str) -> dict[str, Any]:
        result = CliRunner().invoke(ztrace, [*arguments, "--db", str(database), "--json"])
        assert result.exit_code == 0, result.stderr
        document: dict[str, Any] = json.loads(result.stdout)
        return document

    return invoke


Ask = Callable[..., dict[str, Any]]


def test_slow(ask: Ask) -> None:
    """``slow`` prints a list of trace summaries."""
    document = ask("slow")
    assert list(document) == ["traces"]
    assert len(document["traces"]) == 2
    for trace in document["traces"]:
        check(trace, "Trace summary")


def test_show(ask: Ask) -> None:
    """``show`` prints a tree of spans with exceptions, causes and missing spans."""
    nested, missing, spans, unfinished = 0, set(), 0, 0
    for trace in ask("slow")["traces"]:
        tree = ask("show", trace["trace_id"])
        check(tree, "Tree")
        for each in walk(tree["roots"]):
            spans += 1
            check(each, "Span")
            check(each["instance"], "Instance")
            if each["instance"]["clock"] is not None:
                check(each["instance"]["clock"], "Clock")
            for link in each["links"]:
                check(link, "Link")
            if each["unfinished"] is not None:
                unfinished += 1
                check(each["unfinished"], "Unfinished")
            if each["exception"] is not None:
                nested += check_exception(each["exception"])
        for entry in tree["missing"]:
            check(entry, "Missing", optional=frozenset({"parent_id", "gap", "refusal"}))
            if "gap" in entry:
                check(entry["gap"], "Loss")
            missing |= entry.keys()
    assert (spans, nested, unfinished) == (12, 2, 1)
    assert missing == fields("Missing").keys()


def test_find(ask: Ask) -> None:
    """``find`` prints a list of found calls, ended and not."""
    document = ask("find")
    assert list(document) == ["spans", "searched_since_ns", "thinned_until_ns"]
    for each in document["spans"]:
        check(each, "Found call")
    assert {each["status"] for each in document["spans"]} == {"ok", "error", "unfinished"}


def test_map(ask: Ask) -> None:
    """``map`` prints services and calls with the documented fields."""
    document = ask("map")
    text = PAGE["ztrace map"]
    assert all(f"`{name}`" in text for name in document)
    assert document["minutes"] > 0
    figures = {"calls", "errors", "p95_ns"}
    assert all(each.keys() == {"service", *figures} for each in document["services"])
    assert all(each.keys() == {"from", "to", *figures} for each in document["calls"])
    assert document["services"]
    assert document["calls"]


def test_errors_and_error(ask: Ask) -> None:
    """``errors`` prints a list of groups, and ``error`` one group with its hops."""
    document = ask("errors")
    assert list(document) == ["groups"]
    assert len(document["groups"]) == 2
    seen = {"Hop": 0, "Callee": 0, "Missing": 0}
    for group in document["groups"]:
        check_group(group)
        error = ask("error", group["group"])
        check(error, "Error")
        check_group(error["group"])
        check(error["shown"], "Sample")
        check_exception(error["exception"])
        for hop in error["hops"]:
            seen["Hop"] += 1
            check(hop, "Hop")
            check(hop["instance"], "Instance", optional=frozenset({"clock"}))
            for frame in hop["frames"]:
                check(frame, "Frame")
        if error["callee"] is not None:
            seen["Callee"] += 1
            check(error["callee"], "Callee")
            check(error["callee"]["instance"], "Instance", optional=frozenset({"clock"}))
        if error["missing"] is not None:
            seen["Missing"] += 1
            check(error["missing"], "Missing", optional=frozenset({"gap", "refusal"}))
    assert all(seen.values()), seen


def test_stats(ask: Ask) -> None:
    """``stats`` prints a list of methods."""
    document = ask("stats")
    assert list(document) == ["methods", "trends"]
    assert document["methods"]
    for method in document["methods"]:
        check(method, "Method")
    assert document["trends"] is None


def test_trends(tmp_path: Path) -> None:
    """``stats`` of several minutes prints the trends of methods."""
    spans = [span(trace_id(number), 1, at_ns=NOON + number * MINUTE) for number in range(3)]
    path = store(tmp_path / "long.db", {"shop": spans}, at_ns=NOON)
    printed = CliRunner().invoke(ztrace, ["stats", "--db", str(path), "--json"]).stdout
    trends = json.loads(printed)["trends"]
    check(trends, "Trends")
    assert [list(trend) for trend in trends["methods"]] == [["calls", "errors", "p95_ns"]]


def test_profile(ask: Ask) -> None:
    """``profile`` prints figures of paths."""
    document = ask("profile")
    names = ["traces", "p50_ns", "p95_ns", "unsettled_spans", "late_spans", "left_out", "paths", "uncounted"]
    assert list(document) == names
    assert document["traces"] >= 1
    for path in document["paths"]:
        check(path, "Path figures")
        assert [list(step) for step in path["path"]] == [["service", "name", "kind"]] * len(path["path"])


def test_diff(tmp_path: Path) -> None:
    """``diff`` prints changes of paths."""
    path = write_minutes(tmp_path / "shop.db", around(6, usual()), random.Random(1))
    with open_file(path) as db:
        document = compare(db, None, BEFORE_MIDDLE, AFTER_MIDDLE, None, NOON)
    names = ["before", "after", "total_change_ns", "paths", "smallest_seen_ns", "unit_s"]
    names += ["sampled_of", "thinned_until_ns"]
    assert list(document) == names
    assert list(document["before"]) == ["traces", "minutes"]
    assert document["paths"]
    for change in document["paths"]:
        check(change, "Path change")


def test_status(ask: Ask) -> None:
    """``status`` prints totals, publishers, losses and destinations."""
    document = ask("status")
    check(document, "Status")
    assert (document["unfinished"], len(document["publishers"])) == (1, 8)
    assert [loss["reason"] for loss in document["losses"]] == ["window full", "refused"]
    for loss in document["losses"]:
        check(loss, "Loss")
    for publisher in document["publishers"]:
        check(publisher, "Publisher")
    for service in document["services"]:
        check(service, "Publishers of a service")
    assert sum(service["publishers"] for service in document["services"]) == document["publisher_count"] == 8
    (destination,) = document["destinations"]
    check(destination, "Destination")
    assert destination["refusals"]


def test_tail(database: Path) -> None:
    """``tail`` prints trace events and error events."""
    with open_file(database, snapshot=False) as db:
        follower = Follower(db, Selection(since_ns=0))
        events: list[Mapping[str, Any]] = [*follower.look(), *follower.look()]
    for event in events:
        if event["event"] == "trace":
            check(event, "Trace event", "Trace summary")
        else:
            check(event, "Error event")
            check_frames(event["frames"])
    assert sorted(event["event"] for event in events) == ["error", "error", "trace"]


@pytest.mark.parametrize(
    ("arguments", "document"),
    [
        (["slow"], {"traces": []}),
        (["errors"], {"groups": []}),
        (["stats"], {"methods": [], "trends": None}),
        (["show", "ffff"], {}),
    ],
)
def test_nothing_found(database: Path, arguments: list[str], document: dict[str, Any]) -> None:
    """Without a match the document is empty and the exit status is 1."""
    service = [] if arguments[0] == "show" else ["--service", "nobody"]
    result = CliRunner().invoke(ztrace, [*arguments, *service, "--db", str(database), "--json"])
    assert (result.exit_code, json.loads(result.stdout)) == (1, document)
