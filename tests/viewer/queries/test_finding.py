"""Search for calls by name, attribute, duration and outcome."""

import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.viewer.conftest import Run
from tests.viewer.stored import MINUTE, MS, NOON, checkout, open_message, raised, span, store, trace_id
from ztrace.errors import SettingsError
from ztrace_collector.storing.store import Store
from ztrace_viewer.queries.deadline import Deadline
from ztrace_viewer.queries.finding import Conditions, find_calls, parse_words
from ztrace_viewer.queries.selection import EVERYTHING, Selection
from ztrace_viewer.queries.stores.sqlite.store import open_file


def find(
    path: Path,
    *words: str,
    selection: Selection = EVERYTHING,
    limit: int = 20,
    seconds: float = 60,
    now_ns: int = NOON,
    **more: Any,
) -> list[str]:
    """Return the names of the found calls."""
    with open_file(path) as db:
        conditions = Conditions(*parse_words(words), **more)
        document = find_calls(db, conditions, selection, limit, now_ns, Deadline(seconds))
    return [f"{each['service']}.{each['name']}" for each in document["spans"]]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database with calls that differ in one thing each."""
    path = tmp_path_factory.mktemp("finding") / "mixed.db"
    trace = trace_id(1)
    calls: list[dict[str, Any]] = [
        {"name": "quoted", "attributes": {"text": 'say "hi"\\'}},
        {"name": "number", "attributes": {"amount": 12, "rate": 0.5, "late": True, "none": None}},
        {"name": "nested", "attributes": {"basket": {"article": ["Piano", 3]}}},
        {"name": "umlaut", "attributes": {"street": "MÜHLENWEG"}},
        {"name": "failed", "exception": raised("bank.Declined", "no money for Ada")},
        {"name": "broken", "status": 1},
        {"name": "long", "duration_ms": 900},
    ]
    store(path, {"shop": [span(trace, n, start_ms=-n, **each) for n, each in enumerate(calls, 1)]})
    return path


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("QUOTED",), ["quoted"]),
        (("shop.num",), ["number"]),
        (('"HI"\\',), ["quoted"]),
        (("amount=12",), ["number"]),
        (("rate=0.5", "late=true", "none=null"), ["number"]),
        (("amount=1",), []),
        (("12",), ["number"]),
        (("piano",), ["nested"]),
        (('basket={"article":["Piano",3]}',), ["nested"]),
        (("mühlen",), ["umlaut"]),
        (("street=MÜHLENWEG",), ["umlaut"]),
        (("street=mühlenweg",), []),
        (("declined",), ["failed"]),
        (("for ada",), ["failed"]),
        (("shop", "umlaut"), ["umlaut"]),
        (("quoted", "number"), []),
        (("text",), []),
    ],
)
def test_words_match_names_values_and_exceptions(
    mixed: Path, words: tuple[str, ...], found: list[str]
) -> None:
    """A text occurs in a name, a value or an exception in either case; an attribute is equal."""
    assert find(mixed, *words) == [f"shop.{name}" for name in found]


def test_durations_and_outcomes_are_conditions(mixed: Path) -> None:
    """The shortest and longest duration, and failure, with and without an exception, select calls."""
    assert find(mixed, min_ns=900 * MS) == ["shop.long"]
    assert len(find(mixed, max_ns=899 * MS)) == 6
    assert find(mixed, failed=True) == ["shop.failed", "shop.broken"]
    assert find(mixed, "ada", failed=True) == ["shop.failed"]


def test_calls_within_a_tree_are_found_by_service_and_method(shop: Path) -> None:
    """A call deep in a tree is found by its exact service and method, the newest first."""
    assert find(shop, selection=Selection(service="stock")) == ["stock.reserve"] * 2
    assert find(shop, selection=Selection(service="shop", method="charge")) == ["shop.charge"] * 2
    assert find(shop, "user=ada", limit=1) == ["cart.load"]
    later = Selection(since_ns=NOON + MINUTE)
    assert find(shop, "user=ada", selection=later) == ["cart.load"]
    assert find(shop, "user=ada", selection=Selection(until_ns=NOON)) == []


def test_attributes_of_the_process_are_found(path: Path) -> None:
    """An attribute is also that of the process, unless the call has one of its own."""
    store(path, {"shop": [span(trace_id(1), 1), span(trace_id(1), 2, name="own", attributes={"zone": "b"})]})
    with Store(path) as opened, opened.transaction() as db:
        db.execute("""UPDATE instances SET resource = '{"zone":"a"}'""")
    assert find(path, "zone=a") == ["shop.work"]
    assert find(path, "zone=b") == ["shop.own"]


def test_unfinished_calls_are_found_by_the_time_they_have_run(path: Path) -> None:
    """A call without an end has its time so far as duration, and has not failed."""
    running = [span(trace_id(1), 1, name="wait", duration_ms=None, attributes={"job": "7"})]
    with Store(path, clock_ns=lambda: NOON) as opened:
        opened.store([open_message("shop", running)])
    later: dict[str, Any] = {"now_ns": NOON + 4_000 * MS}
    assert find(path, "job=7", min_ns=4_000 * MS, **later) == ["shop.wait"]
    assert find(path, "job=7", min_ns=4_001 * MS, **later) == []
    assert find(path, "job=7", max_ns=3_999 * MS, **later) == []
    assert find(path, "job=7", failed=True, **later) == []
    assert find(path, selection=Selection(method="stay"), **later) == []


def test_a_search_that_is_too_slow_says_how_far_it_came(shop: Path) -> None:
    """After the deadline, what was found is returned with the time back to which trees were searched."""
    with open_file(shop) as db:
        document = find_calls(db, Conditions(["reserve"]), EVERYTHING, 20, NOON, Deadline(0))
        assert document["searched_since_ns"] == NOON
        assert len(document["spans"]) == 4
        # The connection answers again.
        whole = find_calls(db, Conditions(["nowhere"]), EVERYTHING, 20, NOON, Deadline(60))
    assert whole == {"spans": [], "searched_since_ns": None, "thinned_until_ns": None}


def test_the_command_ends_a_search_and_says_where(
    run: Run, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`find` prints the time that it searched back to when two seconds have passed."""
    monkeypatch.setattr("ztrace_viewer.commands.find.SEARCH_S", 0)
    assert (
        "two seconds were enough back to 2026-01-31 12:00:00: go on with --until 2026-01-31T12:00:00Z"
        in run("find", "reserve", "--db", shop).stdout
    )
    result = run("find", "nowhere", "--db", shop)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no calls; two seconds were enough back to 2026-01-31 12:00:00; go on with" in result.stderr


def test_the_table_has_what_was_searched_first(run: Run, path: Path) -> None:
    """The attributes of a line begin with those that were searched for, and end with a library's."""
    attributes = {"rpc.system.name": "zerorpc", "size": 3, "user": "ada"}
    failed = span(trace_id(1), 1, attributes=attributes, status=1)
    running = span(trace_id(1), 2, duration_ms=None, at_ns=time.time_ns())
    store(path, {"shop": [failed, running]})
    text = run("find", "user=ada", "--db", path, columns=140).stdout
    assert "user=ada  size=3  rpc.system.name=zerorpc" in text
    assert " error " in text
    assert "unfinished: time until now" in run("find", "--db", path, columns=140).stdout


@pytest.mark.parametrize("words", [("",), ("=value",), (" ",)])
def test_words_without_a_text_are_refused(words: tuple[str, ...]) -> None:
    """An empty word, and one without a key, are refused."""
    with pytest.raises(SettingsError, match="neither a text nor an attribute"):
        parse_words(words)


def test_a_shortest_time_above_the_longest_is_refused(run: Run, shop: Path) -> None:
    """--min above --max is an input error."""
    result = run("find", "--min", "2s", "--max", "1s", "--db", shop)
    assert result.exit_code == 2
    assert result.stderr == "ztrace: --min is longer than --max; swap them\n"


def test_checkouts_are_found_whole(path: Path) -> None:
    """Without a condition, the newest calls are found up to the limit."""
    store(path, checkout(trace_id(1)))
    assert len(find(path)) == 9
    assert len(find(path, limit=4)) == 4


def test_a_search_goes_on_from_where_it_ended(path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The printed times lead through all trees, whatever part of them a search had the time for."""
    spans = [span(trace_id(number), number, at_ns=NOON + number * 1_500_500) for number in range(1, 501)]
    store(path, {"shop": spans}, at_ns=NOON)
    monkeypatch.setattr("ztrace_viewer.commands.find.SEARCH_S", 0)
    found: set[str] = set()
    until: list[str] = []
    for _ in range(4):
        result = run("find", "work", "--limit", 1000, "--db", path, *until)
        found.update(line.split()[0] for line in result.stdout.splitlines() if "shop.work" in line)
        until = ["--until", *re.findall(r"go on with --until (\S+)", result.stdout)]
    assert len(found) == 500
    nothing = run("find", "nothing", "--db", path)
    assert nothing.exit_code == 1
    assert re.search(r"^ztrace: no calls; .*; go on with --until \S+Z$", nothing.stderr)


def test_calls_within_trees_are_named_where_roots_are_wanted(shop: Path, run: Run) -> None:
    """For a method that begins no trees, the command that finds its calls is told."""
    slow = run("slow", "--method", "charge", "--db", shop)
    assert "--service and --method are the root's; 'ztrace find' has calls within trees" in slow.stderr
    assert "did you mean charge" in run("slow", "--method", "chage", "--db", shop).stderr
