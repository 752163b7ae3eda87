"""Settling in ClickHouse: figures of whole trees, each counted once, whichever journals have them."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.clickhouse import Engine
from tests.collector.clickhouse.delivering import Killed, differences
from tests.collector.clickhouse.trees import (
    SERVICES,
    Collectors,
    Forest,
    open_collectors,
    read_bounds,
    read_figures,
)
from ztrace_collector.clickhouse.engine import open_engine
from ztrace_collector.clickhouse.settling.settler import Settler, settle_all

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
