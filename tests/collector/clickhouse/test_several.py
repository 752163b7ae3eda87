"""Several collectors before one ClickHouse database, of which one dies and one is restarted."""

from pathlib import Path

import pytest

from tests.clickhouse import Engine
from tests.collector.clickhouse.fleet import Fleet, count_overlaps, open_fleet
from tests.collector.messages import is_balanced
from tests.collector.otlp.sending_on import status
from ztrace_collector.clickhouse.address import read_address
from ztrace_collector.clickhouse.initializing import initialize
from ztrace_collector.clickhouse.schema import Layout

pytestmark = [pytest.mark.scale, pytest.mark.process]

PUBLISHERS, SPANS = 24, 400


def check_accounts(fleet: Fleet, incarnations: list[str]) -> tuple[int, int]:
    """Check the accounts of publishers that have ended; return the moves and the batches stored twice."""
    moves = twice = 0
    for incarnation in incarnations:
        accounts = fleet.accounts(incarnation)
        # A goodbye may be lost with its connection. Without it, the last account has all spans nevertheless.
        whole = [account for account in accounts if account["spans_created"] == fleet.made]
        assert any(map(is_balanced, whole)), accounts
        assert all(is_balanced(account) for account in accounts if account["state"] == "ended")
        for account in accounts:
            stored, elsewhere = account["spans_stored"], account["spans_elsewhere"]
            assert stored + elsewhere <= account["spans_created"] <= fleet.made
            assert account["spans_missing"] == account["spans_refused"] == 0
        moves += len(accounts) - 1
        twice += count_overlaps(accounts, fleet.paths)
    return moves, twice


def count_spans(engine: Engine, database: str) -> int:
    """Return how many spans ClickHouse has, each once."""
    row = "trace_id, span_id, instance, journal"
    query = f"SELECT count() FROM spans WHERE ({row}) NOT IN (SELECT {row} FROM duplicates)"
    return int(engine.query(query, database))


def count_calls(engine: Engine, database: str) -> int:
    """Return how many calls the figures of methods have."""
    return int(engine.query("SELECT sum(calls) FROM method_figures WHERE resolution_s = 60", database))


def test_nothing_is_lost_while_a_collector_lives(tmp_path: Path, engine: Engine, database: str) -> None:
    """One collector is killed for good and one restarted: all spans count once, all accounts are exact."""
    url = engine.url(database)
    initialize(read_address(url, {}), Layout(), lambda line: None)
    with open_fleet(tmp_path, url, 3) as fleet:
        fleet.publish(PUBLISHERS, SPANS)
        fleet.wait(lambda: min(map(fleet.count_spans, range(3))) > 100)
        fleet.kill(0)
        fleet.kill(1)
        fleet.start(1)
        said = fleet.finish()
        assert set(said.values()) == {""}
        fleet.wait_until_sent()
        stored = fleet.count_stored()
        assert len(stored) == PUBLISHERS * SPANS
        moves, twice = check_accounts(fleet, list(said))
        assert moves > 0
        assert twice > 0 or max(stored.values()) == 1
        for path in fleet.paths:
            assert "maker" in status(path)
        # What the dead one had stored and not sent on is in its file, which any collector can take over.
        fleet.start(0)
        fleet.wait_until_sent()
        fleet.wait(lambda: count_spans(engine, database) == PUBLISHERS * SPANS)
        fleet.wait(lambda: count_calls(engine, database) == PUBLISHERS * SPANS)
        for collector in fleet.collectors.values():
            collector.stop()
