"""``ztrace profile --live`` from ClickHouse: requests that a real collector hands to scripted publishers."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import zmq

from tests.clickhouse import Engine
from tests.collector.messages import rows
from tests.collector.otlp.sending_on import sending_on
from tests.viewer.commands.test_live import DECLINES, TAKES, Service
from tests.viewer.conftest import Run
from tests.ztrace.waiting import wait_for
from ztrace_collector.clickhouse.address import read_address
from ztrace_collector.clickhouse.initializing import initialize
from ztrace_collector.clickhouse.schema import Layout

pytestmark = [pytest.mark.scale, pytest.mark.process]


@pytest.fixture
def url(engine: Engine, database: str) -> str:
    """Return the address of a database with tables."""
    url = engine.url(database)
    initialize(read_address(url), Layout(), lambda line: None)
    return url


@pytest.fixture
def context() -> Iterator["zmq.Context[Any]"]:
    """Yield a context of the publishers, closed at the end."""
    with zmq.Context() as context:
        yield context


def test_processes_are_asked_by_their_collector(
    tmp_path: Path,
    engine: Engine,
    url: str,
    context: "zmq.Context[Any]",
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Processes are asked once and their code is shown; one that declines is told; no request is left."""
    monkeypatch.setattr("ztrace_viewer.commands.live.COUNTED_S", 0)
    path = tmp_path / "journal.db"
    with sending_on(path, "--clickhouse", url) as collector, ExitStack() as stack:
        services = [
            Service(context, collector.endpoint, number, name, does)
            for number, (name, does) in enumerate([("shop", TAKES), ("shop", TAKES), ("bank", DECLINES)])
        ]
        for service in services:
            service.start()
            stack.callback(service.end)
        database = url.rpartition("/")[2]
        wait_for(lambda: engine.query("SELECT uniq(instance) FROM publishers", database).strip() == "3")
        arguments = ["profile", "--live", "--seconds", "1", "--hz", "20", "--db", url]
        result = run(*arguments, "--service", "shop", "--json")
        assert result.exit_code == 0, result.output
        document = json.loads(result.stdout)
        # Their trees are not counted yet, or they are: the code is that of either.
        code = [
            stack for part in ("paths", "uncounted") for each in document[part] for stack in each["stacks"]
        ]
        assert sum(each["ns"] for each in code) == 4 * 40_000_000
        assert [len(each.requests) for each in services] == [1, 1, 0]
        assert services[0].requests[0][1:3] == ("shop", 20)
        result = run(*arguments, "--service", "bank")
        assert result.exit_code == 1
        assert "profiling is off in 1 process of 'bank'" in result.stderr
        # A request is withdrawn from the journal too.
        wait_for(lambda: rows(path, "SELECT id FROM profile_requests") == [])
        result = run(*arguments, "--service", "nobody")
        assert result.stderr == "ztrace: no process of 'nobody' is connected; see 'ztrace status'\n"


def test_a_database_without_a_collector_is_told(url: str, run: Run) -> None:
    """Where no collector sends to a database, nothing is asked."""
    result = run("profile", "--live", "--db", url)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"ztrace: no collector sends to {url}; start one with 'ztrace up")
