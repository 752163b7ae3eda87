"""Sampled code of methods and of single spans, read from what the collector has stored."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.viewer.conftest import Run
from tests.viewer.queries.test_profile import buy, name, settle
from tests.viewer.stored import HOUR, MINUTE, NOON, Sampled, span, span_id, trace_id
from ztrace.records import RUN, WAIT, WAIT_BUSY
from ztrace_collector.storing.store import Store
from ztrace_viewer.documents.profile import ProfileDocument, SpanStack, Stack
from ztrace_viewer.queries.figures import split_range
from ztrace_viewer.queries.profile import read_profile
from ztrace_viewer.queries.selection import EVERYTHING, Selection
from ztrace_viewer.queries.stacks import Code, read_method_stacks, read_span_stacks
from ztrace_viewer.queries.stores.sqlite.store import open_file


def take(path: Path, *profiles: Sampled) -> Path:
    """Store profiles, each of a publisher of its own."""
    with Store(path, clock_ns=lambda: NOON) as opened:
        opened.store([profile.message(50 + place) for place, profile in enumerate(profiles)])
    return path


def lines(stack: Stack) -> str:
    """Return the code of a stack as text."""
    return " ".join(f"{frame['function']}:{frame['line']}" for frame in stack["frames"])


def read(path: Path, selection: Selection = EVERYTHING) -> ProfileDocument:
    """Return the profile of everything, as of noon."""
    with open_file(path) as db:
        return read_profile(db, None, selection, None, NOON)


@pytest.fixture
def bank(path: Path) -> Path:
    """Return a database with a tree, and samples of the method at its end and of another one."""
    sampled = Sampled("bank")
    sampled.add("pay", "main:1 pay:20 wait:7", WAIT, 60)
    sampled.add("pay", "main:1 pay:21", RUN, 30)
    sampled.add("pay", "main:1 pay:20 wait:7", WAIT_BUSY, 10)
    sampled.add("other", "main:1", RUN, 10)
    return take(settle(path, buy(1)), sampled)


def test_a_path_has_the_code_of_its_method(bank: Path) -> None:
    """Stacks are those of the path's method, by time, and the shares are theirs; others are not known."""
    paths = {name(each): each for each in read(bank)["paths"]}
    pay = paths["shop.buy > shop.pay > bank.pay"]
    assert [(lines(each), each["state"], each["ns"] // 10**6) for each in pay["stacks"]] == [
        ("main:1 pay:20 wait:7", "wait", 60),
        ("main:1 pay:21", "run", 30),
        ("main:1 pay:20 wait:7", "wait_busy", 10),
    ]
    assert pay["stacks"][1]["frames"][-1] == {"file": "/srv/shop/shop.py", "line": 21, "function": "pay"}
    assert (pay["run_share"], pay["wait_share"]) == (0.3, 0.7)
    buys = paths["shop.buy"]
    assert (buys["run_share"], buys["wait_share"], buys["stacks"]) == (None, None, [])


def test_cpu_time_comes_before_samples(path: Path) -> None:
    """Where calls had their thread to themselves, the share that runs is their CPU time's."""
    sampled = Sampled("shop")
    sampled.add("buy", "main:1", WAIT, 60)
    tree = {"shop": [span(trace_id(1), 1, name="buy", duration_ms=100)._replace(cpu_ns=25_000_000)]}
    (buys,) = read(take(settle(path, tree), sampled))["paths"]
    assert (buys["run_share"], buys["wait_share"]) == (0.25, 0.75)
    assert [each["state"] for each in buys["stacks"]] == ["wait"]


def test_code_is_that_of_the_time(bank: Path) -> None:
    """Samples count in the minute in which they were taken."""
    for since_ns, until_ns, count in ((NOON, None, 3), (NOON - HOUR, NOON, 0), (NOON + MINUTE, None, 0)):
        paths = read(bank, Selection(since_ns, until_ns))["paths"]
        assert sum(len(each["stacks"]) for each in paths) == count, since_ns


@pytest.mark.parametrize("minutes", [1, 5, 59, 61, 119, 180, 60 * 30])
def test_hours_and_minutes_add_up(path: Path, minutes: int) -> None:
    """Any stretch of time has the sum of its minutes, however it is read."""
    profiles = []
    for place in range(0, 300, 7):
        sampled = Sampled("bank", at_ns=NOON - place * MINUTE)
        sampled.add("pay", "main:1", RUN, 1 + place)
        profiles.append(sampled)
    take(path, *profiles)
    end_s = NOON // 10**9 + 60
    with open_file(path) as db:
        (method,) = (row[0] for row in db.db.execute("SELECT id FROM methods"))
        ranges = split_range(end_s - 60 * minutes, end_s)
        ((stack,),) = read_method_stacks(db, ranges, [method]).values()
    assert stack["ns"] == 10**6 * sum(1 + place for place in range(0, 300, 7) if place < minutes)


def test_many_stacks_are_added_up(bank: Path) -> None:
    """The time of stacks beyond the bound is returned by state, without code."""
    with open_file(bank) as db:
        (method,) = (
            row[0] for row in db.db.execute("SELECT id FROM methods WHERE service = 'bank' AND name = 'pay'")
        )
        stacks = read_method_stacks(db, [(1, 60, NOON // MINUTE, NOON // MINUTE + 1)], [method], 1)[method]
    assert [(lines(each), each["state"], each["ns"] // 10**6) for each in stacks] == [
        ("main:1 pay:20 wait:7", "wait", 60),
        ("", "run", 30),
        ("", "wait_busy", 10),
    ]


def test_the_database_looks_up_what_is_asked_for(bank: Path) -> None:
    """A query of some methods searches both tables by their keys, and scans neither."""
    with open_file(bank) as db:
        queries: list[str] = []
        db.db.set_trace_callback(queries.append)
        read_method_stacks(db, split_range(NOON // 10**9 - 7200, NOON // 10**9 + 60), [1])
        db.db.set_trace_callback(None)
        plans = [
            row[3]
            for query in queries
            if "stack_" in query
            for row in db.db.execute(f"EXPLAIN QUERY PLAN {query}")
            if "stack_" in row[3]
        ]
    assert plans
    assert all(plan.startswith("SEARCH") and "method=?" in plan for plan in plans), plans


def read_span(path: Path, number: int) -> list[SpanStack]:
    """Return the code of a span of the first trace."""
    with open_file(path) as db:
        return read_span_stacks(db, trace_id(1), span_id(number), "shop")


def test_a_span_has_its_own_code(path: Path) -> None:
    """The runs of a span are summed over its messages, with the spans that it waited behind."""
    first, second = Sampled("shop"), Sampled("shop")
    first.add_span(trace_id(1), 1, ("main:1 load:26", WAIT_BUSY, 30, 2), ("main:1 render:32", RUN, 5, 0))
    first.add_span(trace_id(1), 2, name="charge")
    second.add_span(trace_id(1), 1, ("main:1 load:26", WAIT_BUSY, 40, 0), ("main:1 load:26", WAIT, 2, 0))
    take(path, first, second)
    found = read_span(path, 1)
    assert [(lines(each), each["state"], each["ns"] // 10**6) for each in found] == [
        ("main:1 load:26", "wait_busy", 70),
        ("main:1 render:32", "run", 5),
        ("main:1 load:26", "wait", 2),
    ]
    assert found[0]["behind"] == [
        {"span_id": span_id(2).hex(), "service": "shop", "name": "charge", "ns": 30_000_000}
    ]
    assert read_span(path, 2) == []


def test_no_service_makes_code_for_a_span_of_another(path: Path) -> None:
    """Code that a service sends under the ids of another one's span is not shown with it."""
    own, forged = Sampled("shop"), Sampled("evil")
    own.add_span(trace_id(1), 1, ("main:1", RUN, 5, 0))
    forged.add_span(trace_id(1), 1, ("forged:1", RUN, 500, 0))
    take(path, own, forged)
    assert [lines(each) for each in read_span(path, 1)] == ["main:1"]


@pytest.mark.parametrize(
    "runs", [b"", b"\xc1", b"\x92\x91\x01\x90", b"text", "text", None, b"\x92\x94\x01\x09\x01\x05\x90"]
)
def test_rows_that_cannot_be_read_are_left_out(path: Path, runs: object) -> None:
    """A damaged row costs itself alone."""
    sampled = Sampled("shop")
    sampled.add("work", "main:1", RUN, 5)
    sampled.add_span(trace_id(1), 1, ("main:1", RUN, 5, 0))
    take(path, sampled)
    with closing(sqlite3.connect(path)) as db:
        db.execute(
            "INSERT INTO span_stacks (trace_id, span_id, instance, at_ns, runs)"
            " VALUES (?, ?, 1, 0, coalesce(?, 7))",
            (trace_id(1), span_id(1), runs),
        )
        db.execute("UPDATE stacks SET parent = id")
        db.execute("UPDATE stack_minutes SET sums = coalesce(?, 7)", (runs,))
        db.commit()
    with open_file(path) as db:
        assert read_method_stacks(db, [(1, 60, NOON // MINUTE, NOON // MINUTE + 1)], [1]) == {}
    assert [(lines(each), each["ns"]) for each in read_span(path, 1)] == [("", 5_000_000)]


def test_text_reads_the_code_that_it_shows_alone(run: Run, bank: Path) -> None:
    """Text looks up the frames of a few stacks, and JSON those of all."""
    looked_up = {}
    for more in ((), ("--json",)):
        with pytest.MonkeyPatch.context() as patched:
            stacks: list[int] = []
            patched.setattr(Code, "frames", lambda _self, stack, seen=stacks: seen.append(stack) or [])
            patched.setattr("ztrace_viewer.render.code.MOST_CODE", (5, 1))
            assert run("profile", "--db", str(bank), *more).exit_code == 0
        looked_up[bool(more)] = len(stacks)
    assert looked_up == {False: 1, True: 3}
