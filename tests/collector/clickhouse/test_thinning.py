"""Thinning in ClickHouse: what is kept, what stays of the rest, and what a kill at any point leaves."""

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.clickhouse import Engine
from tests.collector.clickhouse.delivering import Killed, Shop
from tests.collector.messages import EPOCH_NS, MS, make_open, make_span, span_id
from tests.collector.storing.test_retention import Clock, failure
from tests.collector.storing.test_thinning import contents, is_in_share, kept, make_id, thin, tree
from ztrace.records import ERROR, Span
from ztrace_collector.clickhouse import thinning
from ztrace_collector.clickhouse.address import read_address
from ztrace_collector.clickhouse.engine import open_engine
from ztrace_collector.clickhouse.initializing import initialize
from ztrace_collector.clickhouse.messages import Step
from ztrace_collector.clickhouse.requesting import pin
from ztrace_collector.clickhouse.schema import Layout
from ztrace_collector.clickhouse.settling import settler
from ztrace_collector.clickhouse.thinning import GRACE_S, PREFIX, Thinner
from ztrace_collector.storing.store import Store
from ztrace_collector.storing.thinning import RARE
from ztrace_collector.tables.thresholds import threshold_of

pytestmark = [pytest.mark.scale, pytest.mark.process]

DAY_NS = 24 * 3600 * 10**9
SHARE = 0.05
#: Queries of the figures, which thinning must not change.
FIGURES = (
    "SELECT resolution_s, bucket, method, sum(calls), sum(errors), sum(total_ns), sum(self_ns),"
    " sumMap(histogram) FROM method_figures GROUP BY resolution_s, bucket, method ORDER BY ALL",
    *(
        f"SELECT hex(toString(tuple(*))) FROM {table} FINAL ORDER BY ALL"
        for table in ("path_figures", "exception_groups", "exception_minutes", "exceptions", "totals")
    ),
)


class Mall(Shop):
    """A journal with a clock, and the database that it is sent to."""

    def __init__(
        self, path: Path, store: Store, url: str, engine: Engine, clock: Clock, patch: pytest.MonkeyPatch
    ) -> None:
        super().__init__(path, store, read_address(url, {}))
        self.engine, self.clock, self.database = engine, clock, self.address.database
        patch.setattr("time.time_ns", clock.wall)

    def deliver(self) -> None:
        """Deliver everything, and count it by path."""
        super().deliver()
        with open_engine(self.address) as client:
            settler.settle_all(client)

    def send(self, *spans: Span) -> None:
        """Store spans and deliver them, now."""
        self.add(*spans)
        self.deliver()

    def query(self, text: str) -> str:
        """Return the result of a query, tab-separated."""
        return self.engine.query(text, self.database)

    @contextmanager
    def thinner(self, share: float = SHARE) -> Iterator[Thinner]:
        """Yield a thinner over a connection of its own."""
        with open_engine(self.address) as client:
            yield Thinner(client, share)

    def thin(self, share: float = SHARE) -> None:
        """Let a day and some more pass, and thin what is over."""
        self.clock.pass_by(24 * 3600 + GRACE_S)
        self.deliver()
        self.finish(share)

    def finish(self, share: float = SHARE) -> None:
        """Thin what is over."""
        with self.thinner(share) as thinner:
            while thinner.step():
                pass

    def kept(self, table: str = "traces") -> set[bytes]:
        """Return the ids of the traces that a table has."""
        rows = self.query(f"SELECT DISTINCT hex(trace_id) FROM {table}").split()
        return {bytes.fromhex(each) for each in rows}

    def totals(self) -> tuple[int, int, int]:
        """Return the numbers of spans that are stored, and of spans and traces that are thinned."""
        text = self.query(
            "SELECT (SELECT count() FROM spans), sum(span_count), sum(trace_count) FROM thinned_days FINAL"
        )
        stored, spans, traces = map(int, text.split())
        return stored, spans, traces


@pytest.fixture
def mall(path: Path, engine: Engine, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mall]:
    """Yield a journal and a database, both empty."""
    clock = Clock()
    initialize(read_address(engine.url(database), {}), Layout(), lambda line: None)
    with Store(path, clock_ns=clock.wall) as store:
        yield Mall(path, store, engine.url(database), engine, clock, monkeypatch)


def make_trees(count: int, methods: int = 3) -> list[list[Span]]:
    """Return trees of two spans, of some root methods, in the order of their ids; one in fifty failed."""
    chance = random.Random(7)
    made = []
    for place, number in enumerate(sorted(range(count), key=make_id)):
        fails = place % 50 == 30
        changes: dict[str, Any] = {"status": ERROR, "exception": failure(number)} if fails else {}
        duration_ns = chance.randrange(10**9)
        made.append(tree(number, name=f"method{place % methods}", duration_ns=duration_ns, **changes))
    return made


def flatten(trees: list[list[Span]]) -> list[Span]:
    """Return the spans of trees."""
    return [span for each in trees for span in each]


def ordinary(place: int = 0) -> int:
    """Return the number of a tree that nothing keeps, of those of `send_alike`."""
    numbers = sorted(range(100), key=make_id)[RARE:]
    return [each for each in numbers if not is_in_share(make_id(each), SHARE)][place]


def send_alike(mall: Mall) -> None:
    """Send a hundred trees that differ by their ids alone; of equals, the first one is the slowest."""
    mall.send(*flatten([tree(each) for each in range(100)]))


def late_span(mall: Mall, number: int, **changes: Any) -> Span:
    """Return a span below the inner one of a tree, which starts now."""
    ids = {"trace_id": make_id(number), "span_id": span_id(7777), "parent_id": span_id(2 * number + 1)}
    return make_span(7, **ids, start_ns=mall.clock.now_ns, **changes)


def test_what_matters_is_kept_as_in_a_file(mall: Mall) -> None:
    """Both stores keep the errors, the slowest, the first and the share; figures stay those of all."""
    trees = make_trees(900)
    mall.send(*flatten(trees))
    before = [mall.query(query) for query in FIGURES]
    mall.thin()
    assert [mall.query(query) for query in FIGURES] == before
    roots = [root for _, root in trees]
    expected = {root.trace_id for root in roots if root.status == ERROR or is_in_share(root.trace_id, SHARE)}
    for method in range(3):
        own = roots[method::3]
        slow = sorted(own, key=lambda root: root.duration_ns or 0)[-math.ceil(len(own) / 100) :]
        expected |= {root.trace_id for root in own[:RARE] + slow}
    assert mall.kept("traces") == mall.kept("spans") == mall.kept("roots") == expected
    thinned = len(trees) - len(expected)
    assert mall.totals() == (2 * len(expected), 2 * thinned, thinned)
    thin(mall.store, mall.clock)
    assert kept(mall.path) == expected
    thresholds = {each["trace_id"] for each in contents(mall.path, "traces") if each["threshold"] is not None}
    sampled = mall.query(f"SELECT hex(trace_id) FROM thinned_traces WHERE threshold = {threshold_of(SHARE)}")
    assert {bytes.fromhex(each) for each in sampled.split()} == thresholds


def test_a_day_that_is_not_over_is_whole(mall: Mall) -> None:
    """Nothing is thinned before the day and an hour have passed, and each day once."""
    send_alike(mall)
    with mall.thinner() as thinner:
        midnight_ns = (mall.clock.now_ns // DAY_NS + 1) * DAY_NS
        mall.clock.now_ns = midnight_ns + GRACE_S * 10**9 - MS
        mall.deliver()
        assert not thinner.step()
    with mall.thinner() as thinner:
        mall.clock.now_ns += MS
        mall.deliver()
        assert thinner.step()
    mall.thin()
    left = mall.totals()
    assert left[0] < 100
    mall.thin(0.01)
    assert mall.totals() == left


def test_collectors_that_are_behind_are_waited_for(mall: Mall) -> None:
    """A day waits for collectors that have more to send, but not for one that is silent for over a day."""
    send_alike(mall)
    for silent_h, thinned in ((23, 0), (25, 1)):
        mall.query("TRUNCATE TABLE journals")
        mall.query(f"INSERT INTO journals VALUES ('behind', 0, now() - toIntervalHour({silent_h}), 0)")
        mall.thin()
        assert mall.query("SELECT count() FROM thinned_days FINAL") == f"{thinned}\n"


def test_spans_that_are_not_counted_by_path_are_waited_for(mall: Mall) -> None:
    """A day is thinned once its trees are counted by path, and these figures stay."""
    mall.add(*flatten([tree(each) for each in range(100)]))
    Shop.deliver(mall)
    mall.clock.pass_by(24 * 3600 + GRACE_S)
    Shop.deliver(mall)
    mall.finish()
    assert len(mall.kept()) == 100
    mall.deliver()
    calls = "SELECT sum(calls) FROM path_figures WHERE resolution_s = 60"
    assert mall.query(calls) == "200\n"
    mall.finish()
    assert len(mall.kept()) < 100
    assert mall.query(calls) == "200\n"


@pytest.mark.parametrize(("minutes", "rows"), [(60, 1_000), (1, 60), (1, 110)], ids=["hours", "one", "two"])
def test_the_first_of_each_hour_are_kept(
    mall: Mall, monkeypatch: pytest.MonkeyPatch, minutes: int, rows: int
) -> None:
    """The first of each hour of arrival are kept, or of less where many arrive, whatever spans' own times."""
    monkeypatch.setattr(thinning, "MAX_DECIDED", rows)
    for place in range(3):
        numbers = range(100 * place, 100 * place + 50)
        mall.send(*flatten([tree(number, at_ns=EPOCH_NS + number * DAY_NS) for number in numbers]))
        mall.clock.pass_by(60 * minutes)
    mall.thin(0.001)
    assert len(mall.kept()) == (2 if rows > 100 and minutes == 1 else 3) * RARE


def test_pins_and_open_trees_are_kept(mall: Mall) -> None:
    """A pinned trace and one with an unfinished span are kept; one whose pin was taken back is not."""
    send_alike(mall)
    ids = [make_id(ordinary(place)) for place in range(4)]
    opened = make_open(5, trace_id=ids[2], span_id=span_id(9999), parent_id=span_id(1))
    mall.store.store([mall.sender.open(opened)])
    mall.deliver()
    for trace in ids[:2]:
        pin(mall.address, trace)
    pin(mall.address, ids[1], undo=True)
    mall.thin()
    assert [each in mall.kept() for each in ids] == [True, False, True, False]


def test_a_tree_too_large_to_be_counted_is_kept(mall: Mall, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree that is not in the figures by path, as it has too many spans, is kept as in a file."""
    monkeypatch.setattr(settler, "MAX_SPANS", 2)
    trees = [tree(each) for each in range(100)]
    mall.send(*flatten(trees), late_span(mall, ordinary()))
    mall.thin()
    assert make_id(ordinary()) in mall.kept()
    assert make_id(ordinary(1)) not in mall.kept()


def test_a_late_span_of_a_thinned_trace_goes_as_well(mall: Mall) -> None:
    """A late span of a thinned trace is thinned with its own day; one of a kept trace stays."""
    send_alike(mall)
    mall.thin()
    gone = ordinary()
    rare = min(range(100), key=make_id)
    mall.send(late_span(mall, gone), late_span(mall, rare))
    assert make_id(gone) in mall.kept()
    mall.thin()
    assert make_id(gone) not in mall.kept("spans")
    assert mall.query(f"SELECT count() FROM spans WHERE trace_id = unhex('{make_id(rare).hex()}')") == "3\n"
    stored, spans, _ = mall.totals()
    assert stored + spans == 202
    assert mall.query("SELECT sum(calls) FROM method_figures WHERE resolution_s = 60") == "202\n"
    # The kept tree is recounted with its late span, and the other one cannot be.
    assert mall.query("SELECT sum(calls) FROM path_figures WHERE resolution_s = 60") == "201\n"
    assert mall.query("SELECT value FROM settling FINAL WHERE name = 'late'") == "1\n"


def test_a_late_error_of_a_thinned_trace_stays(mall: Mall) -> None:
    """A late error of a thinned trace is kept, and its group counts it."""
    send_alike(mall)
    mall.thin()
    gone = ordinary()
    mall.send(late_span(mall, gone, status=ERROR, exception=failure(7)))
    mall.thin()
    assert mall.query(f"SELECT status FROM spans WHERE trace_id = unhex('{make_id(gone).hex()}')") == "1\n"
    assert mall.query("SELECT sum(count) FROM exception_minutes FINAL") == "1\n"


def test_a_trace_over_midnight_is_decided_once(mall: Mall) -> None:
    """A trace with spans on two days is whole, or gone from both, by all of its spans."""
    midnight_ns = (mall.clock.now_ns // DAY_NS + 1) * DAY_NS
    mall.clock.now_ns = midnight_ns - MS
    gone, failed, rare = ordinary(), ordinary(1), min(range(100), key=make_id)
    send_alike(mall)
    mall.clock.now_ns = midnight_ns + MS
    others = [late_span(mall, each)._replace(span_id=span_id(8000 + each)) for each in (gone, rare)]
    mall.send(*others, late_span(mall, failed, status=ERROR, exception=failure(7)))
    assert mall.query("SELECT uniqExact(toDate(arrived)) FROM spans") == "2\n"
    mall.thin()
    mall.thin()
    numbers = {
        each: int(mall.query(f"SELECT count() FROM spans WHERE trace_id = unhex('{make_id(each).hex()}')"))
        for each in (gone, failed, rare)
    }
    assert numbers == {gone: 0, failed: 3, rare: 3}


def test_a_repeated_block_is_ignored(mall: Mall, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that is repeated after its day was thinned is not stored again, in the spans or in sums."""
    mall.add(*flatten([tree(each) for each in range(100)]))
    with monkeypatch.context() as patch:
        patch.setattr(mall, "report", _die_after_block(mall.report))
        with pytest.raises(Killed):
            mall.deliver()
    mall.thin()
    left = mall.totals()
    assert left[0] < 100
    figures = mall.query(FIGURES[0])
    mall.deliver()
    assert mall.totals() == left
    assert mall.kept("traces") == mall.kept("spans")
    assert mall.query(FIGURES[0]) == figures


def _die_after_block(report: Callable[[Step], None]) -> Callable[[Step], None]:
    """Return a report that ends the delivery once a block is sent, before the position is written."""

    def report_or_die(step: Step) -> None:
        if step.place:
            raise Killed
        report(step)

    return report_or_die


def test_spans_that_arrive_meanwhile_stay(mall: Mall) -> None:
    """A block that a collector sends into the day while it is copied is in the day that replaces it."""
    send_alike(mall)
    mall.clock.pass_by(24 * 3600 + GRACE_S)
    mall.deliver()
    with mall.thinner() as thinner:
        while not mall.query(f"SELECT name FROM system.tables WHERE name LIKE '{PREFIX}spans_%'"):
            assert thinner.step()
        late = f"SELECT * REPLACE (unhex('{make_id(500).hex()}') AS trace_id) FROM spans LIMIT 2"
        mall.query(f"INSERT INTO spans {late}")
        while thinner.step():
            pass
    assert make_id(500) in mall.kept("spans")
    assert len(mall.kept("spans")) < 50


def test_a_kill_between_any_statements_changes_nothing(mall: Mall, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder that is killed after a statement leaves what the next one completes, and counts are exact."""
    run, left = Thinner._run, [0]

    def run_or_die(self: Thinner, statement: str) -> None:
        run(self, statement)
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    monkeypatch.setattr(Thinner, "_run", run_or_die)
    send_alike(mall)
    mall.clock.pass_by(24 * 3600 + GRACE_S)
    mall.deliver()
    for statements in count(1):
        left[0] = statements
        try:
            mall.finish()
        except Killed:
            continue
        break
    assert statements > 9
    assert mall.kept("traces") == mall.kept("spans") == mall.kept("roots")
    thinned = 100 - len(mall.kept())
    assert thinned > 60
    assert mall.totals() == (2 * len(mall.kept()), 2 * thinned, thinned)
    assert mall.query(f"SELECT name FROM system.tables WHERE name LIKE '{PREFIX}%'") == ""


def test_copies_are_made_in_slices(mall: Mall, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day with more thinned traces than one statement takes is copied in several."""
    monkeypatch.setattr(thinning, "MAX_TRACES", 7)
    send_alike(mall)
    mall.thin()
    assert mall.kept("traces") == mall.kept("spans") == mall.kept("roots")
    assert mall.totals()[0] == 2 * len(mall.kept())
    assert len(mall.kept()) < 50
