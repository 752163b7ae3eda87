"""Settling in ClickHouse: figures of whole trees, each counted once, whichever journals have them."""

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.clickhouse import Engine
from tests.collector.clickhouse.delivering import Killed, differences
from tests.collector.clickhouse.trees import (
    SERVICES,
    Collectors,
    Figures,
    Forest,
    open_collectors,
    read_bounds,
    read_figures,
)
from tests.collector.messages import make_open, make_span, span_id, trace_id
from ztrace.records import ERROR
from ztrace_collector.clickhouse.engine import open_engine
from ztrace_collector.clickhouse.settling.settler import Settler, settle_all
from ztrace_collector.settling import paths
from ztrace_collector.settling.settler import LOOK_S, OPEN_AGAIN_S, OPEN_S, QUIET_S

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

pytestmark = [pytest.mark.scale, pytest.mark.process]


@pytest.fixture
def collectors(tmp_path: Path, engine: Engine, database: str) -> Iterator[Collectors]:
    """Yield two empty journals, and a database without rows."""
    with open_collectors(tmp_path, engine, database) as opened:
        yield opened


@pytest.fixture
def client(collectors: Collectors) -> "Iterator[Client]":
    """Yield a connection to the database."""
    with open_engine(collectors.address) as opened:
        yield opened


def feed(collectors: Collectors, forest: Forest, count: int) -> None:
    """Store new trees and late spans, each service's in the journal of its collector, and send them.

    Some are in both, as if their publisher had moved.
    """
    spans = forest.grow(count)
    for service in SERVICES:
        batch = [span for name, span in spans if name == service]
        if batch:
            is_moved = forest.chance.random() < 0.2
            collectors.add(service, batch, *((0, 1) if is_moved else (service == "stock",)))
    collectors.deliver()


def check(collectors: Collectors, client: "Client") -> None:
    """Compare the figures with those of one collector that has everything."""
    expected = collectors.expected()
    assert expected
    assert read_figures(client) == expected
    assert read_bounds(client) == collectors.expected_bounds()
    assert client.query("SELECT count() > 0 FROM duplicates").result_rows == [(1,)]
    assert client.query("SELECT count() > 0 FROM corrected_minutes").result_rows == [(1,)]
    for found, wanted in zip(collectors.failures(), collectors.expected_failures(), strict=True):
        assert found == wanted
    # What views add up of the spans has those once that are in both journals.
    different = differences(collectors.whole_path, collectors.address)
    assert not {"traces", "method_figures"} & different.keys()


def test_trees_of_two_journals_are_counted_whole(collectors: Collectors, client: "Client") -> None:
    """Figures of trees that are split over two journals, some of them recounted, equal those of one file."""
    forest = Forest(1)
    for _ in range(6):
        feed(collectors, forest, 30)
        settle_all(client)
    check(collectors, client)


class Dying:
    """Connection whose process is killed after one of its calls."""

    def __init__(self, client: "Client", call: int) -> None:
        self._client, self._left = client, call

    def __getattr__(self, name: str) -> Any:
        ask = getattr(self._client, name)

        def ask_or_die(*arguments: Any, **options: Any) -> Any:
            answer = ask(*arguments, **options)
            self._left -= 1
            if self._left == 0:
                raise Killed
            return answer

        return ask_or_die


def test_a_kill_at_any_call_changes_nothing(collectors: Collectors, client: "Client") -> None:
    """Whichever call to the engine is a process's last, the next one continues, and trees count once."""
    forest = Forest(2)
    for call in itertools.count(1):
        feed(collectors, forest, 4)
        try:
            settle_all(cast("Client", Dying(client, call)))
        except Killed:
            continue
        break
    assert call > 15
    settle_all(client)
    check(collectors, client)


def test_two_processes_at_once_count_each_tree_once(collectors: Collectors, client: "Client") -> None:
    """Where two processes believe to hold the lease, a batch of one of them counts."""
    forest = Forest(3)
    settlers = [Settler(client, is_last=True) for _ in range(2)]
    for number in range(8):
        feed(collectors, forest, 10)
        for settler in settlers if number % 2 else settlers[::-1]:
            settler.step()
    settle_all(client)
    check(collectors, client)


class Settling:
    """Settler with a clock of the test's own."""

    def __init__(self, collectors: Collectors, client: "Client") -> None:
        self._collectors, self._client = collectors, client
        self.now_s = 0.0
        self._settler = Settler(client, clock_s=lambda: self.now_s)

    def calls(self, after_s: float = 0.0) -> dict[str, int]:
        """Send what the journals have, let a time pass, and return the calls by path in minutes."""
        self._collectors.deliver()
        self.now_s += after_s
        while self._settler.step():
            pass
        found: dict[str, int] = {}
        for (resolution_s, *_, path), (_, calls, *_) in read_figures(self._client).items():
            if resolution_s == 60 and calls:
                found[path] = found.get(path, 0) + calls
        return {path.replace(" > ", "", 1).replace(" server", ""): calls for path, calls in found.items()}


def test_a_tree_is_counted_once_it_is_quiet(collectors: Collectors, client: "Client") -> None:
    """A tree is counted seconds after the last of its spans came, whichever journal that span is in."""
    settling = Settling(collectors, client)
    collectors.add("stock", [make_span(1, trace_id=trace_id(0), parent_id=span_id(0), name="pack")], 1)
    assert settling.calls() == {}
    collectors.add("front", [make_span(0, name="buy")], 0)
    assert settling.calls(QUIET_S - 0.1) == {}
    assert settling.calls(QUIET_S - 0.1) == {}
    whole = {"front buy": 1, "front buy > stock pack": 1}
    assert settling.calls(LOOK_S) == whole
    # A late span has it counted again.
    collectors.add("stock", [make_span(2, trace_id=trace_id(0), parent_id=span_id(1), name="find")], 1)
    assert settling.calls(LOOK_S) == whole
    assert settling.calls(QUIET_S) == {**whole, "front buy > stock pack > stock find": 1}


def test_open_spans_are_waited_for(collectors: Collectors, client: "Client") -> None:
    """A tree with open spans is counted after a minute, and again once they have ended elsewhere."""
    settling = Settling(collectors, client)
    collectors.open("front", [make_open(0, name="buy")], 0)
    collectors.add("stock", [make_span(1, trace_id=trace_id(0), parent_id=span_id(0), name="pack")], 1)
    assert settling.calls() == {}
    assert settling.calls(OPEN_S - 0.1) == {}
    assert settling.calls(OPEN_AGAIN_S) == {"front buy > stock pack": 1}
    # Its publisher has moved.
    collectors.add("front", [make_span(0, name="buy")], 1)
    assert settling.calls(LOOK_S) == {"front buy > stock pack": 1}
    assert settling.calls(QUIET_S) == {"front buy": 1, "front buy > stock pack": 1}
    assert read_figures(client) == collectors.expected()


def test_a_tree_that_is_too_large_is_left_out(
    collectors: Collectors, client: "Client", monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree with too many spans is counted as left out, once, and others are counted."""
    monkeypatch.setattr("ztrace_collector.clickhouse.settling.settler.MAX_SPANS", 3)
    for number in range(2):
        spans = [make_span(10 * number + each, trace_id=trace_id(0)) for each in range(4)]
        collectors.add("stock", [*spans, make_span(50 + number, name="buy")], number)
        collectors.deliver()
        settle_all(client)
    left_out = "SELECT value FROM settling FINAL WHERE name = 'left_out'"
    assert client.query(left_out).result_rows == [(1,)]
    calls = {key[-1]: numbers[1] for key, numbers in read_figures(client).items() if key[0] == 60}
    assert calls == {" > stock buy server": 2}


def test_duplicates_of_a_tree_that_is_too_large_do_not_count(
    collectors: Collectors, client: "Client", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans of a large tree that two journals have count once, however many are found in a step."""
    monkeypatch.setattr("ztrace_collector.clickhouse.settling.settler.MAX_SPANS", 30)
    monkeypatch.setattr("ztrace_collector.clickhouse.settling.settler.STEP_SPANS", 7)
    for number in range(4):
        spans = [
            make_span(20 * number + each, trace_id=trace_id(0), status=ERROR * (each % 3 == 0))
            for each in range(20)
        ]
        collectors.add("stock", spans, *((0, 1) if number % 3 else (number % 2,)))
        collectors.deliver()
        settle_all(client)
    assert client.query("SELECT count(), uniqExact(span_id) FROM duplicates").result_rows == [(40, 40)]
    different = differences(collectors.whole_path, collectors.address)
    assert not {"traces", "method_figures"} & different.keys()
    assert collectors.failures() == collectors.expected_failures()


def test_paths_beyond_the_bounds_share_one(
    collectors: Collectors, client: "Client", monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree with paths beyond the bounds is taken back as it was counted, also by another process."""
    monkeypatch.setattr(paths, "MAX_OF_ROOT", 6)
    forest = Forest(4)
    for _ in range(5):
        feed(collectors, forest, 12)
        settle_all(client)
    monkeypatch.setattr(paths, "MAX_OF_ROOT", 60)
    for _ in range(2):
        feed(collectors, forest, 2)
        settle_all(client)
    found = read_figures(client)
    assert any("(other)" in key[-1] for key in found)
    assert min(calls for _, calls, *_ in found.values()) >= 0
    assert add_calls(found) == add_calls(collectors.expected())


def add_calls(figures: Figures) -> Counter[tuple[object, ...]]:
    """Return the calls of all paths by resolution, bucket, versions and failure."""
    sums: Counter[tuple[object, ...]] = Counter()
    for key, (_, calls, *_) in figures.items():
        sums[key[:-1]] += calls
    return +sums
