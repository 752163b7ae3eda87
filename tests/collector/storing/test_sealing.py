"""Sealing: what is sealed and when, and sealed traces that go on, expire, are thinned or damaged.

One idea: two stores get the same messages, and one of them is sealed now and then. In the end both have the
same spans, figures and accounts.
"""

import logging
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.collector.messages import EPOCH_NS, MS, Sender, make_open, make_span, row, rows, span_id, trace_id
from tests.collector.sealed import seal
from tests.collector.storing.test_retention import Clock, count, failure, limited, run_until_done, totals
from ztrace.records import ERROR, Span
from ztrace_collector.checking.parcels import ForeignBatch, Resource, pack
from ztrace_collector.sealing import reading
from ztrace_collector.sealing.reading import add_views, read_ids
from ztrace_collector.settling.settler import settle_all
from ztrace_collector.storing import sealing
from ztrace_collector.storing.expiring import delete_first_traces
from ztrace_collector.storing.sealing import Sealer
from ztrace_collector.storing.store import Store
from ztrace_collector.storing.thinning import Thinner
from ztrace_collector.tables.sealed import insert_sealed

#: Tables that are the same whether traces are sealed or not.
SAME = (
    "traces",
    "adopted_spans",
    "exceptions",
    "exception_groups",
    "exception_minutes",
    "uncaught_exceptions",
    "exception_samples",
    "method_figures",
    "publishers",
    "instances",
    "losses",
    "unfinished_spans",
    "totals",
    "expired_traces",
    "thinned_traces",
)
#: Figures by the names of paths, whose ids follow the order in which trees are counted. Minutes are swept.
PATHS = """
SELECT path_list.path, kind, figures.* FROM path_figures AS figures JOIN path_list ON id = figures.path
WHERE resolution_s > 60
"""


@pytest.fixture
def clock() -> Clock:
    """Return a clock set to the base time."""
    return Clock()


def contents(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of the tables, and all spans."""
    with closing(sqlite3.connect(path)) as db:
        add_views(db)
        found = {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in SAME}
        found["settled"] = db.execute("SELECT trace, span, figures IS NULL FROM settled").fetchall()
        named = db.execute(PATHS)
        ids = [column[0] for column in named.description].index("path", 1)
        found["paths"] = sorted(row[:ids] + row[ids + 1 :] for row in named)
        found["spans"] = db.execute("SELECT * FROM all_spans ORDER BY id").fetchall()
    return found


def settle(store: Store, clock: Clock) -> None:
    """Count all trees by path."""
    for _ in settle_all(store, clock_ns=clock.wall):
        pass


def tree(number: int, **changes: Any) -> list[Span]:
    """Return a trace of two spans, its inner one first."""
    root = make_span(number, span_id=span_id(2 * number), **changes)
    inner: dict[str, Any] = {"span_id": span_id(2 * number + 1), "parent_id": root.span_id, "name": "inner"}
    return [root._replace(**inner, status=0, exception=None), root]


def fill(store: Store, clock: Clock, traces: int = 30, **changes: Any) -> Sender:
    """Store and count some traces, and return their sender."""
    sender = Sender()
    store.store([sender.data(*[span for number in range(traces) for span in tree(number, **changes)])])
    settle(store, clock)
    return sender


def test_old_traces_are_sealed_and_young_ones_are_not(path: Path, clock: Clock) -> None:
    """Traces are sealed once they are an hour old or older, and the ids of new spans go on."""
    with Store(path, clock_ns=clock.wall) as store:
        sender = fill(store, clock)
        before = contents(path)
        sealer = Sealer(clock_s=clock.steady)
        sealer.step(store)
        assert count(path, "sealed_traces") == 0
        seal(store, clock, sealer)
        assert (count(path, "sealed_traces"), count(path, "spans")) == (30, 0)
        assert contents(path) == before
        store.store([sender.data(*tree(50))])
        settle(store, clock)
        while sealer.wait_s() == 0:
            sealer.step(store)
        assert count(path, "spans") == 2
    with Store(path, clock_ns=clock.wall) as store:
        clock.pass_by(60)
        seal(store, clock)
        assert count(path, "spans") == 0
        store.store([sender.data(*tree(51))])
    ids = [each["id"] for each in rows(path, "SELECT id FROM spans")]
    assert ids == [63, 64]


def test_what_is_not_finished_stays_in_rows(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traces that are open, not counted, too large or spread out stay, and so do those not sent on yet."""
    monkeypatch.setattr(sealing, "MAX_SPANS", 5)
    monkeypatch.setattr(sealing, "MAX_BYTES", 1000)
    monkeypatch.setattr(sealing, "MAX_SPREAD", 20)
    with Store(path, clock_ns=clock.wall) as store:
        sender = Sender()
        many = [make_span(3, span_id=span_id(100 + each), parent_id=span_id(6)) for each in range(9)]
        wide = tree(5)
        store.store([sender.data(*tree(1), *many, *tree(4, attributes={"text": "x" * 2000}), wide[0])])
        store.store([sender.data(*[span for number in range(10, 20) for span in tree(number)], wide[1])])
        store.store([sender.data(*tree(2)), sender.open(make_open(2, span_id=span_id(99)))])
        settle(store, clock)
        with store.transaction() as db:
            last = "SELECT max(id) FROM spans WHERE trace_id = ?"
            (place,) = db.execute(last, (trace_id(15),)).fetchone()
            db.execute(
                "INSERT INTO destinations (url, protocol, in_use, place, sent, refused, skipped, since_ns)"
                " VALUES ('http://here', 'http/protobuf', 1, ?, 0, 0, 0, 0)",
                (place,),
            )
        store.store([sender.data(*tree(21))])  # It is not counted by path.
        seal(store, clock)
        numbers = {
            each["trace_id"]: each["n"]
            for each in rows(path, "SELECT trace_id, count(*) AS n FROM spans GROUP BY 1")
        }
        assert set(numbers) == {trace_id(number) for number in (2, 3, 4, 5, 16, 17, 18, 19, 21)}
        assert count(path, "sealed_traces") == 7
        with store.transaction() as db:
            db.execute("UPDATE destinations SET in_use = 0")
        settle(store, clock)
        seal(store, clock)
    left = {each["trace_id"] for each in rows(path, "SELECT trace_id FROM spans")}
    assert left == {trace_id(number) for number in (2, 3, 4, 5)}


def test_clickhouse_is_waited_for(path: Path, clock: Clock) -> None:
    """Nothing is sealed that a ClickHouse database does not have completely."""
    with Store(path, clock_ns=clock.wall) as store:
        fill(store, clock)
        with store.transaction() as db:
            db.execute(
                "INSERT INTO destinations (url, protocol, in_use, place, sent, refused, skipped, since_ns)"
                " VALUES ('clickhouse://here/x', 'clickhouse', 1, 60, 60, 0, 0, 0)"
            )
        seal(store, clock)
        assert count(path, "sealed_traces") == 0
        with store.transaction() as db:
            db.execute("INSERT INTO shipping VALUES ('e', 'j', 1, 60, NULL, 0, 41, 0)")
        seal(store, clock)
    assert count(path, "sealed_traces") == 20


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_late_spans_change_a_sealed_trace_as_any_other(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Spans that come late, twice, as halves of a call, or unfinished change sealed traces as others."""
    chance, folder = random.Random(seed), tmp_path_factory.mktemp("late")
    paths, clocks = [folder / "rows.db", folder / "sealed.db"], [Clock(), Clock()]
    senders = [Sender(number, f"service{number}") for number in range(3)]
    resource = Resource(b"i" * 16, "foreign", "desk", 7, EPOCH_NS, {})
    stores = [Store(path, clock_ns=clock.wall) for path, clock in zip(paths, clocks, strict=True)]
    try:
        for _ in range(6):
            messages, batches = [], []
            for sender in senders:
                spans = [make_random_span(chance) for _ in range(chance.randrange(6))]
                ended = [each for each in spans if each.duration_ns is not None]
                messages.append(sender.data(*ended))
                if opened := [each for each in spans if each.duration_ns is None]:
                    messages.append(sender.open(*opened))
            foreign = [make_random_span(chance) for _ in range(chance.randrange(8))]
            batches = [ForeignBatch(resource, foreign, {}, {})] if foreign else []
            seals = chance.random() < 0.7
            for store, clock in zip(stores, clocks, strict=True):
                store.store(messages, [parcel for batch in batches for parcel in pack(batch)])
                settle(store, clock)
                if seals and store is stores[1]:
                    seal(store, clock)
                elif seals:
                    clock.pass_by(3 * 3600)
                # What is in memory of spans with conflicting ids and clocks is more than the file tells.
                store.forget_traces([trace_id(number) for number in range(12)])
        assert contents(paths[1]) == contents(paths[0])
    finally:
        for store in stores:
            store.close()


def make_random_span(chance: random.Random) -> Span:
    """Return a span of one of a few traces, whose clock may be off by years."""
    number = chance.randrange(12)
    changes: dict[str, Any] = {
        "span_id": span_id(chance.randrange(8)),
        "parent_id": chance.choice([None, span_id(chance.randrange(8))]),
        "kind": chance.choice([1, 2, 3, 4, 5]),
        "name": chance.choice(["charge", "pay"]),
        "start_ns": EPOCH_NS + chance.randrange(1000) * MS + chance.choice([0, 0, 0, -(10**17), 10**17]),
        "attributes": chance.choice([None, {"n": number}, {"text": "x" * 3000}]),
    }
    if chance.random() < 0.2:
        return make_open(number, **changes)
    if chance.random() < 0.3:
        changes |= {"status": ERROR, "exception": failure(number) if chance.random() < 0.5 else None}
    return make_span(number, **changes)


def test_a_rollback_and_a_kill_leave_every_trace_whole(
    path: Path, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that fails, or is killed, in its middle changes nothing, and the next one seals."""
    copied = tmp_path / "killed.db"
    original = insert_sealed

    def fail(db: sqlite3.Connection, *arguments: Any) -> None:
        original(db, *arguments)
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{copied}{suffix}")
        raise RuntimeError("killed")

    with Store(path, clock_ns=clock.wall) as store:
        fill(store, clock)
        before = contents(path)
        monkeypatch.setattr(sealing, "insert_sealed", fail)
        sealer = Sealer(clock_s=clock.steady)
        with pytest.raises(RuntimeError, match="killed"):
            seal(store, clock, sealer)
        assert contents(path) == contents(copied) == before
        assert count(copied, "spans") == 60
        monkeypatch.setattr(sealing, "insert_sealed", original)
        seal(store, clock, sealer)
        assert (count(path, "spans"), contents(path)) == (0, before)


@pytest.fixture
def twins(tmp_path: Path) -> Iterator[Callable[..., tuple[list[Path], list[Store], list[Clock]]]]:
    """Yield a function that returns two filled stores, of which the second is sealed."""
    opened: list[Store] = []

    def make(**changes: Any) -> tuple[list[Path], list[Store], list[Clock]]:
        paths, clocks = [tmp_path / name for name in ("rows.db", "sealed.db")], [Clock(), Clock()]
        for path, clock in zip(paths, clocks, strict=True):
            opened.append(Store(path, clock_ns=clock.wall))
            fill(opened[-1], clock, 400, **changes)
        clocks[0].pass_by(3 * 3600)
        seal(opened[1], clocks[1])
        assert count(paths[1], "spans") == 0
        return paths, opened, clocks

    yield make
    for store in opened:
        store.close()


def test_sealed_traces_expire_as_others(twins: Any) -> None:
    """By age and by size, sealed traces are deleted with all that is theirs, and counted exactly."""
    paths, stores, clocks = twins(status=ERROR, exception=failure(0))
    for store in stores:
        assert delete_first_traces(store, 100) == 100
    assert contents(paths[1]) == contents(paths[0])
    assert totals(paths[1])["spans_expired"] == 100
    # A trace that is larger than a step loses some of its spans first.
    for store in stores:
        assert [delete_first_traces(store, 1) for _ in range(2)] == [1, 1]
    assert contents(paths[1])["totals"] == contents(paths[0])["totals"]
    for store, clock in zip(stores, clocks, strict=True):
        clock.pass_by(86_400)
        deleting = limited(clock, keep_ns=3600 * 10**9)
        deleting.begin(store)
        run_until_done(deleting, store, clock)
    assert contents(paths[1])["totals"] == contents(paths[0])["totals"]
    assert (count(paths[1], "sealed_traces"), totals(paths[1])["spans"]) == (0, 0)


def test_sealed_traces_are_thinned_as_others(twins: Any) -> None:
    """Thinning that begins late keeps the same of sealed traces, and none is sealed before it was thinned."""
    paths, stores, clocks = twins()
    for store, clock in zip(stores, clocks, strict=True):
        thinner = Thinner(0.05, clock_s=clock.steady)
        while thinner.wait_s() == 0:
            thinner.step(store)
    assert contents(paths[1]) == contents(paths[0])
    assert totals(paths[1])["traces_thinned"] > 300
    stores[1].store([Sender(3).data(*[span for number in range(500, 600) for span in tree(number)])])
    settle(stores[1], clocks[1])
    waiting = Sealer(thins=True, clock_s=clocks[1].steady)
    seal(stores[1], clocks[1], waiting)
    assert count(paths[1], "spans") == 200
    while thinner.wait_s() == 0 or clocks[1].pass_by(10):
        thinner.step(stores[1])
    seal(stores[1], clocks[1], waiting)
    assert count(paths[1], "spans") == 0


def damage(path: Path, number: int) -> None:
    """Damage a sealed trace."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "UPDATE sealed_traces SET spans = CAST(x'00' || spans AS BLOB)"
            " WHERE trace = (SELECT id FROM traces WHERE trace_id = ?)",
            (trace_id(number),),
        )


def test_a_damaged_trace_costs_no_other(path: Path, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """A trace that cannot be decoded is told once; others are read, and it goes on, and expires."""
    with Store(path, clock_ns=clock.wall) as store:
        sender = fill(store, clock)
        seal(store, clock)
        damage(path, 4)
        with closing(sqlite3.connect(path)) as db, caplog.at_level(logging.WARNING):
            add_views(db)
            query = "SELECT count(DISTINCT trace_id), count(*) FROM all_spans"
            assert db.execute(query).fetchone() == db.execute(query).fetchone() == (29, 58)
        assert [record.getMessage() for record in caplog.records] == [
            f"the sealed spans of trace {trace_id(4).hex()} are damaged and left out"
        ]
        # A late span, and a span of a sound trace.
        late = [make_span(number, span_id=span_id(900 + number), name="late") for number in (4, 5)]
        store.store([sender.data(*late)])
        settle(store, clock)
        assert {each["trace_id"]: each["n"] for each in rows(path, SPANS)} == {trace_id(4): 1, trace_id(5): 3}
        seal(store, clock)
        assert [each["trace_id"] for each in rows(path, SPANS)] == [trace_id(4)]
        while delete_first_traces(store, 1000):
            pass
    assert totals(path)["spans"] == count(path, "spans") == count(path, "sealed_traces") == 0


SPANS = "SELECT trace_id, count(*) AS n FROM spans GROUP BY 1"


def test_dictionaries_follow_the_traces(path: Path, clock: Clock) -> None:
    """A file gets a better dictionary when its traces change, keeps the old ones, and reads with each."""
    with Store(path, clock_ns=clock.wall) as store:
        sender, before = Sender(), 0
        for kind in ("alpha", "omega"):
            words = random.Random(kind).choices([f"{kind}{number}" for number in range(40)], k=400)
            text = " ".join(words[:40])
            for first in range(0, 400, 100):
                spans = [
                    span
                    for place in range(first, first + 100)
                    for span in tree(
                        before + place,
                        attributes={words[place]: words[place - 1], "all": text},
                    )
                ]
                store.store([sender.data(*spans)])
            before += 400
            settle(store, clock)
            kept = contents(path)
            seal(store, clock)
            assert contents(path) == kept
    sizes = [len(each["content"]) for each in rows(path, "SELECT content FROM sealing_dictionaries")]
    used = row(path, "SELECT count(DISTINCT dictionary) AS n FROM sealed_traces")["n"]
    assert used == len(sizes) > 2
    assert max(sizes) <= 16_384


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), together=st.integers(1, 5))
def test_spans_are_read_in_the_order_of_their_ids(
    tmp_path_factory: pytest.TempPathFactory, seed: int, together: int
) -> None:
    """Sealed spans and rows are read together by their ids, in any pieces, from any position."""
    chance, path, clock = random.Random(seed), tmp_path_factory.mktemp("ids") / "traces.db", Clock()
    spans = [span for number in range(30) for span in tree(number)]
    chance.shuffle(spans)
    keep = {trace_id(number) for number in range(30) if chance.random() < 0.3}
    with Store(path, clock_ns=clock.wall) as store:
        sender = Sender()
        opened = [make_open(number, span_id=span_id(800 + number)) for number in range(30)]
        store.store([sender.data(*spans), sender.open(*[each for each in opened if each.trace_id in keep])])
        settle(store, clock)
        seal(store, clock)
        if chance.random() < 0.5:
            delete_first_traces(store, 6)
    with closing(sqlite3.connect(path)) as db, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_TRACES", together)
        patch.setattr(reading, "_FEW_TRACES", 1)
        patch.setattr(reading, "_ROWS", 7)
        add_views(db)
        expected = [each for (each,) in db.execute("SELECT id FROM all_spans ORDER BY id")]

        def read(after: int, last: int, limit: int) -> list[int]:
            select = "SELECT id, trace_id FROM {} AS spans".format
            return [row[0] for piece in read_ids(db, select, after, last, limit) for row in piece]

        assert read(0, 1000, 1000) == expected
        for _ in range(10):
            after, last, limit = chance.randrange(60), chance.randrange(62), chance.randrange(1, 20)
            between = [each for each in expected if after < each <= last]
            assert read(after, last, limit) == between[:limit]


def test_steps_are_short_and_begin_again_each_hour(path: Path, clock: Clock) -> None:
    """A step ends after some milliseconds, and what could not be sealed is looked at again an hour later."""
    with Store(path, clock_ns=clock.wall) as store:
        sender = fill(store, clock)
        store.store([sender.open(make_open(3, span_id=span_id(700)))])
        clock.pass_by(3 * 3600)
        ticks = iter(range(1000))
        sealer = Sealer(clock_s=lambda: clock.now_s + next(ticks) * 0.015)
        sealer.step(store)
        assert 0 < count(path, "sealed_traces") < 5
        sealer = seal(store, clock)
        assert count(path, "spans") == 2
        store.store([sender.data(make_span(3, span_id=span_id(700)))])
        settle(store, clock)
        seal(store, clock, sealer)
    assert count(path, "spans") == 0
