"""Settling: the figures by path equal a recount, in whatever order spans arrive, and through rollbacks."""

import json
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from tests.collector.messages import EPOCH_NS, MS, Sender, make_open, make_span, row, rows, span_id, trace_id
from tests.collector.storing.test_retention import Clock
from ztrace.records import Span
from ztrace_collector.checking.parcels import ForeignBatch, Resource, pack
from ztrace_collector.layout import HOUR_NS, MINUTE_NS
from ztrace_collector.settling import paths, settler, versions
from ztrace_collector.settling.figures import PathFigures
from ztrace_collector.settling.settler import OPEN_S, QUIET_S, Settler, settle_all
from ztrace_collector.storing import expiring
from ztrace_collector.storing.expiring import delete_traces_before
from ztrace_collector.storing.store import Store
from ztrace_collector.storing.writer import Writer

FIGURES = """
SELECT resolution_s, bucket, version, own_version, path_list.path, root_calls, calls, errors, total_ns,
    self_ns, critical_ns, histogram
FROM path_figures JOIN path_list ON path_list.id = path_figures.path ORDER BY 1, 2, 3, 4, 5
"""


@pytest.fixture
def clock() -> Clock:
    """Return a clock at the base time."""
    return Clock(EPOCH_NS)


@pytest.fixture
def writer(path: Path, clock: Clock) -> Iterator[Writer]:
    """Yield a writer."""
    with Writer(path, say=print, clock_ns=clock.wall) as opened:
        yield opened


@pytest.fixture
def settling(clock: Clock) -> Settler:
    """Return a settler with the test's clock."""
    return Settler(clock_s=clock.steady, clock_ns=clock.wall)


def run(settling: Settler, writer: Writer) -> None:
    """Run the steps that are due now."""
    while settling.step(writer):
        pass


def figures(path: Path, resolution_s: int = 60) -> list[dict[str, Any]]:
    """Return the figures by path, histograms as sorted pairs."""
    found = [each for each in rows(path, FIGURES) if each["resolution_s"] == resolution_s]
    for each in found:
        each["path"] = each["path"].replace("billing.", "")
        each["histogram"] = sorted(json.loads(each["histogram"]).items())
    return found


def calls(path: Path) -> dict[str, int]:
    """Return the calls by path."""
    return {each["path"]: each["calls"] for each in figures(path)}


def recount(path: Path, tmp_path: Path, clock: Clock) -> list[dict[str, Any]]:
    """Return the figures of all stored spans, counted in one pass over a copy of the file."""
    copy = tmp_path / "recount.db"
    copy.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"VACUUM INTO '{copy}'")
    with Store(copy) as store, store.transaction() as opened:
        opened.execute("DELETE FROM path_figures")
        opened.execute("DELETE FROM settled")
        opened.execute("UPDATE settling SET value = 0")
        has_more, settling = True, Settler(clock_ns=clock.wall)
        while has_more:
            has_more = settling.work(opened, is_last=True)
    return figures(copy)


def child(number: int, parent: int, trace: int = 0, **changes: Any) -> Span:
    """Return a span below another one."""
    return make_span(number, trace_id=trace_id(trace), parent_id=span_id(parent), **changes)


def test_a_tree_is_counted_once_it_is_quiet(
    path: Path, writer: Writer, settling: Settler, clock: Clock
) -> None:
    """A tree is counted seconds after its last span has come, and not before."""
    sender = Sender()
    writer.write([sender.data(child(1, 0, name="pay"))])
    run(settling, writer)
    clock.pass_by(QUIET_S - 1)
    writer.write([sender.data(make_span())])
    run(settling, writer)
    clock.pass_by(QUIET_S - 1)
    run(settling, writer)
    assert figures(path) == []
    clock.pass_by(1)
    run(settling, writer)
    assert calls(path) == {"charge": 1, "charge > pay": 1}
    assert row(path, "SELECT value FROM settling WHERE name = 'span'")["value"] == 2
    for resolution_s in (3600, 86400):
        assert [each["calls"] for each in figures(path, resolution_s)] == [1, 1]


def test_a_late_span_has_its_tree_counted_anew(
    path: Path, writer: Writer, settling: Settler, clock: Clock, tmp_path: Path
) -> None:
    """What was counted of a tree is taken back when a span of it comes later."""
    writer.write([Sender(0).data(child(1, 0, name="pay"))])
    run(settling, writer)
    clock.pass_by(QUIET_S)
    run(settling, writer)
    assert calls(path) == {"pay": 1}
    clock.pass_by(600)
    writer.write([Sender(1).data(make_span(duration_ns=90_000_000_000))])
    run(settling, writer)
    clock.pass_by(QUIET_S)
    run(settling, writer)
    assert calls(path) == {"charge": 1, "charge > pay": 1}
    assert {each["bucket"] for each in figures(path)} == {EPOCH_NS // MINUTE_NS + 1}
    assert figures(path) == recount(path, tmp_path, clock)


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_spans_that_get_another_parent_are_counted_anew(
    path: Path,
    clock: Clock,
    tmp_path: Path,
    order: tuple[int, ...],
) -> None:
    """A half of a shared id that comes after its tree was counted moves its spans' figures, too."""
    spans = [
        (1, make_span(0, name="get")),
        (1, child(1, 0, name="post", kind=3)),
        (2, child(1, 0, name="post", kind=2, start_ns=EPOCH_NS + 2 * MS, duration_ns=5 * MS)),
        (2, child(2, 1, name="work", kind=1, start_ns=EPOCH_NS + 3 * MS, duration_ns=MS)),
    ]
    for place in order:
        process, span = spans[place]
        resource = Resource(bytes([process]) * 16, "billing", "", 0, 0, {"n": process})
        with Store(path, clock_ns=clock.wall) as store:
            store.store(parcels=list(pack(ForeignBatch(resource, [span._replace(self_ns=None)]))))
            assert list(settle_all(store, clock_ns=clock.wall))
    assert figures(path) == recount(path, tmp_path, clock)
    assert len(calls(path)) == 4


@pytest.mark.parametrize("seed", range(6))
def test_figures_equal_a_recount_after_any_order_of_arrival(
    path: Path,
    writer: Writer,
    settling: Settler,
    clock: Clock,
    tmp_path: Path,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Figures equal one pass over all spans: after late spans, rolled back steps, and new settlers."""
    chance = random.Random(seed)
    monkeypatch.setattr(settler, "MAX_LOOKED_AT", 40)
    senders = [Sender(number, f"service{number}") for number in range(3)]
    spans = []
    for number in range(400):
        trace = number % 60
        parent = None if number < 60 else span_id(trace + 60 * chance.randrange(number // 60))
        start_ns = EPOCH_NS + chance.randint(0, 300_000) * MS
        changes = {"parent_id": parent, "start_ns": start_ns, "duration_ns": chance.randint(0, 9_000) * MS}
        name, kind = chance.choice(["pay", "ship", "mail"]), chance.choice([1, 2, 4])
        spans.append(make_span(number, trace_id=trace_id(trace), name=name, kind=kind, **changes))
    chance.shuffle(spans)
    while spans:
        batch, spans = spans[:20], spans[20:]
        writer.write([chance.choice(senders).data(*batch)])
        clock.pass_by(chance.choice([0.1, 1, 4]))
        if chance.random() < 0.2:
            settling = Settler(clock_s=clock.steady, clock_ns=clock.wall)
        with monkeypatch.context() as patch:
            if chance.random() < 0.2:
                patch.setattr(PathFigures, "write", fail)
            try:
                run(settling, writer)
            except ZeroDivisionError:
                pass
    clock.pass_by(10)
    run(settling, writer)
    clock.pass_by(10)
    run(settling, writer)
    assert len(figures(path)) > 20
    assert sum(each["calls"] for each in figures(path)) == 400
    assert figures(path) == recount(path, tmp_path, clock)


def fail(*_: object) -> None:
    """Fail as a defect would."""
    raise ZeroDivisionError


def test_open_spans_are_waited_for(
    path: Path, writer: Writer, settling: Settler, clock: Clock, tmp_path: Path
) -> None:
    """A tree with an open span is counted after a minute, and again once that has ended."""
    sender = Sender()
    writer.write([sender.open(make_open()), sender.data(child(1, 0, name="pay"))])
    clock.pass_by(1)
    for _ in range(int(OPEN_S)):
        run(settling, writer)
        clock.pass_by(0.9)
    assert figures(path) == []
    for _ in range(20):
        clock.pass_by(1)
        run(settling, writer)
    assert {each["path"]: each["critical_ns"] for each in figures(path)} == {"charge > pay": 0}
    writer.write([sender.data(make_span(duration_ns=40 * MS))])
    for _ in range(5):
        clock.pass_by(1)
        run(settling, writer)
    assert calls(path) == {"charge": 1, "charge > pay": 1}
    assert figures(path) == recount(path, tmp_path, clock)


def test_figures_stay_when_spans_expire(path: Path, writer: Writer, settling: Settler, clock: Clock) -> None:
    """Figures are kept when their trees are deleted."""
    writer.write([Sender().data(make_span(), child(1, 0))])
    settling.step(writer, is_last=True)
    before = figures(path)
    assert len(before) == 1
    assert before[0]["calls"] == 2
    writer.__exit__(None, None, None)
    with Store(path) as store:
        assert delete_traces_before(store, EPOCH_NS + 2 * HOUR_NS, 100) == 2
    assert figures(path) == before
    assert rows(path, "SELECT * FROM settled") == []


def test_late_spans_of_expired_trees_are_counted_as_late(
    path: Path, writer: Writer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans that come after their tree has expired count as late, whenever they come, and in no figures."""
    writer.write([Sender().data(make_span(), child(1, 0)), Sender(1).data(make_span(5))])
    Settler(clock_s=clock.steady, clock_ns=clock.wall).step(writer, is_last=True)
    before = figures(path)
    writer.__exit__(None, None, None)
    clock.pass_by(7200)
    with Store(path, clock_ns=clock.wall) as store:
        assert delete_traces_before(store, EPOCH_NS + 2 * HOUR_NS, 100) == 3
        for number, count in ((2, 2), (4, 3)):
            spans = [child(place, 0) for place in range(number, number + count)]
            store.store([Sender(number).data(*spans)])
            list(settle_all(store, clock_ns=clock.wall))
        # Another tree, of the same time and without its root, is counted.
        store.store([Sender(9).data(child(8, 7, trace=8))])
        list(settle_all(store, clock_ns=clock.wall))
    assert row(path, "SELECT value FROM settling WHERE name = 'late'")["value"] == 5
    assert sum(each["calls"] for each in figures(path)) == sum(each["calls"] for each in before) + 1
    monkeypatch.setattr(expiring, "KEPT", 1)
    with Store(path, clock_ns=clock.wall) as store:
        clock.pass_by(7200)
        assert delete_traces_before(store, EPOCH_NS + 4 * HOUR_NS, 100) == 6
    assert row(path, "SELECT count(*) AS n FROM expired_traces")["n"] == 1


def test_minutes_are_deleted_after_hours(path: Path, writer: Writer, settling: Settler, clock: Clock) -> None:
    """Figures by minute are deleted after six hours; those by hour and day stay."""
    writer.write([Sender().data(make_span())])
    settling.step(writer, is_last=True)
    clock.pass_by(7 * 3600 + 60)
    writer.write([Sender(1).data(make_span(2, start_ns=clock.now_ns))])
    settling.step(writer, is_last=True)
    assert [each["bucket"] for each in figures(path)] == [clock.now_ns // MINUTE_NS]
    assert [each["calls"] for each in figures(path, 3600)] == [1, 1]


def test_paths_beyond_the_bounds_share_one(
    path: Path,
    writer: Writer,
    settling: Settler,
    clock: Clock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond the bounds, the children of a path share the path ``(other)``, and every call is counted."""
    monkeypatch.setattr(paths, "MAX_OF_ROOT", 6)  # Of which one service has half.
    monkeypatch.setattr(paths, "MAX_DEPTH", 3)
    spans = [make_span(), *[child(number, 0, name=f"call{number % 5}") for number in range(1, 11)]]
    deep = [child(20, 1, name="a"), child(21, 20, name="b"), child(22, 21, name="c")]
    writer.write([Sender().data(*spans, *deep)])
    settling.step(writer, is_last=True)
    counted = calls(path)
    assert sum(counted.values()) == 14
    assert counted["charge > (other)"] == 6
    assert sum(count for name, count in counted.items() if name.count(">") > 1) == 3
    assert figures(path) == recount(path, tmp_path, clock)


def test_spans_that_expire_before_they_are_counted_are_told(path: Path, clock: Clock) -> None:
    """The spans of trees that expire while settling is behind count as late."""
    with Store(path, clock_ns=clock.wall) as store:
        store.store([Sender().data(*[make_span(number, trace_id=trace_id(number)) for number in range(3)])])
        list(settle_all(store, clock_ns=clock.wall))
        uncounted = [make_span(number, trace_id=trace_id(number)) for number in range(3, 7)]
        store.store([Sender(1).data(*uncounted, child(9, 3, 3))])
        while delete_traces_before(store, EPOCH_NS + HOUR_NS, 1_000):
            pass
        list(settle_all(store, clock_ns=clock.wall))
    assert row(path, "SELECT value FROM settling WHERE name = 'late'")["value"] == 5
    assert sum(each["root_calls"] for each in figures(path)) == 3


@pytest.mark.parametrize("bound", ["MAX_OF_ROOT", "MAX_PATHS"])
def test_a_service_leaves_paths_for_others(
    path: Path, writer: Writer, settling: Settler, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """A service that makes up names takes half of the paths at most, below a root and of all."""
    monkeypatch.setattr(paths, bound, 24)
    made_up = [child(number, 0, name=f"call{number}") for number in range(1, 30)]
    writer.write([Sender(1, "evil").data(*made_up)])
    writer.write([Sender().data(make_span(), *[child(100 + n, 0, name=f"pay{n}") for n in range(3)])])
    settling.step(writer, is_last=True)
    named = Counter(
        each["service"]
        for each in rows(
            path, "SELECT service FROM paths JOIN methods ON methods.id = method WHERE parent > 0"
        )
    )
    assert named["billing"] == 3
    assert named["evil"] == 12
    counted = calls(path)
    assert counted["charge > (other)"] == 29 - named["evil"]


def test_versions_beyond_the_bounds_share_one(
    path: Path,
    writer: Writer,
    settling: Settler,
    clock: Clock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A service that makes up versions has a bounded number, and one that was admitted keeps its name."""
    monkeypatch.setattr(versions, "MAX_OF_SERVICE", 2)
    for number, version in enumerate(("1", "2", "3", "4", "2")):
        resource = Resource(bytes([number] * 16), "shop", "box", 1, EPOCH_NS, {}, version)
        spans = [make_span(number, trace_id=trace_id(number))]
        writer.write([], list(pack(ForeignBatch(resource, spans))))
        settling.step(writer, is_last=True)
    found = {(each["version"], each["calls"]) for each in figures(path)}
    assert found == {("1", 1), ("2", 2), ("(other)", 2)}
    assert figures(path) == recount(path, tmp_path, clock)


def test_a_tree_of_too_many_spans_is_left_out(
    path: Path, writer: Writer, settling: Settler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree of more spans than can be counted at once is left out, and that is counted."""
    monkeypatch.setattr(settler, "MAX_SPANS", 3)
    writer.write([Sender().data(make_span(), *[child(number, 0) for number in range(1, 5)])])
    settling.step(writer, is_last=True)
    writer.write([Sender(1).data(child(9, 0))])
    settling.step(writer, is_last=True)
    assert figures(path) == []
    assert row(path, "SELECT value FROM settling WHERE name = 'left_out'")["value"] == 1
