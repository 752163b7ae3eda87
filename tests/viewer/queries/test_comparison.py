"""Comparison of two stretches of time: what changed, why, and whether it is sure."""

import json
import random
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner, Result

from tests.viewer.queries.test_profile import settle
from tests.viewer.stored import MINUTE, MS, NOON, span, trace_id
from ztrace.errors import NotFoundError, SettingsError
from ztrace_collector.storing.store import Store
from ztrace_viewer.cli import ztrace
from ztrace_viewer.documents.comparison import DiffDocument
from ztrace_viewer.queries.comparison import compare, two_sided, welch
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.versions import compare_versions
from ztrace_viewer.render.comparison import draw_diff

#: Minute at which the second stretch begins.
MIDDLE = NOON // MINUTE
HOUR = 60 * MINUTE
AFTER_MIDDLE = (NOON, NOON + HOUR)
BEFORE_MIDDLE = (NOON - HOUR, NOON)
CALLS = ("price", "charge", "ship", "mail", "log")


class Load(NamedTuple):
    """Load of one minute: own time of a call in ms, and calls a tree, by the name of the call."""

    each_ms: dict[str, float]
    calls: dict[str, float]


def usual() -> Load:
    """Return the load of a minute in which nothing is unusual."""
    return Load(dict.fromkeys(CALLS, 4.0), dict.fromkeys(CALLS, 2.0))


def write_minutes(path: Path, loads: dict[int, Load], chance: random.Random, trees: int = 20) -> Path:
    """Write figures of the root ``shop.buy``, whose calls run one after the other, minute by minute.

    What makes one call of a minute slow makes all of them slow: minutes differ by 15%.
    """
    path.unlink(missing_ok=True)
    with Store(path) as store, store.transaction() as db:
        for number, name in enumerate(("buy", *CALLS), 1):
            db.execute("INSERT INTO methods VALUES (?, 'shop', ?, 'server')", (number, name))
            parent = 0 if name == "buy" else 1
            db.execute(
                "INSERT INTO paths VALUES (?, ?, ?, ?, 1)", (number, parent, number, min(number - 1, 1))
            )
        for minute, load in loads.items():
            pace = chance.lognormvariate(0, 0.15)
            rows = [(1, trees, trees, round(trees * 2 * MS * pace))]
            for number, name in enumerate(CALLS, 2):
                calls = round(trees * load.calls.get(name, 0) * chance.uniform(0.97, 1.03))
                if calls:
                    own_ns = calls * load.each_ms[name] * MS * pace * chance.lognormvariate(0, 0.05)
                    rows.append((number, 0, calls, round(own_ns)))
            for number, roots, calls, own_ns in rows:
                for resolution_s in (60, 3600, 86400):
                    key = resolution_s, minute * 60 // resolution_s, number
                    db.execute(
                        "INSERT INTO path_figures VALUES (?, ?, ?, '', '', 0, ?, ?, 0, 0, ?, ?, 0, 0, '{}')"
                        " ON CONFLICT DO UPDATE SET root_calls = root_calls + excluded.root_calls,"
                        " calls = calls + excluded.calls, self_ns = self_ns + excluded.self_ns,"
                        " critical_ns = critical_ns + excluded.critical_ns",
                        (*key, roots, calls, own_ns, own_ns),
                    )
    return path


def read(
    path: Path,
    before: tuple[int, int] = BEFORE_MIDDLE,
    after: tuple[int, int] = AFTER_MIDDLE,
    now_ns: int = NOON + HOUR,
) -> DiffDocument:
    """Return a comparison."""
    with open_file(path) as db:
        return compare(db, "shop.buy", before, after, None, now_ns)


def sure(document: DiffDocument) -> dict[str, str]:
    """Return the cause of each change that is sure, by the name of the call."""
    return {each["path"][-1]["name"]: each["cause"] for each in document["paths"] if each["sure"]}


def around(count: int, changed: Load) -> dict[int, Load]:
    """Return usual minutes before the middle, and as many changed ones after it."""
    loads = {MIDDLE - number: usual() for number in range(1, count + 1)}
    return loads | {MIDDLE + number: changed for number in range(count)}


@pytest.fixture
def changed(path: Path) -> Path:
    """Return a database in which charging took half as long again, and prices were asked for more often."""
    load = usual()
    load.each_ms["charge"] *= 1.5
    load.calls["price"] *= 1.6
    return write_minutes(path, around(20, load), random.Random(3))


def test_half_more_of_a_small_path_is_found(path: Path) -> None:
    """A path of 4% that takes 50% longer is found with 340 trees over 20 minutes a side, and little else."""
    others = 0
    for seed in range(10):
        before, after = usual(), usual()
        for load, factor in ((before, 1.0), (after, 1.5)):
            load.each_ms["log"] = factor * 34 / 24 / 2  # Of 34 ms elsewhere.
        loads = around(20, after) | {MIDDLE - number: before for number in range(1, 21)}
        write_minutes(path, loads, random.Random(seed), trees=17)
        document = read(path)
        assert document["before"] == {"traces": 340, "minutes": 20}
        whole = sum(each["before_ns"] for each in document["paths"])
        (log,) = (each for each in document["paths"] if each["path"][-1]["name"] == "log")
        assert 0.03 < log["before_ns"] / whole < 0.05
        found = sure(document)
        assert found.pop("log") == "slower", seed
        others += bool(found)  # Minutes of one side may all be slower by chance.
    assert others <= 2


def test_injected_causes_are_found_and_named(changed: Path) -> None:
    """What changed is found among the calls, told apart by its cause, and nothing else is."""
    document = read(changed)
    assert sure(document) == {"charge": "slower", "price": "more calls"}
    assert document["before"] == document["after"] == {"traces": 400, "minutes": 20}
    assert document["unit_s"] == 60
    first, second = document["paths"][:2]
    assert {first["path"][-1]["name"], second["path"][-1]["name"]} == {"charge", "price"}
    assert first["p"] < 0.001
    assert document["total_change_ns"] == pytest.approx(sum(each["change_ns"] for each in document["paths"]))
    for each in document["paths"]:
        assert each["change_ns"] == pytest.approx(each["after_ns"] - each["before_ns"])
    assert document["smallest_seen_ns"] is not None
    assert 0 < document["smallest_seen_ns"] < 4 * MS


def test_gone_and_new_paths_are_told(path: Path) -> None:
    """A path that is on one side alone is gone or new."""
    load = usual()
    del load.calls["ship"]
    loads = around(10, load)
    for number in range(1, 11):
        del loads[MIDDLE - number].calls["mail"]
    assert sure(read(write_minutes(path, loads, random.Random(4)))) == {"ship": "gone", "mail": "new"}


def test_few_minutes_are_never_sure(path: Path) -> None:
    """With fewer than six minutes on a side nothing is sure, and the text says how long to wait."""
    load = usual()
    load.each_ms["charge"] *= 10
    document = read(write_minutes(path, around(5, load), random.Random(5)))
    assert sure(document) == {}
    assert document["smallest_seen_ns"] is None
    assert [line.plain for line in draw_diff(document, 100)][1:] == [
        "nothing is sure yet: each side needs 6 minutes with trees; wait 1 minute, or choose a longer time"
    ]


def test_times_long_ago_are_compared_by_hours(path: Path) -> None:
    """If a stretch began more than six hours ago, the unit is an hour."""
    load = usual()
    load.each_ms["charge"] *= 2
    loads = {MIDDLE - 60 * number: usual() for number in range(1, 9)}
    loads |= {MIDDLE + 60 * number: load for number in range(8)}
    write_minutes(path, loads, random.Random(6))
    document = read(path, (NOON - 8 * HOUR, NOON), (NOON, NOON + 8 * HOUR), NOON + 8 * HOUR)
    assert document["unit_s"] == 3600
    assert document["before"] == {"traces": 160, "minutes": 8}
    assert sure(document) == {"charge": "slower"}


@pytest.mark.slow
def test_a_service_is_rarely_found_to_differ_from_itself(path: Path) -> None:
    """Of 200 comparisons of equal loads with uneven minutes, at most 5% find anything."""
    chance = random.Random(7)
    flagged = sum(bool(sure(read(write_minutes(path, around(20, usual()), chance)))) for _ in range(200))
    assert flagged <= 10


@pytest.mark.parametrize(
    ("t", "freedom", "p"),
    [(12.706, 1, 0.05), (2.228, 10, 0.05), (-3.169, 10, 0.01), (2.048, 28, 0.05), (3.646, 30, 0.001)],
)
def test_probabilities_are_as_tabulated(t: float, freedom: float, p: float) -> None:
    """Two-sided probabilities are those of the tables of Student's t."""
    assert two_sided(t, freedom) == pytest.approx(p, rel=0.01)


def test_samples_without_variance_have_a_probability() -> None:
    """Samples of equal values differ for certain, or not at all; others by their standard error."""
    assert welch([1.0, 1.0, 1.0], [1.0, 1.0, 1.0]) == (0.0, 1.0)
    assert welch([1.0, 1.0, 1.0], [2.0, 2.0, 2.0]) == (0.0, 0.0)
    error, p = welch([0.0, 1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 4.0, 5.0, 6.0])
    assert error == pytest.approx(1.0)
    assert p == pytest.approx(two_sided(2.0, 8))


def test_bad_questions_have_one_line(changed: Path) -> None:
    """Stretches that overlap, unknown roots and bad texts are errors that say what to do."""
    with pytest.raises(SettingsError, match="overlap"):
        read(changed, (NOON - HOUR, NOON + MINUTE), AFTER_MIDDLE)
    with open_file(changed) as db, pytest.raises(NotFoundError, match="no trees of"):
        compare(db, "shop.sell", BEFORE_MIDDLE, AFTER_MIDDLE, None, NOON)
    run = CliRunner().invoke
    empty = ["diff", "--db", str(changed), "--before", "2001-01-01..2001-01-02", "--after", "1h.."]
    result = run(ztrace, empty)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert run(ztrace, ["diff", "--before", "5m", "--after", "1h.."]).exit_code == 2


def test_the_command_draws_what_is_sure(changed: Path) -> None:
    """``diff`` prints the sure changes with their causes, and as JSON all of them."""
    drawn = [line.plain for line in draw_diff(read(changed), 120)]
    assert drawn[0].endswith("a tree  (400 and 400 trees; 20 and 20 minutes)")
    assert {line.split("  ")[-1] for line in drawn[3:5]} == {
        "shop.buy > shop.charge",
        "shop.buy > shop.price",
    }
    assert any("calls a tree" in line for line in drawn)
    assert any("each 4" in line for line in drawn)
    assert drawn[-1].startswith("not sure: 4 paths; a change of ±")
    day = [
        "--before",
        "2026-01-31T11:00Z..2026-01-31T12:00Z",
        "--after",
        "2026-01-31T12:00Z..2026-01-31T13:00Z",
    ]
    result = CliRunner().invoke(ztrace, ["diff", "--db", str(changed), *day, "--json"])
    document = json.loads(result.stdout)
    assert (document["unit_s"], document["before"]["traces"]) == (3600, 400)


def test_real_trees_are_compared(path: Path) -> None:
    """Trees that were stored and counted are compared, with critical times by path."""
    trees = []
    for minute in range(12):
        trace, slow = trace_id(minute + 1), 30 if minute >= 6 else 0
        start = (minute - 6) * MINUTE // MS
        buy = span(trace, 1, name="buy", start_ms=start, duration_ms=100 + slow)
        trees.append(
            {"shop": [buy, span(trace, 2, 1, name="pay", start_ms=start, duration_ms=50 + slow + minute % 3)]}
        )
    settle(path, *trees)
    document = read(path)
    assert sure(document) == {"pay": "slower"}
    assert document["paths"][0]["change_ns"] == pytest.approx(30 * MS, rel=0.1)


def ask(*arguments: str, path: Path) -> Result:
    """Run ``ztrace diff``."""
    return CliRunner().invoke(ztrace, ["diff", *arguments, "--db", str(path)])


def sell(path: Path, count: int = 60) -> Path:
    """Store trees of a shop: every tenth is slow, since shipping takes long; two by two, cards alternate."""
    trees = []
    for number in range(count):
        trace, is_slow, is_visa = trace_id(number), number % 10 == 0, number // 2 % 2 == 1
        ship_ms = 90 + number % 3 if is_slow else 10 + number % 3
        card = {"card": "visa" if is_visa else "giro"}
        pay_ms = (15 if is_visa else 5) + number % 5
        trees.append(
            {
                "shop": [
                    span(trace, 1, name="buy", duration_ms=10 + ship_ms + pay_ms, attributes=card),
                    span(trace, 2, 1, name="ship", start_ms=5, duration_ms=ship_ms),
                    span(trace, 3, 1, name="pay", start_ms=5 + ship_ms, duration_ms=pay_ms),
                ]
            }
        )
    return settle(path, *trees)


def test_slow_trees_are_compared_with_the_rest(path: Path) -> None:
    """Of the slowest trees of a root, what is slower is found; the unit is a tree."""
    sell(path)
    document = json.loads(ask("buy", "--slow", "--json", path=path).output)
    assert sure(document) == {"ship": "slower"}
    assert (document["before"]["traces"], document["after"]["traces"]) == (54, 6)
    assert (document["unit_s"], document["sampled_of"]) == (None, 60)
    shown = ask("buy", "--slow", path=path).output
    assert re.match(r"\+7\d(\.\d)?ms a tree  \(54 and 6 trees\)\n", shown)
    few = ask("buy", "--slow", "--since", "1m", path=path)
    assert few.exit_code == 1
    assert "only 0 trees of buy; at least 12 are needed" in few.output


def test_trees_are_compared_by_an_attribute(path: Path) -> None:
    """Trees of which a span has a value are compared with those that have another, or with all others."""
    sell(path)
    for values in (["--before", "giro", "--after", "visa"], ["--after", "visa"], ["--before", "giro"]):
        document = json.loads(ask("buy", "--by", "card", *values, "--json", path=path).output)
        assert sure(document) == {"pay": "slower"}
        assert document["before"]["traces"] == document["after"]["traces"] == 30
    missing = ask("buy", "--by", "card", "--after", "gold", path=path)
    assert missing.exit_code == 1
    assert "no trees of buy with card=gold" in missing.output


def test_versions_are_compared(path: Path) -> None:
    """Two versions are compared by their minutes: those named, or the last two that came up."""
    chance = random.Random(4)
    load = usual()
    load.each_ms["charge"] *= 1.5
    write_minutes(path, around(20, load), chance)
    with Store(path) as store, store.transaction() as db:
        db.execute("UPDATE path_figures SET version = CASE WHEN bucket < ? THEN '1' ELSE '2' END", (MIDDLE,))
    with open_file(path) as db:
        found = [
            compare_versions(db, "buy", one, other, Selection(NOON - HOUR, NOON + HOUR), None, NOON + HOUR)
            for one, other in ((None, None), ("1", None), (None, "2"), ("1", "2"))
        ]
        assert [sure(each) for each in found] == [{"charge": "slower"}] * 4
        assert (found[0]["before"]["minutes"], found[0]["unit_s"]) == (20, 60)
        back = compare_versions(db, "buy", "2", "1", Selection(NOON - HOUR), None, NOON + HOUR)
        assert back["total_change_ns"] == pytest.approx(-found[0]["total_change_ns"])
        with pytest.raises(NotFoundError, match="no trees of version 3"):
            compare_versions(db, "buy", "1", "3", Selection(NOON - HOUR), None, NOON + HOUR)
        with pytest.raises(NotFoundError, match="only one version"):
            compare_versions(db, "buy", None, None, Selection(NOON), None, NOON + HOUR)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--before", "2h..1h"], "--after"),
        (["--slow"], "give SERVICE.METHOD"),
        (["buy", "--slow", "--after", "x"], "leave out --by, --before and --after"),
        (["--by", "card", "--after", "visa"], "give SERVICE.METHOD"),
        (["buy", "--by", "card"], "give a value of card"),
        (["buy", "--by", ""], "--by is empty"),
        (["--before", "2h..1h", "--after", "1h..", "--since", "1h"], "leave out --since and --until"),
        (["--before", "2h", "--after", "1h.."], "is not a stretch of time"),
        (["--before", "1h..2h", "--after", "1h.."], "ends before it begins"),
        (["--before", "3h..1h", "--after", "2h.."], "--before and --after overlap"),
        (["--before", "3h..2h", "--after", "1h.."], "no call trees in"),
    ],
)
def test_a_question_that_has_no_answer_is_told_in_a_line(
    path: Path, arguments: list[str], words: str
) -> None:
    """Stretches that overlap or are empty, and options that do not fit, are one line that says what to do."""
    sell(path, 2)
    result = ask(*arguments, path=path)
    assert result.exit_code in (1, 2)
    assert words in result.output
    assert result.output.strip().splitlines()[-1].startswith(("Error:", "ztrace:"))
