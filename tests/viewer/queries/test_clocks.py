"""Clocks applied when a tree is read: raw starts, offsets beside them, and critical times by the offsets."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.viewer.conftest import Run
from tests.viewer.stored import MS, NOON, message, open_message, span, trace_id
from ztrace.records import Span
from ztrace_collector.settling.settler import settle_all
from ztrace_collector.storing.store import Store
from ztrace_viewer.documents.trees import TreeDocument
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.traces import read_tree
from ztrace_viewer.trees.tree import walk


def call(number: int, *, ahead_ms: float, at_ms: float = 0, slow_ms: float = 0) -> dict[str, list[Span]]:
    """Return a call of a shop to a stock whose clock is ahead, which calls a bank with the shop's clock."""
    trace = trace_id(number)
    at_ns = NOON + int(at_ms * MS)

    def step(place: int, parent: int | None, kind: str, begin: float, end: float, **more: Any) -> Span:
        return span(
            trace, place, parent, kind=kind, start_ms=begin, duration_ms=end - begin, at_ns=at_ns, **more
        )

    return {
        "shop": [step(1, None, "server", 0, 30), step(2, 1, "client", 1, 29)],
        "stock": [
            step(3, 2, "server", 2 + ahead_ms, 27 + ahead_ms),
            step(4, 3, "client", 5 + ahead_ms, 25 + ahead_ms),
        ],
        "bank": [step(5, 4, "server", 6, 23 + slow_ms)],
    }


def keep(path: Path, *calls: dict[str, list[Span]], settle: bool = True) -> Path:
    """Store the calls, each service on a host of its own, and count their trees."""
    with Store(path) as store:
        for number, service in enumerate(("shop", "stock", "bank"), 1):
            spans = [each for made in calls for each in made[service]]
            store.store([message(service, spans, number, host=f"{service}-host")])
        if settle:
            list(settle_all(store))
    return path


def read(path: Path, number: int = 1, **options: bool) -> TreeDocument:
    """Return a stored tree."""
    with open_file(path) as db:
        return read_tree(db, trace_id(number), NOON, **options)


def critical(tree: TreeDocument) -> list[float]:
    """Return the critical times of a tree's spans in ms, in the order of the tree."""
    return [(each["critical_ns"] or 0) / MS for each, _ in walk(tree["roots"])]


def test_critical_times_are_by_measured_clocks(path: Path) -> None:
    """A stock 40 ms ahead has its share of the path; its start stays as stored, beside the offset."""
    keep(path, *(call(number, ahead_ms=40, at_ms=50 * number) for number in range(1, 30)))
    tree = read(path)
    spans = {each["service"]: each for each, _ in walk(tree["roots"])}
    assert critical(tree) == [2, 3, 5, 3, 17]
    assert spans["stock"]["start_ns"] == NOON + 95 * MS
    clock = spans["stock"]["instance"]["clock"]
    assert clock is not None
    assert clock["low_ns"] <= clock["offset_ns"] <= clock["high_ns"]
    assert abs(clock["offset_ns"] - 40 * MS) <= MS
    assert clock["calls"] == 29
    assert spans["shop"]["instance"]["clock"] is None
    bank = spans["bank"]["instance"]["clock"]
    assert bank is not None
    assert bank["low_ns"] <= 0 <= bank["high_ns"]
    raw = read(path, measured=False)
    assert critical(raw) != critical(tree)
    assert all(each["instance"]["clock"] is None for each, _ in walk(raw["roots"]))
    assert sum(critical(raw)) == sum(critical(tree)) == 30


def test_trees_on_both_sides_of_a_step_are_right(path: Path) -> None:
    """Trees before and after a clock was set, in the same seconds too, have the offset of their side."""
    numbers = range(1, 60)
    keep(path, *(call(each, ahead_ms=40 if each < 30 else -3, at_ms=500 * each) for each in numbers))
    for number in numbers:
        assert critical(read(path, number)) == [2, 3, 5, 3, 17], number


def test_a_tree_that_is_not_counted_yet_has_its_own_calls(path: Path) -> None:
    """Before anything is measured, the calls of the tree itself bound the offsets."""
    keep(path, call(1, ahead_ms=40), settle=False)
    tree = read(path)
    assert critical(tree) == [2, 3, 5, 3, 17]
    stock = next(each for each, _ in walk(tree["roots"]) if each["service"] == "stock")
    assert stock["instance"]["clock"] == {
        "offset_ns": 39_500_000,
        "low_ns": 38 * MS,
        "high_ns": 41 * MS,
        "calls": 1,
    }


def test_a_server_that_outlives_its_caller_moves_no_clock(path: Path, run: Run) -> None:
    """After a timeout the server works on: the measured clocks are kept, and it is no other clock's work."""
    keep(path, *(call(each, ahead_ms=0, slow_ms=40 if each == 1 else 0) for each in range(1, 9)))
    bank = next(each for each, _ in walk(read(path)["roots"]) if each["service"] == "bank")
    clock = bank["instance"]["clock"]
    assert clock is not None
    assert clock["low_ns"] <= 0 <= clock["high_ns"]
    shown = run("show", trace_id(1).hex(), "--db", path).output
    assert "clocks" not in shown
    assert "after its parent ended" in shown


def test_an_open_span_is_read_by_its_hosts_clock(path: Path) -> None:
    """A span without an end has the offset of its host, measured by other calls."""
    keep(path, *(call(number, ahead_ms=40) for number in range(1, 9)))
    with Store(path) as store:
        spans = call(9, ahead_ms=40)
        store.store([message("shop", spans["shop"], 4, host="shop-host", sequence=0)])
        running = [spans["stock"][0]._replace(duration_ns=None, self_ns=None, status=2)]
        store.store([open_message("stock", running, 5, host="stock-host")])
    stock = next(each for each, _ in walk(read(path, 9)["roots"]) if each["service"] == "stock")
    assert stock["instance"]["clock"] is not None
    assert stock["instance"]["clock"]["calls"] == 8


@pytest.mark.parametrize("more", [[], ["--clocks", "measured"]])
def test_show_tells_the_clocks_that_are_apart(path: Path, run: Run, more: list[str]) -> None:
    """Offsets that are certain are in the header; with raw clocks the tree is told to be impossible."""
    keep(path, *(call(number, ahead_ms=40, at_ms=number) for number in range(1, 30)))
    arguments = ["show", trace_id(1).hex(), "--db", str(path)]
    shown = run(*arguments, *more).output
    assert "clocks: stock +39.5ms ±" in shown
    assert ", measured by 29 calls\n" in shown
    assert "clocks differ" not in shown
    raw = run(*arguments, "--clocks", "raw").output
    assert "clocks:" not in raw
    assert "clocks differ: bank.work begins 39.0ms before its caller stock → work" in raw
    document = json.loads(run(*arguments, "--clocks", "raw", "--json").output)
    assert document["roots"][0]["children"][0]["children"][0]["instance"]["clock"] is None


def test_clocks_of_the_same_host_are_not_compared(path: Path) -> None:
    """A tree of one host, or of hosts without names, has no offsets."""
    with Store(path) as store:
        for number, (service, spans) in enumerate(call(1, ahead_ms=0).items(), 1):
            store.store([message(service, spans, number, host="" if service == "bank" else "box")])
        list(settle_all(store))
    assert all(each["instance"]["clock"] is None for each, _ in walk(read(path)["roots"]))
