"""Map of services: calls between them, from the figures by call path."""

import json
import time
from pathlib import Path

import pytest

from tests.viewer.conftest import Run
from tests.viewer.queries.test_profile import settle
from tests.viewer.stored import MINUTE, NOON, checkout, span, store, trace_id
from ztrace_collector.settling import paths as settled_paths
from ztrace_viewer.documents.map import MapDocument
from ztrace_viewer.queries.selection import EVERYTHING, Selection
from ztrace_viewer.queries.service_map import read_map
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.terminal.counts import format_rate


def read(path: Path, selection: Selection = EVERYTHING, now_ns: int = NOON) -> MapDocument:
    """Return the map as of a moment."""
    with open_file(path) as db:
        return read_map(db, selection, now_ns)


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database with a checkout at noon and a quicker one a minute later, both counted."""
    path = tmp_path_factory.mktemp("map") / "shop.db"
    return settle(
        path, checkout(trace_id(1), NOON), checkout(trace_id(2, NOON + MINUTE), NOON + MINUTE, scale=0.5)
    )


def test_calls_between_services_are_counted(counted: Path) -> None:
    """A call from one service to another counts as its callee saw it, and calls within a service do not."""
    document = read(counted)
    assert [(each["from"], each["to"], each["calls"], each["errors"]) for each in document["calls"]] == [
        ("billing", "stock", 2, 2),
        ("shop", "billing", 2, 2),
        ("shop", "cart", 2, 0),
        ("shop", "pricing", 2, 0),
    ]
    assert [(each["service"], each["calls"], each["errors"]) for each in document["services"]] == [
        ("billing", 2, 2),
        ("cart", 2, 0),
        ("pricing", 2, 0),
        ("shop", 2, 0),
        ("stock", 2, 2),
    ]
    (cart,) = [each["p95_ns"] for each in document["services"] if each["service"] == "cart"]
    assert cart == pytest.approx(302e6, rel=0.03)
    assert (document["unsettled_spans"], document["left_out"], document["other_calls"]) == (0, 0, 0)
    assert document["minutes"] == 2


def test_a_map_is_of_a_time_and_of_a_service(counted: Path) -> None:
    """The time selects trees by the minute of their end, and the service its callers and callees."""
    assert [each["calls"] for each in read(counted, Selection(until_ns=NOON + MINUTE))["calls"]] == [1] * 4
    document = read(counted, Selection(service="billing"))
    assert [(each["from"], each["to"]) for each in document["calls"]] == [
        ("billing", "stock"),
        ("shop", "billing"),
    ]
    assert [each["service"] for each in document["services"]] == ["billing", "shop", "stock"]
    assert read(counted, Selection(until_ns=NOON - MINUTE))["services"] == []


@pytest.mark.parametrize(
    ("selection", "age_ns", "minutes"),
    [
        (EVERYTHING, 0, 2),
        (Selection(until_ns=NOON + MINUTE), 5 * MINUTE, 1),
        (Selection(since_ns=NOON + MINUTE), 5 * MINUTE, 4),
        (Selection(since_ns=NOON - 60 * MINUTE), 5 * MINUTE, 5),
        (Selection(since_ns=NOON - 60 * MINUTE, until_ns=NOON + 90 * MINUTE), 5 * MINUTE, 5),
        (EVERYTHING, 24 * 60 * MINUTE, 60),
        (Selection(until_ns=NOON - MINUTE), 0, 0),
    ],
    ids=["all", "the first minute", "since", "since before the first", "to come", "hours", "nothing"],
)
def test_rates_are_of_the_time_with_figures(
    counted: Path, selection: Selection, age_ns: int, minutes: int
) -> None:
    """The time of a rate begins with the file's first figure, and ends with its last, or now."""
    assert read(counted, selection, NOON + age_ns)["minutes"] == minutes


def test_spans_that_are_not_counted_are_told(path: Path, run: Run) -> None:
    """Spans that arrived since the last count are told, in the document and in the text."""
    settle(path, checkout(trace_id(1)))
    store(path, {"shop": [span(trace_id(2), 1)]})
    assert read(path)["unsettled_spans"] == 1
    assert "1 span not counted yet" in run("map", "--db", path).stdout


def test_calls_beyond_the_bounds_are_told(path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls on paths that share a figure belong to no pair of services, and are counted apart."""
    monkeypatch.setattr(settled_paths, "MAX_OF_ROOT", 2)
    settle(path, checkout(trace_id(1)))
    document = read(path)
    assert document["other_calls"] > 0
    assert "" not in {each["service"] for each in document["services"]}
    assert "on rare call paths not counted" in run("map", "--db", path).stdout


def test_the_text_lists_callers_first(run: Run, counted: Path) -> None:
    """`map` prints each service, and below it those it calls; a caller comes before what it calls."""
    lines = run("map", "--db", counted).stdout.splitlines()
    rate = format_rate(2, read(counted, now_ns=time.time_ns())["minutes"])
    assert [line.split()[:5] for line in lines[:5]] == [
        ["SERVICE", "CALLS", "RATE", "ERRORS", "P95"],
        ["shop", "2", rate, "0", "1.22s"],
        ["├→", "billing", "2", rate, "2"],
        ["├→", "cart", "2", rate, "0"],
        ["└→", "pricing", "2", rate, "0"],
    ]
    tops = [line.split()[0] for line in lines[1:] if line[0] not in "├└"]
    assert tops == ["shop", "billing", "cart", "pricing", "stock"]


def test_services_that_call_each_other_are_each_listed_once(run: Run, path: Path) -> None:
    """Services without an outermost caller are listed once, with their calls both ways."""
    trace, other = trace_id(1), trace_id(2)
    ping = {"a": [span(trace, 1, name="go")], "b": [span(trace, 2, 1, name="ping")]}
    pong = {"b": [span(other, 1, name="went")], "a": [span(other, 2, 1, name="pong")]}
    settle(path, ping, pong)
    text = run("map", "--db", path).stdout
    assert [line.split()[0] for line in text.splitlines()[1:] if line[0] not in "├└"] == ["a", "b"]
    assert text.count("└→") == 2


def test_nothing_to_map_is_status_1(run: Run, path: Path) -> None:
    """A database without counted trees has an empty map, and exit status 1."""
    settle(path)
    store(path, {})
    result = run("map", "--db", path)
    assert (result.exit_code, result.stderr.split(";")[0]) == (1, "ztrace: no call trees")
    result = run("map", "--db", path, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["services"] == []
