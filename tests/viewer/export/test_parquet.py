"""Parquet files: every value of every span, in groups of bounded size, and the documented queries."""

import json
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.clickhouse import Engine
from tests.docs import pages
from tests.viewer.conftest import Run
from tests.viewer.stored import HOUR, MINUTE, NOON, checkout, span, span_id, store, trace_id
from ztrace.records import ERROR
from ztrace_collector.otlp.mapping.reading import StoredSpan, read_traces
from ztrace_viewer import cli
from ztrace_viewer.export import parquet
from ztrace_viewer.queries.stores.sqlite.store import open_file

HOSTILE = 'it\'s "quoted" \\ \0 ‹ünïcode› 🦀\n; DROP TABLE spans'
#: The values of a file by SQL alone, in the order of its columns.
EXPECTED = """
SELECT list.trace_id, list.span_id, nullif(list.parent_id, ''), list.service, list.name, list.kind,
    list.start_ns, spans.duration_ns, spans.self_ns, spans.cpu_ns, lane, list.status, instance_id,
    list.host, list.pid, version, resource, list.attributes, list.links, list.details, threshold,
    CASE WHEN threshold IS NULL THEN 1.0 ELSE 72057594037927936.0 / (72057594037927936 - threshold) END,
    failed.type, failed.message, how, nullif(lower(hex(origin_trace_id)), ''),
    nullif(lower(hex(failed.origin_span_id)), ''), fingerprint, failed.frames, causes, notes, members
FROM span_list AS list JOIN spans ON spans.id = list.id JOIN instances ON instances.id = spans.instance
    JOIN traces ON traces.trace_id = spans.trace_id
    LEFT JOIN exceptions AS failed ON failed.trace_id = spans.trace_id AND failed.span_id = spans.span_id
        AND failed.type <> ''
    LEFT JOIN exception_groups ON exception_groups.id = exception_group
"""


@pytest.fixture
def trees(path: Path) -> Path:
    """Return a database with failing, odd, thinned and unfinished trees."""
    for number in range(1, 4):
        store(path, checkout(trace_id(number), NOON + number * MINUTE), at_ns=NOON)
    odd = span(trace_id(4), 1, name=HOSTILE, kind="internal", duration_ms=0, attributes={HOSTILE: [1, 2**62]})
    odd = odd._replace(cpu_ns=7, lane=3, links=[[trace_id(1), span_id(1)]])
    store(path, {HOSTILE: [odd, span(trace_id(4), 2, 1, status=ERROR)]})
    running = span(trace_id(5), 1, duration_ms=None, at_ns=NOON + HOUR, attributes={"customer": "Ada"})
    store(path, {"mail": [running, span(trace_id(5), 2, 1, at_ns=NOON + HOUR)]}, at_ns=NOON + 2 * HOUR)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE traces SET threshold = 0xf3333333333333 WHERE trace_id = ?", (trace_id(2),))
        db.execute(
            "UPDATE instances SET version = '1.2', resource = '{\"zone\":\"a\"}' WHERE service = 'stock'"
        )
    return path


def export(run: Run, database: Path, *options: object) -> Path:
    """Export a database to a file, and return its path."""
    target = database.with_name("spans.parquet")
    told = run("export", "--db", database, "--output", target, *options)
    assert told.exit_code == 0, told.stderr
    return target


def read_rows(path: Path) -> list[tuple[Any, ...]]:
    """Return the rows of a file by pyarrow's reader, with times as numbers."""
    from pyarrow import int64
    from pyarrow.parquet import read_table

    table = read_table(path)
    place = table.schema.get_field_index("started")
    table = table.set_column(place, "started", table.column("started").cast(int64()))
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


@pytest.mark.scale
def test_a_file_has_every_value_of_the_database(trees: Path, run: Run) -> None:
    """Each column of each row equals what SQL finds in the database, and unfinished spans are marked."""
    with closing(sqlite3.connect(trees)) as db:
        expected = sorted(db.execute(EXPECTED), key=repr)
    assert sorted(read_rows(export(run, trees)), key=repr) == expected
    assert {row[20] for row in expected} == {None, 0xF3333333333333}
    with_open = read_rows(export(run, trees, "--unfinished"))
    (opened,) = (dict(zip(parquet.Row._fields, row, strict=True)) for row in set(with_open) - set(expected))
    assert opened["status"] == "unfinished"
    assert opened["attributes"] == '{"customer":"Ada"}'
    assert (opened["span_id"], opened["started"], opened["duration_ns"]) == (
        "0" * 15 + "1",
        NOON + HOUR,
        None,
    )


@pytest.mark.scale
def test_only_wanted_trees_are_written_in_order(trees: Path, run: Run) -> None:
    """Conditions choose whole trees, and rows are in the order in which the trees began."""
    rows = read_rows(export(run, trees, "--errors", "--since", "2026-01-31T12:02Z"))
    assert [row[0] for row in rows] == [trace_id(2).hex()] * 9 + [trace_id(3).hex()] * 9


@pytest.mark.scale
def test_columns_are_those_of_the_reference(trees: Path, run: Run) -> None:
    """The file's columns, their types and which can be null are those of the reference."""
    from pyarrow.parquet import read_schema

    documented = [(row[0].strip("`"), row[1]) for row in pages.rows(pages.read("reference/parquet.md"))]
    found = [
        (field.name, str(field.type).replace("tz=", "") + (", null" if field.nullable else ""))
        for field in read_schema(export(run, trees))
    ]
    assert found == documented


@pytest.mark.scale
@pytest.mark.parametrize(("limit", "value"), [("GROUP_ROWS", 2), ("GROUP_BYTES", 1)])
def test_groups_are_written_as_soon_as_they_are_full(
    trees: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    """A part is returned for each full group before the next spans are read, and together they are a file."""
    from pyarrow import BufferReader
    from pyarrow.parquet import ParquetFile

    monkeypatch.setattr(parquet, limit, value)
    consumed = 0

    def read_chunks() -> Iterator[Sequence[StoredSpan]]:
        nonlocal consumed
        for number in (1, 2, 3):
            consumed = number
            yield read_traces(opened.db, [trace_id(number)])

    with open_file(trees) as opened:
        parts = parquet.make_parquet(opened, read_chunks())
        first = next(parts)
        assert consumed == 1
        file = ParquetFile(BufferReader(first + b"".join(parts)))
    assert [file.metadata.row_group(number).num_rows for number in range(3)] == [9, 9, 9]
    assert (file.metadata.num_rows, file.metadata.num_row_groups) == (27, 3)
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"


@pytest.mark.scale
def test_a_file_is_the_same_through_a_pipe(trees: Path, run: Run) -> None:
    """Standard output gets the bytes that a file gets, and the weight's column is named."""
    told = run("export", "--db", trees, "--format", "parquet")
    assert told.stdout_bytes == export(run, trees).read_bytes()
    assert told.stderr == "1 tree of thinned times: column weight has the weight of each\n"


@pytest.mark.scale
def test_documented_queries_answer(
    trees: Path, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The queries of the how-to for DuckDB and pandas run as printed, and weigh thinned traces."""
    import duckdb

    page = pages.read("how-to/export-and-import.md")
    monkeypatch.chdir(export(run, trees).parent)
    with duckdb.connect() as db:
        answer = db.execute(pages.blocks(page, "sql")[0]).fetchall()
    assert ("shop", "checkout", None, 22.0, 1240.0) in answer
    scope: dict[str, Any] = {}
    exec(pages.blocks(page, "python")[0], scope)
    assert scope["errors"].max() == 40
    minute, service = scope["errors"].idxmax()
    assert (minute.isoformat(), service) == ("2026-01-31T12:02:00+00:00", "billing")
    assert "12:02:00+00:00  billing" in capsys.readouterr().out


@pytest.mark.process
@pytest.mark.scale
def test_clickhouse_reads_a_file(trees: Path, run: Run, engine: Engine) -> None:
    """ClickHouse answers the documented query, and reads the same values as pyarrow."""
    target = export(run, trees)
    query = pages.blocks(pages.read("how-to/export-and-import.md"), "sql")[1]
    answer = engine.query(query.replace("spans.parquet", str(target)).rstrip(";\n"))
    rows = [line.split("\t") for line in answer.splitlines()]
    found = sorted((kind, spans, origins) for kind, _, spans, origins in rows)
    assert found == [("ZeroDivisionError", "6", "3"), ("billing.PaymentError", "6", "3")]
    source = f"(SELECT * REPLACE (toUnixTimestamp64Nano(started) AS started) FROM file('{target}'))"
    lines = engine.query(f"SELECT * FROM {source} FORMAT JSONCompactEachRow").splitlines()
    assert [tuple(json.loads(line)) for line in lines] == read_rows(target)


@pytest.mark.parametrize("options", [["-o", "spans.parquet.gz"], ["--format", "parquet", "-o", "spans.gz"]])
def test_a_file_is_not_compressed_twice(trees: Path, run: Run, options: list[str]) -> None:
    """A name that asks for gzip is an error of one line, and no file is written."""
    told = run("export", "--db", trees, *options)
    line = f"ztrace: {options[-1]} would be compressed twice; remove .gz from its name\n"
    assert (told.exit_code, told.stderr) == (2, line)
    assert not Path(options[-1]).exists()


def test_a_terminal_gets_no_file(
    trees: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bytes are not written to a terminal; the line names the option to add."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert cli.run(["export", "--db", str(trees), "--format", "parquet"]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "ztrace: a Parquet file is not text; add --output spans.parquet\n")
