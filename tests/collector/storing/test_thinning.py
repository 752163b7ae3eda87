"""Thinning: what is kept, what stays of the rest, and traces that go on after they were thinned."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.collector.messages import (
    EPOCH_NS,
    MS,
    Sender,
    is_balanced,
    make_open,
    make_span,
    row,
    rows,
    span_id,
)
from tests.collector.storing.test_retention import Clock, count, failure, totals
from ztrace.records import ERROR, Span
from ztrace_collector.settling.settler import Settler, settle_all
from ztrace_collector.storing import thinning
from ztrace_collector.storing.expiring import sweep
from ztrace_collector.storing.pinning import pin
from ztrace_collector.storing.store import Store
from ztrace_collector.storing.thinning import RARE, Thinner
from ztrace_collector.storing.writer import Writer
from ztrace_collector.tables.spans import last_span_id
from ztrace_collector.tables.thresholds import RANDOM_VALUES, threshold_of

#: Tables of figures that thinning must not change.
FIGURES = (
    "method_figures",
    "path_figures",
    "exception_groups",
    "exception_minutes",
    "exceptions",
    "exception_samples",
    "publishers",
    "losses",
)


@pytest.fixture
def clock() -> Clock:
    """Return a clock set to the base time."""
    return Clock()


def make_id(number: int, at_ns: int = EPOCH_NS) -> bytes:
    """Return a trace id as the agent makes one: six bytes of time, and random ones that a number decides."""
    return (at_ns // MS).to_bytes(6, "big") + random.Random(number).randbytes(10)


def tree(number: int, *, at_ns: int = EPOCH_NS, name: str = "charge", **changes: Any) -> list[Span]:
    """Return a trace of two spans."""
    trace = make_id(number, at_ns)
    changes = {"trace_id": trace, "span_id": span_id(2 * number), "name": name, "start_ns": at_ns} | changes
    root = make_span(number, **changes)
    return [
        root._replace(span_id=span_id(2 * number + 1), parent_id=root.span_id, name="inner", status=0),
        root,
    ]


def is_in_share(trace: bytes, share: float) -> bool:
    """Return whether a trace is in a share by OpenTelemetry's rule, written as OpenTelemetry has it."""
    return int(trace.hex()[-14:], 16) >= (1 - share) * RANDOM_VALUES


def thin(store: Store, clock: Clock, share: float = 0.05, thinner: Thinner | None = None) -> Thinner:
    """Settle all trees of a store, and thin it until there is nothing to do."""
    for _ in settle_all(store, clock_ns=clock.wall):
        pass
    thinner = thinner or Thinner(share, clock_s=clock.steady)
    while thinner.wait_s() == 0:
        thinner.step(store)
    return thinner


def fill(store: Store, clock: Clock, spans: list[Span], sender: Sender) -> None:
    """Store spans, and let the hour pass."""
    for first in range(0, len(spans), 1000):
        store.store([sender.data(*spans[first : first + 1000])])
    clock.pass_by(3600)


def contents(path: Path, table: str) -> list[dict[str, Any]]:
    """Return the rows of a table."""
    return rows(path, f"SELECT * FROM {table}")


def kept(path: Path) -> set[bytes]:
    """Return the traces that are stored."""
    return {each["trace_id"] for each in rows(path, "SELECT trace_id FROM traces")}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32),
    traces=st.integers(0, 600),
    methods=st.integers(1, 4),
    failing=st.sampled_from([0.0, 0.02, 1.0]),
    share=st.sampled_from([0.01, 0.05, 0.5]),
    equal=st.booleans(),
)
def test_figures_stay_and_what_matters_is_kept(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    traces: int,
    methods: int,
    failing: float,
    share: float,
    equal: bool,
) -> None:
    """All figures stay; every error, the slowest, the first and the share are kept, and nothing else is."""
    path, clock, chance = tmp_path_factory.mktemp("thin") / "traces.db", Clock(), random.Random(seed)
    made = []
    for number in range(traces):
        fails = chance.random() < failing
        duration_ns = 10 * MS if equal else chance.randrange(1, 1000) * MS
        change: dict[str, Any] = {"status": ERROR, "exception": failure(number)} if fails else {}
        name = f"method{chance.randrange(methods)}"
        made.append(tree(number, name=name, duration_ns=duration_ns, self_ns=duration_ns, **change))
    sender = Sender()
    with Store(path, clock_ns=clock.wall) as store:
        fill(store, clock, [span for spans in made for span in spans], sender)
        for _ in settle_all(store, clock_ns=clock.wall):
            pass
        before = {table: contents(path, table) for table in FIGURES}
        thin(store, clock, share)
    assert {table: contents(path, table) for table in FIGURES} == before
    expected, by_method = set(), dict[str, list[tuple[int, int, bytes]]]()
    for number, (_, root) in enumerate(made):
        by_method.setdefault(root.name, []).append((root.duration_ns or 0, -number, root.trace_id))
        if root.status == ERROR or is_in_share(root.trace_id, share):
            expected.add(root.trace_id)
    for found in by_method.values():
        expected.update(each for *_, each in sorted(found, key=lambda each: -each[1])[:RARE])
        expected.update(each for *_, each in sorted(found)[len(found) - -(-len(found) // 100) :])
    assert kept(path) == expected
    thinned = traces - len(expected)
    assert totals(path) == {
        "spans": 2 * len(expected),
        "traces": len(expected),
        "spans_expired": 0,
        "spans_thinned": 2 * thinned,
        "traces_thinned": thinned,
    }
    assert all(is_balanced(each) for each in rows(path, "SELECT * FROM publishers"))
    assert count(path, "thinned_traces") == thinned
    for table in ("spans", "settled"):
        assert count(path, table) == (2 if table == "spans" else 1) * len(expected)


def test_a_twentieth_keeps_less_than_a_tenth(path: Path, clock: Clock) -> None:
    """Of many traces, 5% keep at most 10% of the spans, and 100% of the errors."""
    spans = [
        span
        for number in range(4000)
        for span in tree(number, duration_ns=(number % 97 + 1) * MS, status=int(number % 200 == 7))
    ]
    with Store(path, clock_ns=clock.wall) as store:
        fill(store, clock, spans, Sender())
        thin(store, clock)
    assert count(path, "spans") < len(spans) / 10
    assert row(path, "SELECT count(*) AS n FROM traces WHERE error_count > 0")["n"] == 20


def test_a_kept_sample_has_its_threshold(path: Path, clock: Clock) -> None:
    """Traces kept for the share alone have its threshold, and the rest have none."""
    with Store(path, clock_ns=clock.wall) as store:
        fill(store, clock, [span for number in range(500) for span in tree(number)], Sender())
        thin(store, clock, 0.25)
    found = {each["trace_id"]: each["threshold"] for each in rows(path, "SELECT * FROM traces")}
    sampled = {trace for trace, threshold in found.items() if threshold is not None}
    assert set(found.values()) == {None, threshold_of(0.25)}
    assert all(is_in_share(trace, 0.25) for trace in sampled)
    # The first and the slowest stand for themselves.
    assert len(found) - len(sampled) == RARE


def test_an_hour_that_is_not_over_is_whole(path: Path, clock: Clock) -> None:
    """Traces of the present hour are not thinned, and are once it is over."""
    with Store(path, clock_ns=clock.wall) as store:
        fill(store, clock, [span for number in range(100) for span in tree(number)], Sender())
        now = [span for number in range(100, 200) for span in tree(number, at_ns=clock.now_ns)]
        store.store([Sender(1).data(*now)])
        thinner = thin(store, clock)
        assert kept(path) >= {span.trace_id for span in now}
        assert len(kept(path)) < 200
        clock.pass_by(3600)
        thin(store, clock, thinner=thinner)
        assert not kept(path) >= {span.trace_id for span in now}


def test_a_pinned_trace_is_kept(path: Path, clock: Clock) -> None:
    """A pinned trace is kept; one whose pin was taken back is not."""
    with Store(path, clock_ns=clock.wall) as store:
        fill(store, clock, [span for number in range(100) for span in tree(number)], Sender())
        first, second = make_id(ordinary()), make_id(ordinary(range(ordinary() + 1, 100)))
        for trace in (first, second):
            pin(path, trace)
        pin(path, second, undo=True)
        thin(store, clock)
    assert first in kept(path)
    assert second not in kept(path)


def ordinary(numbers: range = range(40, 100)) -> int:
    """Return the number of a trace that a share of 5% does not keep."""
    return next(number for number in numbers if not is_in_share(make_id(number), 0.05))


def test_a_tree_that_is_still_open_is_kept(path: Path, clock: Clock) -> None:
    """A trace with an unfinished span is kept."""
    number = ordinary()
    with Store(path, clock_ns=clock.wall) as store:
        spans = [span for each in range(100) for span in tree(each)]
        opened = make_open(5, trace_id=make_id(number), span_id=span_id(9999), parent_id=span_id(2 * number))
        store.store([Sender(1).open(opened)])
        fill(store, clock, spans, Sender())
        thin(store, clock)
    assert make_id(number) in kept(path)


def test_spans_not_counted_or_sent_on_yet_are_waited_for(path: Path, clock: Clock) -> None:
    """Nothing is thinned before all of the hour is counted by path and has reached each destination."""
    with Store(path, clock_ns=clock.wall) as store:
        fill(store, clock, [span for number in range(100) for span in tree(number)], Sender())
        thinner = Thinner(0.05, clock_s=clock.steady)
        thinner.step(store)
        assert len(kept(path)) == 100
        with store.transaction() as db:
            db.execute(
                "INSERT INTO destinations (url, protocol, in_use, place, sent, refused, skipped, since_ns)"
                " VALUES ('http://there', 'http', 1, 0, 0, 0, 0, 0)"
            )
        clock.pass_by(60)
        thin(store, clock, thinner=thinner)
        assert len(kept(path)) == 100
        with store.transaction() as db:
            db.execute("UPDATE destinations SET place = 200")
        clock.pass_by(60)
        thin(store, clock, thinner=thinner)
        assert len(kept(path)) < 50


def test_a_late_span_of_a_thinned_trace_goes_as_well(path: Path, clock: Clock) -> None:
    """A late span of a thinned trace is stored and counted, changes no figure by path, and is thinned."""
    number = ordinary()
    with Store(path, clock_ns=clock.wall) as store:
        fill(store, clock, [span for each in range(100) for span in tree(each)], Sender())
        thin(store, clock)
        before = contents(path, "path_figures")
        late = make_span(
            trace_id=make_id(number),
            span_id=span_id(7777),
            parent_id=span_id(2 * number + 1),
            start_ns=clock.now_ns,
        )
        fill(store, clock, [late], Sender(1))
        for _ in settle_all(store, clock_ns=clock.wall):
            pass
        assert make_id(number) in kept(path)
        thin(store, clock)
        assert last_span_id(store._db) == 201
    assert make_id(number) not in kept(path)
    assert contents(path, "path_figures") == before
    assert row(path, "SELECT value FROM settling WHERE name = 'late'")["value"] == 1
    assert row(path, "SELECT sum(calls) AS n FROM method_figures WHERE resolution_s = 60")["n"] == 201
    assert totals(path)["spans"] + totals(path)["spans_thinned"] == 201


def test_a_late_error_of_a_thinned_trace_stays(path: Path, clock: Clock) -> None:
    """A late error of a thinned trace is kept, and its group counts it."""
    number = ordinary()
    with Store(path, clock_ns=clock.wall) as store:
        fill(store, clock, [span for each in range(100) for span in tree(each)], Sender())
        thin(store, clock)
        late = make_span(
            7,
            trace_id=make_id(number),
            span_id=span_id(7777),
            parent_id=span_id(2 * number + 1),
            start_ns=clock.now_ns,
            status=ERROR,
            exception=failure(7),
        )
        fill(store, clock, [late], Sender(1))
        thin(store, clock)
    assert row(path, "SELECT error_count FROM traces WHERE trace_id = ?", make_id(number))["error_count"] == 1
    assert row(path, "SELECT count FROM exception_groups")["count"] == 1


def test_an_interrupted_hour_is_continued(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector killed while it thinned an hour continues after the last trace decided."""
    monkeypatch.setattr(thinning, "MAX_SPANS", 20)
    monkeypatch.setattr(thinning, "MAX_TRACES", 7)
    monkeypatch.setattr(thinning, "MAX_DECIDED", 7)
    with Store(path, clock_ns=clock.wall) as store:
        fill(store, clock, [span for each in range(200) for span in tree(each)], Sender())
        for _ in settle_all(store, clock_ns=clock.wall):
            pass
        work = Thinner(0.05, clock_s=clock.steady)._thin(store)
        while totals(path)["traces_thinned"] < 30:
            next(work)
    with Store(path, clock_ns=clock.wall) as store:
        clock.pass_by(3600)
        thin(store, clock)
    left = kept(path)
    assert len(left) < 80
    assert left >= {make_id(number) for number in range(200) if is_in_share(make_id(number), 0.05)}
    assert totals(path)["spans"] == count(path, "spans")
    assert totals(path)["traces_thinned"] == count(path, "thinned_traces") == 200 - len(left)


def test_a_restart_gives_no_row_again(path: Path, clock: Clock) -> None:
    """Traces that arrive after a restart are thinned, although the last rows before were deleted."""
    with Store(path, clock_ns=clock.wall) as store:
        fill(store, clock, [span for each in range(100) for span in tree(each)], Sender())
        thin(store, clock)
    (place,) = contents(path, "settling WHERE name = 'thinned'")
    with Store(path, clock_ns=clock.wall) as store:
        fill(store, clock, [span for each in range(100, 200) for span in tree(each)], Sender(1))
        first = row(path, "SELECT max(id) - 99 AS id FROM traces")["id"]
        assert first > place["value"]
        thin(store, clock)
    assert len(kept(path)) < 2 * (RARE + 20)


def test_ids_of_thinned_traces_go_with_their_time(path: Path, clock: Clock) -> None:
    """Retention forgets thinned traces of a time whose other traces have expired."""
    with Store(path, clock_ns=clock.wall) as store:
        fill(store, clock, [span for each in range(100) for span in tree(each)], Sender())
        thin(store, clock)
        assert count(path, "thinned_traces") > 50
        for _ in sweep(store, clock.now_ns):
            pass
        assert count(path, "thinned_traces") > 50
        for _ in sweep(store, clock.now_ns + MS):
            pass
    assert count(path, "thinned_traces") == 0


@pytest.fixture
def writer(path: Path, clock: Clock) -> Iterator[Writer]:
    """Yield a writer."""
    with Writer(path, say=print, clock_ns=clock.wall) as opened:
        yield opened


def test_a_writer_runs_steps_beside(writer: Writer, path: Path, clock: Clock) -> None:
    """The writer's store is thinned step by step, and later batches of the same publisher are stored."""
    sender = Sender()
    spans = [span for each in range(100) for span in tree(each)]
    writer.write([sender.data(*spans)])
    clock.pass_by(3600)
    Settler(clock_s=clock.steady, clock_ns=clock.wall).step(writer, is_last=True)
    thinner = Thinner(0.05, clock_s=clock.steady)
    steps: list[Callable[[Store], None]] = [thinner.step]
    while thinner.wait_s() == 0:
        writer.run_beside(steps[0])
    assert totals(path)["traces_thinned"] > 50
    assert writer.write([sender.data(*tree(ordinary(), at_ns=clock.now_ns))]).acknowledgements
    assert is_balanced(row(path, "SELECT * FROM publishers"))
