"""Profiles: figures by call path of a stretch of time, of a root, and in every format."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.viewer.stored import MINUTE, NOON, SECOND, span, store, trace_id
from ztrace.errors import NotFoundError, SettingsError
from ztrace_collector.checking.parcels import ForeignBatch, Resource, pack
from ztrace_collector.settling.settler import settle_all
from ztrace_collector.storing.store import Store
from ztrace_viewer.cli import ztrace
from ztrace_viewer.documents.profile import PathProfile, ProfileDocument
from ztrace_viewer.queries.profile import read_profile
from ztrace_viewer.queries.selection import EVERYTHING, Selection
from ztrace_viewer.queries.stores.conditions import TreeKind
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.traces import read_tree
from ztrace_viewer.render.call_tree import draw_tree
from ztrace_viewer.render.profile import draw_profile
from ztrace_viewer.trees.tree import walk

HOUR = 60 * MINUTE


def buy(number: int, start_ms: int = 0, failed: bool = False) -> dict[str, list[Any]]:
    """Return a tree of 100 ms: a slow call, and quick ones beside it."""
    trace = trace_id(number)
    status = 1 if failed else 0
    return {
        "shop": [
            span(trace, 1, name="buy", duration_ms=100, start_ms=start_ms)._replace(status=status),
            span(trace, 2, 1, name="pay", kind="client", start_ms=start_ms + 10, duration_ms=80),
            span(trace, 3, 1, name="hint", kind="client", start_ms=start_ms + 10, duration_ms=40),
        ],
        "bank": [span(trace, 4, 2, name="pay", start_ms=start_ms + 15, duration_ms=70)],
    }


def settle(path: Path, *trees: dict[str, list[Any]]) -> Path:
    """Store trees, and count them."""
    for tree in trees:
        store(path, tree)
    with Store(path, clock_ns=lambda: NOON) as opened:
        list(settle_all(opened, clock_ns=lambda: NOON))
    return path


def read(
    path: Path, root: str | None = None, selection: Selection = EVERYTHING, limit: int | None = None
) -> ProfileDocument:
    """Return a profile, as of noon."""
    with open_file(path) as db:
        return read_profile(db, root, selection, limit, NOON)


def name(path: PathProfile) -> str:
    """Return a path as text."""
    return " > ".join(f"{step['service']}.{step['name']}" for step in path["path"])


@pytest.fixture
def shop(path: Path) -> Path:
    """Return a database with three trees of a root, and one of another."""
    other = {"shop": [span(trace_id(9), 1, name="look", duration_ms=7)]}
    return settle(path, buy(1), buy(2, failed=True), buy(3, start_ms=2 * MINUTE // 10**6), other)


def test_work_after_the_answer_is_listed_and_told(path: Path) -> None:
    """A consumer's work has no critical time; it is shown by its own time, and so is all below it."""
    trace = trace_id(1)
    mail = [
        span(trace, 4, 2, name="send", kind="consumer", start_ms=60, duration_ms=50),
        span(trace, 5, 4, name="render", kind="internal", start_ms=70, duration_ms=30),
    ]
    ask = span(trace, 2, 1, name="send", kind="producer", start_ms=50, duration_ms=1)
    settle(path, {"shop": [span(trace, 1, name="buy", duration_ms=100), ask], "mail": mail})
    document = read(path, "buy")
    critical = {name(each).split(" > ")[-1]: each["critical_ns"] // 10**6 for each in document["paths"]}
    assert critical == {"shop.buy": 99, "shop.send": 1, "mail.send": 0, "mail.render": 0}
    drawn = "\n".join(line.plain for line in draw_profile(document, 100, whole=False))
    assert re.search(r"└╴mail ⇠ send +after +20.0%", drawn)
    assert re.search(r"└╴mail.render +after +30.0%", drawn)
    with open_file(path) as db:
        tree = read_tree(db, trace)
    shown = [line.plain for line in draw_tree(tree, 100, None, NOON)]
    assert "after the answer: mail ⇠ send 10.0ms" in shown


def test_late_spans_are_told(shop: Path) -> None:
    """A profile says how many spans came after their trees had expired."""
    with Store(shop) as store, store.transaction() as db:
        db.execute("UPDATE settling SET value = 3 WHERE name = 'late'")
    document = read(shop)
    assert document["late_spans"] == 3
    drawn = [line.plain for line in draw_profile(document, 100, whole=False)]
    assert "3 spans not counted: their trees had expired or been thinned" in drawn


def test_paths_are_listed_by_critical_time(shop: Path) -> None:
    """Each path has its calls and times, and critical times add up to the roots' durations."""
    document = read(shop, "shop.buy")
    assert (document["traces"], document["unsettled_spans"], document["left_out"]) == (3, 0, 0)
    assert document["p50_ns"] == pytest.approx(100e6, rel=0.025)
    assert [(name(each), each["calls"], each["critical_ns"] // 10**6) for each in document["paths"]] == [
        ("shop.buy > shop.pay > bank.pay", 3, 210),
        ("shop.buy", 3, 60),
        ("shop.buy > shop.pay", 3, 30),
        ("shop.buy > shop.hint", 3, 0),
    ]
    beside = document["paths"][-1]
    assert (beside["root_calls"], beside["errors"]) == (3, 0)
    assert (beside["total_ns"], beside["self_ns"]) == (120_000_000, 120_000_000)
    assert document["paths"][1]["errors"] == 1
    assert sum(each["critical_ns"] for each in document["paths"]) == 300_000_000


def test_a_stretch_of_time_counts_its_trees(shop: Path) -> None:
    """Trees count in the minute in which their root ended, and long ago in the hour."""
    assert read(shop, "buy", Selection(NOON + MINUTE))["traces"] == 1
    assert read(shop, "buy", Selection(NOON, NOON + MINUTE))["traces"] == 2
    assert read(shop, "buy", Selection(NOON - HOUR, NOON))["paths"] == []
    with open_file(shop) as db:
        later = read_profile(db, "buy", Selection(NOON + MINUTE, NOON + 2 * MINUTE), None, NOON + 7 * HOUR)
    assert later["traces"] == 3
    whole = read(shop)
    assert whole["traces"] == 4
    assert {each["path"][0]["name"] for each in whole["paths"]} == {"buy", "look"}


def test_paths_of_a_service_and_the_first_ones(shop: Path) -> None:
    """``service`` keeps the paths that lead to it, and ``limit`` those with the most critical time."""
    assert [name(each) for each in read(shop, None, Selection(service="bank"))["paths"]] == [
        "shop.buy > shop.pay > bank.pay"
    ]
    assert len(read(shop, limit=2)["paths"]) == 2


def test_an_unknown_root_and_an_ambiguous_one_are_errors(path: Path) -> None:
    """A root that does not exist is not found; one of several services has to be named with its service."""
    settle(path, {"a": [span(trace_id(1), 1, name="run")], "b": [span(trace_id(2), 2, name="run")]})
    with pytest.raises(NotFoundError, match="no trees of stop"):
        read(path, "stop")
    with pytest.raises(SettingsError, match=r"run is the root of several.*a\.run, b\.run"):
        read(path, "run")
    assert read(path, "a.run")["traces"] == 1


def test_spans_that_are_not_counted_yet_are_told(path: Path) -> None:
    """A profile says how many spans it does not have yet."""
    store(path, buy(1))
    assert (read(path)["traces"], read(path)["unsettled_spans"]) == (0, 4)
    settle(path)
    store(path, buy(2))
    assert (read(path)["traces"], read(path)["unsettled_spans"]) == (1, 4)


def test_a_profile_is_drawn_as_a_tree(shop: Path) -> None:
    """Each path stands below its parent, with its share of the root's time."""
    drawn = [line.plain for line in draw_profile(read(shop, "buy"), 100, whole=False)]
    assert drawn[0].startswith("3 trees  p50 ")
    assert [line.split("  ")[0] for line in drawn[2:6]] == ["CALL", "shop.buy", "└╴shop → pay", ""]
    assert drawn[5].split()[:3] == ["└╴bank.pay", "70.0%", "70.0%"]
    assert drawn[-1] == "1 path with under 1% of the time not shown; --all shows them"
    everything = [line.plain for line in draw_profile(read(shop), 100, whole=True)]
    assert len(everything) == 3 + 4 + 1
    assert all(len(line) <= 40 for line in (each.plain for each in draw_profile(read(shop), 40, whole=True)))


def test_formats_for_flame_graphs(shop: Path) -> None:
    """Collapsed stacks and speedscope's file have the critical time of each path."""
    run = CliRunner().invoke
    collapsed = run(ztrace, ["profile", "buy", "--db", str(shop), "--format", "collapsed"])
    assert collapsed.stdout.splitlines()[0] == "shop.buy;shop → pay;bank.pay 210000000"
    result = run(ztrace, ["profile", "--db", str(shop), "--format", "speedscope"])
    document = json.loads(result.stdout)
    profiles = {profile["name"]: profile for profile in document["profiles"]}
    assert set(profiles) == {"shop.buy", "shop.look"}
    assert profiles["shop.buy"]["endValue"] == sum(profiles["shop.buy"]["weights"]) == 300_000_000
    frames = [frame["name"] for frame in document["shared"]["frames"]]
    assert [frames[each] for each in profiles["shop.buy"]["samples"][0]] == [
        "shop.buy",
        "shop → pay",
        "bank.pay",
    ]


def test_the_command_answers(shop: Path) -> None:
    """``profile`` prints text, JSON, or one line and exit status 1 or 2."""
    run = CliRunner().invoke
    assert "bank.pay" in run(ztrace, ["profile", "shop.buy", "--db", str(shop)]).stdout
    assert json.loads(run(ztrace, ["profile", "--json", "--db", str(shop)]).stdout)["traces"] == 4
    nothing = run(ztrace, ["profile", "--db", str(shop), "--until", "2001-01-01"])
    assert (nothing.exit_code, nothing.stderr.count("\n")) == (1, 1)
    assert run(ztrace, ["profile", "shop.sell", "--db", str(shop)]).exit_code == 1
    assert run(ztrace, ["profile", "buy", "--db", str(shop), "--format", "png"]).exit_code == 2


def test_paths_of_a_service_are_below_their_roots(shop: Path) -> None:
    """With --service, shares are of the whole root's time, and each path has its root and its caller."""
    text = CliRunner().invoke(ztrace, ["profile", "--service", "bank", "--db", str(shop)]).output
    assert text.startswith("3 trees")
    assert re.search(r"\nshop\.buy …\n└╴… > shop → pay > bank\.pay +70\.0% +70\.0% ", text)
    whole = CliRunner().invoke(ztrace, ["profile", "buy", "--limit", "1", "--db", str(shop)]).output
    assert re.search(r"bank\.pay +70\.0%", whole)


def test_a_method_below_roots_is_no_root(shop: Path) -> None:
    """Where trees do not begin with a method but call it, the message names their roots."""
    result = CliRunner().invoke(ztrace, ["profile", "bank.pay", "--db", str(shop)])
    assert result.exit_code == 1
    assert result.output == ("ztrace: no trees begin with bank.pay; give a root that calls it: shop.buy\n")


def test_quantiles_of_a_path(path: Path) -> None:
    """Quantiles of a path come from the histograms of all buckets of time."""
    trees = [
        {"a": [span(trace_id(n), n, name="run", duration_ms=n, start_ms=n * SECOND // 10**6)]}
        for n in range(1, 101)
    ]
    document = read(settle(path, *trees))
    (run,) = document["paths"]
    assert run["p50_ns"] == pytest.approx(50e6, rel=0.03)
    assert run["p95_ns"] == pytest.approx(95e6, rel=0.03)


def release(path: Path, version: str, *numbers: int, minute: int = 0) -> Path:
    """Store trees of a service of some version, and count them."""
    spans = [
        span(trace_id(number), 1, name="buy", duration_ms=100, start_ms=minute * 60_000, at_ns=NOON)
        for number in numbers
    ]
    resource = Resource(bytes([*numbers]).ljust(16), "shop", "box", 1, NOON, {}, version)
    with Store(path, clock_ns=lambda: NOON) as opened:
        opened.store(parcels=list(pack(ForeignBatch(resource, spans))))
        list(settle_all(opened, clock_ns=lambda: NOON))
    return path


def test_profiles_are_kept_by_version(path: Path) -> None:
    """Each version of a root's service has a profile of its own, the first one first."""
    release(path, "1.10", 1, 2)
    release(path, "1.9", 3, minute=2)
    now = ["--since", "2026-01-31T11:00Z", "--until", "2026-01-31T13:00Z", "--db", str(path)]
    result = CliRunner().invoke(ztrace, ["profile", "buy", "--by", "service.version", "--json", *now])
    document = json.loads(result.output)
    assert document["by"] == "service.version"
    assert [(each["version"], each["profile"]["traces"]) for each in document["versions"]] == [
        ("1.10", 2),
        ("1.9", 1),
    ]
    text = CliRunner().invoke(ztrace, ["profile", "--by", "service.version", *now]).output
    assert re.search(r"service\.version 1\.10\n2 trees[^v]+service\.version 1\.9\n1 tree ", text)
    wrong = CliRunner().invoke(
        ztrace, ["profile", "--by", "service.version", "--format", "svg", "--db", str(path)]
    )
    assert wrong.exit_code == 2
    assert "--by prints text or JSON" in wrong.output


def test_versions_of_a_service_are_its_own(path: Path) -> None:
    """With --service, versions are those of that service's processes, whatever calls them."""
    for number, version in ((1, "a"), (2, "b"), (3, "b")):
        tree = buy(number)
        with Store(path, clock_ns=lambda: NOON) as opened:
            for place, (service, spans) in enumerate(tree.items()):
                own = version if service == "bank" else "7"
                resource = Resource(bytes([number, place]).ljust(16), service, "box", 1, NOON, {}, own)
                opened.store(parcels=list(pack(ForeignBatch(resource, spans))))
            list(settle_all(opened, clock_ns=lambda: NOON))
    command = ["profile", "--by", "service.version", "--json", "--db", str(path)]
    versions = [
        [(each["version"], sum(step["calls"] for step in each["profile"]["paths"])) for each in found]
        for options in ([], ["--service", "bank"])
        for found in [json.loads(CliRunner().invoke(ztrace, [*command, *options]).output)["versions"]]
    ]
    assert [version for version, _ in versions[0]] == ["7"]
    assert versions[1] == [("a", 1), ("b", 2)]


def test_failed_trees_have_a_profile(shop: Path) -> None:
    """With --errors only the trees count of which a span failed."""
    with open_file(shop) as db:
        document = read_profile(db, None, EVERYTHING, None, NOON, trees=TreeKind(failed=True))
    assert document["traces"] == 1
    assert {each["calls"] for each in document["paths"]} == {1}
    assert sum(each["errors"] for each in document["paths"]) == 1
    good = settle(shop.with_name("good.db"), buy(1))
    result = CliRunner().invoke(ztrace, ["profile", "--errors", "--db", str(good)])
    assert result.exit_code == 1
    assert result.output.startswith("ztrace: no failed call trees")


def test_lanes_are_stored_and_followed(path: Path) -> None:
    """Of a gather, show and profile have the call that the last one followed in its task, and not another."""
    trace = trace_id(1)
    gathered = [
        span(trace, 1, name="root", duration_ms=500)._replace(lane=3),
        span(trace, 2, 1, name="first", duration_ms=100)._replace(lane=1),
        span(trace, 3, 1, name="beside", duration_ms=200)._replace(lane=2),
        span(trace, 4, 1, name="last", start_ms=200, duration_ms=300)._replace(lane=1),
    ]
    settle(path, {"shop": gathered})
    expected = {"root": 100, "first": 100, "beside": 0, "last": 300}
    with open_file(path) as db:
        tree = read_tree(db, trace)
    assert {each["name"]: (each["critical_ns"] or 0) // 10**6 for each, _ in walk(tree["roots"])} == expected
    figures = {each["path"][-1]["name"]: each["critical_ns"] // 10**6 for each in read(path)["paths"]}
    assert figures == expected


def test_a_root_that_begins_no_tree_is_told_with_its_roots(path: Path) -> None:
    """A method that is only called within trees is answered with the roots of these."""
    settle(path, buy(1))
    for wanted in ("bank.pay", "pay", "hint"):
        with pytest.raises(NotFoundError, match=f"begin with {wanted}; give a root that calls it: shop.buy"):
            read(path, wanted)
