"""Tables of the journal and of ClickHouse: what is sent, and what stays."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.collector.messages import Sender, make_span, row, rows
from ztrace_collector.clickhouse.address import read_address
from ztrace_collector.clickhouse.changes import follow_changes, ignore_changes
from ztrace_collector.clickhouse.journal import ClickHouseSending
from ztrace_collector.clickhouse.mirrored import MIRRORED, Mirrored
from ztrace_collector.clickhouse.reading import SPAN_COLUMNS
from ztrace_collector.storing.store import Store

#: Tables that ClickHouse makes of the spans by itself.
OF_SPANS = {"spans", "traces", "methods", "method_figures"}
#: Tables that only the collector needs, for what it does with its own file, and those that are settled from
#: the spans of all files.
OF_THE_FILE = {
    "adopted_spans",
    "arrivals",
    "changes",
    "clock_bounds",
    "collector_time",
    "destination_refusals",
    "destinations",
    "expired_traces",
    "path_figures",
    "paths",
    "profile_answers",
    "profile_requests",
    "retired_figures",
    "sealed_traces",
    "sealing_dictionaries",
    "sent_unfinished_spans",
    "settled",
    "settling",
    "shipping",
    "thinned_traces",
    "versions",
}
#: Columns that stay, by table, beside ``id`` of tables that have another key: counts are sums of minutes.
STAYING = {"exception_groups": {"count", "uncaught_count"}}


@pytest.fixture
def journal(path: Path) -> dict[str, list[str]]:
    """Return the columns of each table of a new file."""
    Store(path).close()
    with closing(sqlite3.connect(path)) as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: [each[1] for each in db.execute(f"PRAGMA table_info({name})")]
            for name in names
            if not name.startswith(("sqlite_", "_sqlite_"))
        }


def test_every_table_is_sent_or_stays(journal: dict[str, list[str]]) -> None:
    """A new table of the file has to be copied, or listed here as one that stays."""
    assert {table.source for table in MIRRORED} | OF_SPANS | OF_THE_FILE == set(journal)


@pytest.mark.parametrize(
    "table", [table for table in MIRRORED if not table.table], ids=lambda table: table.name
)
def test_every_column_is_sent(journal: dict[str, list[str]], table: Mirrored) -> None:
    """A copy has every column of its table, and its key."""
    columns = {name for name, _ in table.columns}
    assert set(journal[table.name]) - columns <= STAYING.get(table.name, set()) | {"id"}
    assert columns - set(journal[table.name]) <= {"id"}
    assert set(table.key) <= set(journal[table.name])


def test_every_column_of_spans_is_sent(journal: dict[str, list[str]]) -> None:
    """Spans have all of their columns but the file's own number."""
    assert {name for name, _ in SPAN_COLUMNS} == set(journal["spans"]) - {"id"}


def test_a_row_is_noted_once_at_its_last_change(store: Store, path: Path) -> None:
    """A row that changes twice is noted by its last change, and nothing is noted without a destination."""
    sender = Sender()
    store.store([sender.data(make_span())])
    assert rows(path, "SELECT * FROM changes") == []
    with store.transaction() as db:
        follow_changes(db)
    first = row(path, "SELECT id FROM changes WHERE source = 'publishers'")["id"]
    store.store([sender.data(make_span(1))])
    store.store([sender.beat()])
    assert row(path, "SELECT id > ? AS later FROM changes WHERE source = 'publishers'", first) == {"later": 1}
    with store.transaction() as db:
        ignore_changes(db)
    store.store([sender.data(make_span(2))])
    assert rows(path, "SELECT * FROM changes") == []


def test_the_password_is_in_no_file(store: Store, path: Path) -> None:
    """The destination is stored without user and password, which go to the process through a pipe."""
    address = read_address("clickhouse://ann:hunter-two@db/shop", {})
    with store.transaction() as db:
        orders = ClickHouseSending(path, address).register(db)
    assert b"hunter-two" in orders
    store.checkpoint()
    assert all(b"hunter-two" not in each.read_bytes() for each in path.parent.iterdir())
    assert row(path, "SELECT url FROM destinations") == {"url": "clickhouse://db:8123/shop"}
