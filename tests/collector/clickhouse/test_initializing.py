"""`ztrace clickhouse init`: tables made, found and refused."""

import json

import pytest
from click.testing import CliRunner

from tests.clickhouse import Engine
from ztrace_collector.clickhouse.mirrored import MIRRORED
from ztrace_collector.clickhouse.schema import SCHEMA_VERSION, VERSIONS
from ztrace_viewer.cli import ztrace

pytestmark = [pytest.mark.scale, pytest.mark.process]


def init(*arguments: str) -> tuple[int, str]:
    """Run `ztrace clickhouse init`; return its status and what it said."""
    result = CliRunner().invoke(ztrace, ["clickhouse", "init", *arguments])
    return result.exit_code, result.stderr.strip()


def tables(engine: Engine, database: str) -> dict[str, str]:
    """Return the tables of a database, each with the statement that creates it."""
    rows = engine.query(
        f"SELECT name, create_table_query FROM system.tables WHERE database = '{database}' FORMAT JSON"
    )
    return {row["name"]: row["create_table_query"] for row in json.loads(rows)["data"]}


def test_tables_are_made_once(engine: Engine, database: str) -> None:
    """A new database gets its tables, and a second run changes nothing and says so."""
    url = engine.url(database)
    assert init(url) == (0, f"ztrace: created the tables of version {SCHEMA_VERSION} in {url}")
    made = tables(engine, database)
    assert {"spans", "traces", "roots", "method_figures", "methods", "otel_traces"} <= set(made)
    assert {table.name for table in MIRRORED} <= set(made)
    assert init(url) == (0, f"ztrace: {url} has the tables of version {SCHEMA_VERSION} already")
    assert tables(engine, database) == made


def test_missing_tables_are_made(engine: Engine, database: str) -> None:
    """Tables and views that were dropped are created again, as the error of a query without them suggests."""
    url = engine.url(database)
    init(url)
    made = tables(engine, database)
    engine.query("DROP TABLE exception_minutes", database)
    engine.query("DROP TABLE traces_of_spans", database)
    assert CliRunner().invoke(ztrace, ["errors", "--db", url]).stderr == (
        f"ztrace: {url} lacks tables of ztrace; run 'ztrace clickhouse init {url}'\n"
    )
    assert init(url) == (0, "ztrace: created again, empty: exception_minutes, traces_of_spans")
    assert tables(engine, database) == made


def test_a_missing_database_is_made(engine: Engine, database: str) -> None:
    """A database that does not exist is created."""
    name = f"{database}_new"
    assert init(engine.url(name))[0] == 0
    assert "spans" in tables(engine, name)
    engine.query(f"DROP DATABASE {name}")


def test_every_table_that_blocks_reach_remembers_tokens(engine: Engine, database: str) -> None:
    """The spans and the targets of their views have a deduplication window, which is 0 by default."""
    init(engine.url(database))
    made = tables(engine, database)
    for name in ("spans", "blocks", "traces", "roots", "method_figures"):
        assert "non_replicated_deduplication_window = 10000" in made[name]


def test_rows_expire(engine: Engine, database: str) -> None:
    """`--ttl` sets the days of every table, at the beginning or later."""
    url = engine.url(database)
    init(url)
    assert "TTL" not in tables(engine, database)["spans"]
    status, said = init(url, "--ttl", "30")
    assert (status, said.splitlines()[-1]) == (0, "ztrace: rows are deleted 30 days after their arrival")
    made = tables(engine, database)
    expiring = [name for name, query in made.items() if "TTL toDate(arrived) + toIntervalDay(30)" in query]
    of_spans = {"spans", "blocks", "traces", "roots", "method_figures", "thinned_traces"}
    settled = {"path_figures", "settled", "clock_bounds", "duplicates"}
    settled |= {"corrected_exceptions", "corrected_minutes"}
    assert set(expiring) == of_spans | settled | {each.name for each in MIRRORED}


def test_tables_of_another_version_are_left_alone(engine: Engine, database: str) -> None:
    """A database of a newer ztrace is refused with one line."""
    url = engine.url(database)
    init(url)
    engine.query(f"INSERT INTO {VERSIONS} VALUES ({SCHEMA_VERSION + 1}, 'x', now())", database)
    status, said = init(url)
    assert status == 2
    assert said.startswith(f"ztrace: {url} has tables of version {SCHEMA_VERSION + 1}, written by a newer")
    assert "\n" not in said


def test_spans_have_the_shape_of_opentelemetry(engine: Engine, database: str) -> None:
    """The view `otel_traces` has a row for each span, with the names of OpenTelemetry's exporter."""
    init(engine.url(database))
    engine.query("INSERT INTO methods VALUES (7, 'shop', 'buy', 'server')", database)
    engine.query(
        "INSERT INTO spans SELECT unhex('0102030405060708090a0b0c0d0e0f10'), unhex('0102030405060708'),"
        " toFixedString('', 8), 7, 8, 1700000000000000001, 5, NULL, NULL, NULL, 1,"
        """ '{"n":1,"s":"x"}', '', '{"trace_state":"a=b"}', 'j', '2026-01-01 00:00:00'""",
        database,
    )
    row = json.loads(engine.query("SELECT * FROM otel_traces FORMAT JSONEachRow", database))
    assert row["TraceId"] == "0102030405060708090a0b0c0d0e0f10"
    assert row["SpanAttributes"] == {"n": "1", "s": "x"}
    assert (row["ServiceName"], row["SpanName"], row["SpanKind"]) == ("shop", "buy", "Server")
    assert (row["ParentSpanId"], row["StatusCode"], row["TraceState"]) == ("", "Error", "a=b")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:8123/x", "this is not the address of a ClickHouse database"),
        ("clickhouse://127.0.0.1:8123", "no database is named"),
        ("clickhouse://127.0.0.1:99999/x", "the ClickHouse address cannot be read as a URL"),
        ("clickhouse://127.0.0.1:8123/a-b", "'a-b' is not the name of a ClickHouse database"),
        ("clickhouse://127.0.0.1:9/x", "cannot reach clickhouse://127.0.0.1:9/x"),
    ],
)
def test_a_wrong_address_is_told_in_one_line(engine: Engine, url: str, said: str) -> None:
    """An address that is none, or where nothing answers, ends the command with one line."""
    status, line = init(url)
    assert status == 2
    assert line.startswith(f"ztrace: {said}")
    assert "\n" not in line
