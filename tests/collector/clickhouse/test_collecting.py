"""`ztrace collect --clickhouse`: the real command, kills of either side, and what it says."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.clickhouse import Engine
from tests.collector.clickhouse.delivering import differences, make_spans
from tests.collector.clickhouse.trees import read_figures, read_file_figures
from tests.collector.messages import Sender, row, rows
from tests.collector.otlp.sending_on import destinations, sending_on, status
from tests.ztrace.waiting import wait_for
from ztrace_collector.clickhouse.address import read_address
from ztrace_collector.clickhouse.engine import open_engine
from ztrace_collector.clickhouse.initializing import initialize
from ztrace_collector.clickhouse.schema import Layout
from ztrace_collector.storing.store import Store
from ztrace_viewer.cli import ztrace

pytestmark = [pytest.mark.scale, pytest.mark.process]


@pytest.fixture
def own_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Yield an engine that the test may kill, with tables in the database `shop`."""
    with Engine(tmp_path_factory.mktemp("chdb")) as started:
        initialize(read_address(started.url("shop"), {}), Layout(), lambda line: None)
        yield started


def wait_until(path: Path, moment: str) -> None:
    """Wait until a condition on the row of `shipping` is met."""
    wait_for(lambda: rows(path, f"SELECT 1 FROM shipping WHERE {moment}"))


def wait_until_sent(path: Path, count: int) -> None:
    """Wait until the journal says that all of this number of spans are in ClickHouse."""
    wait_until(path, f"complete >= {count}")


def differ(path: Path, url: str) -> dict[str, object]:
    """Return what differs between both stores; called once nothing more arrives."""
    return differences(path, read_address(url, {}))


def test_everything_arrives(path: Path, engine: Engine, database: str) -> None:
    """A collector sends what its file has, then what arrives, and the rest at its end."""
    url = engine.url(database)
    initialize(read_address(url, {}), Layout(), lambda line: None)
    spans, sender = make_spans(20, 900), Sender()
    with sending_on(path) as collector:
        collector.feed(sender, spans[:300])
        collector.stop()
    with sending_on(path, "--clickhouse", url) as collector:
        wait_until_sent(path, 300)
        collector.feed(sender, spans[300:600])
        wait_until_sent(path, 600)
        collector.feed(sender, spans[600:])
        said = collector.stop()
    assert f"forwarding to {url}" in said
    assert row(path, "SELECT place, sent, skipped FROM destinations") == {
        "place": 900,
        "sent": 900,
        "skipped": 0,
    }
    assert differ(path, url) == {}
    with sending_on(path) as collector:
        collector.stop()
    assert rows(path, "SELECT name FROM sqlite_master WHERE type = 'trigger'") == []
    assert row(path, "SELECT in_use FROM destinations") == {"in_use": 0}


#: Moments of a kill: at once, once a block may be under way, and once it has been stored.
MOMENTS = ("TRUE", "block_end IS NOT NULL OR place = :fed", "place = :fed")


def test_kills_of_the_sending_side_change_nothing(path: Path, engine: Engine, database: str) -> None:
    """Kills of the collector and of its sending process, at any moment, leave both stores equal."""
    url = engine.url(database)
    initialize(read_address(url, {}), Layout(), lambda line: None)
    spans, sender = make_spans(21, 1200), Sender()
    for number in range(6):
        with sending_on(path, "--clickhouse", url) as collector:
            child = collector.find_child()
            fed = 200 * number + 200
            collector.feed(sender, spans[fed - 200 : fed])
            wait_until(path, MOMENTS[number % 3].replace(":fed", str(fed)))
            if number % 2:
                os.kill(child, signal.SIGKILL)
            collector.kill()
    with sending_on(path, "--clickhouse", url) as collector:
        wait_until_sent(path, 1200)
        collector.stop()
    assert differ(path, url) == {}


def test_kills_of_the_engine_change_nothing(path: Path, own_engine: Engine) -> None:
    """An engine that is killed while blocks arrive, and comes back, has everything once."""
    url = own_engine.url("shop")
    spans, sender = make_spans(22, 1000), Sender()
    with sending_on(path, "--clickhouse", url) as collector:
        for number in range(2):
            collector.feed(sender, spans[500 * number : 500 * number + 500])
            wait_until(path, "block_end IS NOT NULL OR place > 0")
            own_engine.kill()
            wait_for(lambda: destinations(path)[0]["failing_ns"] is not None)
            assert "failing" in status(path)
            own_engine.start()
        wait_until_sent(path, 1000)
        said = collector.stop()
    assert differ(path, url) == {}
    assert f"ztrace: cannot reach {url}" in said
    assert "spans stay in traces.db until it works again" in said
    assert f"{url} answers again" in said


def told(path: Path) -> str:
    """Return the error that the collector has noted, without the pause before a second attempt."""
    return str(wait_for(lambda: destinations(path)[0]["error"]))


def test_an_engine_without_tables_is_told_and_waited_for(path: Path, engine: Engine, database: str) -> None:
    """Spans wait for the tables, and the status says what to do."""
    url = engine.url(database)
    spans, sender = make_spans(23, 100), Sender()
    with sending_on(path, "--clickhouse", url) as collector:
        assert told(path) == (f"{url} has no tables of ztrace; run 'ztrace clickhouse init {url}'")
        collector.feed(sender, spans)
        initialize(read_address(url, {}), Layout(), lambda line: None)
        wait_until_sent(path, 100)
        collector.stop()
    assert differ(path, url) == {}


def test_an_engine_with_other_tables_is_told(path: Path, engine: Engine, database: str) -> None:
    """Tables of a newer ztrace are left alone."""
    url = engine.url(database)
    initialize(read_address(url, {}), Layout(), lambda line: None)
    engine.query("INSERT INTO schema_versions VALUES (99, 'x', now())", database)
    with sending_on(path, "--clickhouse", url) as collector:
        assert told(path).startswith(f"{url} has tables of version 99, written by a newer ztrace")
        collector.stop()


@pytest.mark.parametrize("url", ["clickhouse://db:1/a-b", "http://db/x", "traces.db"])
def test_a_wrong_address_is_refused_at_once(path: Path, engine: Engine, url: str) -> None:
    """A collector does not start with an address that is none."""
    result = CliRunner().invoke(ztrace, ["collect", "--db", str(path), "--clickhouse", url])
    assert result.exit_code == 2
    assert "\n" not in result.stderr.strip()
    assert not path.exists()


def test_a_running_collector_settles_trees(path: Path, engine: Engine, database: str) -> None:
    """The process that sends gets the lease, and counts the trees in ClickHouse as the collector does."""
    url = engine.url(database)
    initialize(read_address(url, {}), Layout(), lambda line: None)
    with sending_on(path, "--clickhouse", url) as collector:
        collector.feed(Sender(), make_spans(24, 200))
        settled = "SELECT count() FROM settled FINAL HAVING count() = (SELECT uniq(trace_id) FROM spans)"
        wait_for(lambda: engine.query(settled, database) not in ("", "0\n"))
        collector.stop()
    with Store(path) as store, open_engine(read_address(url, {})) as client:
        assert read_figures(client) == read_file_figures(store)
