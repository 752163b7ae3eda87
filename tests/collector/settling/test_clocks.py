"""Bounds of the clocks of hosts: kept from calls that succeeded, once each, and used to count trees."""

from pathlib import Path
from typing import Any

import pytest

from tests.collector.messages import EPOCH_NS, MS, make_span, rows, span_id, trace_id
from tests.collector.storing.test_retention import Clock
from ztrace.records import ERROR, Span
from ztrace_collector.checking.parcels import ForeignBatch, Resource, pack
from ztrace_collector.layout import HOUR_NS, SECOND_NS
from ztrace_collector.settling import clocks
from ztrace_collector.settling.clocks import Call, find_offsets, make_call
from ztrace_collector.settling.settler import settle_all
from ztrace_collector.storing.expiring import sweep
from ztrace_collector.storing.store import Store

BOUNDS = """
SELECT host, other_host, cell, low_at_ns, low_ns, high_at_ns, high_ns, calls FROM clock_bounds
ORDER BY host, cell
"""


@pytest.fixture
def clock() -> Clock:
    """Return a clock at the base time."""
    return Clock(EPOCH_NS)


def call(number: int, ahead_ms: int, *, late_ms: int = 0, **changes: Any) -> tuple[Span, Span]:
    """Return a call of 10 ms that is served for 6 ms by a clock that is ahead."""
    trace = trace_id(number)
    client = make_span(0, trace_id=trace, kind=3, start_ns=EPOCH_NS + late_ms * MS)
    start_ns = EPOCH_NS + (2 + ahead_ms + late_ms) * MS
    served = {"parent_id": span_id(0), "start_ns": start_ns, "duration_ns": 6 * MS}
    server = make_span(1, trace_id=trace, **(served | changes))
    return client, server


def store(path: Path, clock: Clock, *batches: tuple[str, list[Span]], settle: bool = True) -> None:
    """Store spans by host, and count their trees."""
    with Store(path, clock_ns=clock.wall) as opened:
        for host, spans in batches:
            resource = Resource(host.encode().ljust(16), host or "shop", host, 1, EPOCH_NS, {})
            opened.store(parcels=list(pack(ForeignBatch(resource, spans))))
        if settle:
            list(settle_all(opened, clock_ns=clock.wall))


def test_the_tightest_bounds_of_a_cell_are_kept(path: Path, clock: Clock) -> None:
    """Ten seconds of calls keep the highest lower bound and the lowest upper bound, in either direction."""
    there = [call(1, 40), call(2, 40, start_ns=EPOCH_NS + 41 * MS), call(3, 40, late_ms=20_000)]
    back = call(4, -40, duration_ns=7 * MS)
    web, stock = (
        [*part, back[side]] for part, side in zip(map(list, zip(*there, strict=True)), (1, 0), strict=True)
    )
    store(path, clock, ("web", web), ("stock", stock))
    # The difference of the later name's clock, web's, from that of the earlier one.
    cell = EPOCH_NS // (10 * SECOND_NS)
    assert rows(path, BOUNDS) == [
        {
            "host": "stock",
            "other_host": "web",
            "cell": cell,
            "low_at_ns": EPOCH_NS + 41 * MS,
            "low_ns": -41 * MS,
            "high_at_ns": EPOCH_NS + 48 * MS,
            "high_ns": -38 * MS,
            "calls": 3,
        },
        {
            "host": "stock",
            "other_host": "web",
            "cell": cell + 2,
            "low_at_ns": EPOCH_NS + 20_042 * MS,
            "low_ns": -42 * MS,
            "high_at_ns": EPOCH_NS + 20_048 * MS,
            "high_ns": -38 * MS,
            "calls": 1,
        },
    ]


def test_calls_that_tell_nothing_are_left_out(path: Path, clock: Clock) -> None:
    """Failed calls, servers that outlive callers, consumers, and hosts without a name bound nothing."""
    traced = [
        call(1, 0, status=ERROR),
        call(2, 0, duration_ns=12 * MS),
        call(3, 0, kind=5),
    ]
    clients, servers = map(list, zip(*traced, strict=True))
    store(path, clock, ("web", clients), ("stock", servers))
    client, server = call(4, 0)
    store(path, clock, ("web", [client]), ("", [server]))
    store(path, clock, ("web", list(call(5, 0))))
    assert rows(path, BOUNDS) == []
    assert make_call(("a", "b"), (0, 10), (-(2**63), -(2**63) + 5)) is None


def test_a_call_counts_once_when_its_tree_is_counted_anew(path: Path, clock: Clock) -> None:
    """A late span of a tree adds its own call alone, whatever the tree had before."""
    client, server = call(1, 40)
    store(path, clock, ("web", [client]), ("stock", [server]))
    late = make_span(2, trace_id=trace_id(1), kind=3, start_ns=EPOCH_NS + 11 * MS)
    served = make_span(
        3, trace_id=trace_id(1), parent_id=span_id(2), start_ns=EPOCH_NS + 52 * MS, duration_ns=8 * MS
    )
    store(path, clock, ("web", [late]))
    assert [each["calls"] for each in rows(path, BOUNDS)] == [1]
    store(path, clock, ("stock", [served]))
    assert [each["calls"] for each in rows(path, BOUNDS)] == [2]


def test_bounds_expire_with_the_traces_of_their_time(path: Path, clock: Clock) -> None:
    """Bounds are deleted by the collector's clock, whatever the times of the calls."""
    client, server = call(1, 40, late_ms=99_999_999)
    store(path, clock, ("web", [client]), ("stock", [server]))
    for age_ns, left in ((-HOUR_NS, 1), (HOUR_NS, 0)):
        with Store(path, clock_ns=clock.wall) as opened:
            list(sweep(opened, clock.wall() + age_ns))
        assert len(rows(path, BOUNDS)) == left


def test_pairs_of_hosts_are_bounded(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more pairs of hosts than the bound the first are measured."""
    monkeypatch.setattr(clocks, "MAX_PAIRS", 2)
    for number, host in enumerate(("a", "b", "c")):
        client, server = call(number, 0)
        store(path, clock, ("web", [client]), (host, [server]), settle=False)
    store(path, clock)
    assert len(rows(path, BOUNDS)) == 2


def test_figures_are_by_clocks_with_which_calls_are_possible(path: Path, clock: Clock) -> None:
    """A server 40 ms ahead has its time on the critical path, as one whose clock is right."""
    client, server = call(1, 40)
    below = make_span(
        2,
        name="part",
        trace_id=trace_id(1),
        parent_id=span_id(1),
        start_ns=EPOCH_NS + 44 * MS,
        duration_ns=MS,
    )
    store(path, clock, ("web", [client]), ("stock", [server, below]))
    figures = rows(
        path, "SELECT critical_ns, self_ns FROM path_figures WHERE resolution_s = 60 ORDER BY path"
    )
    assert [(each["critical_ns"] // MS, each["self_ns"] // MS) for each in figures] == [
        (4, 4),
        (5, 5),
        (1, 1),
    ]


def test_offsets_follow_from_the_calls_of_a_tree_alone() -> None:
    """Clocks are moved as little as the calls need: not at all where they are possible as they are."""

    def between(caller: str, host: str, low: int, high: int) -> Call:
        return Call(caller, host, 0, high, 100 + low, 100)

    calls = [
        between("a", "b", 40, 60),
        between("a", "c", -5, 5),
        between("b", "c", -45, -35),
        between("d", "e", 9, 9),
    ]
    assert find_offsets(calls, "a") == {"b": 50}
    assert find_offsets(calls, "b") == {"a": -50, "c": -40}
    assert find_offsets([*calls, between("a", "b", 44, 90)], "a") == {"b": 52}
    assert find_offsets(calls, "z") == {}
