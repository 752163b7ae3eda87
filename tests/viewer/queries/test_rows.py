"""SQL has one place in the viewer, and each column one name."""

import ast
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

import ztrace_viewer
from tests.viewer.stored import span, store, trace_id
from ztrace import records
from ztrace_viewer.documents.trees import SpanDocument
from ztrace_viewer.queries.database import open_database
from ztrace_viewer.queries.rows import name_columns, read, read_one, read_pairs
from ztrace_viewer.trees.spans import SpanRow, make_span

ROOT = Path(ztrace_viewer.__file__).parent
#: A statement in a text. Keywords of SQL are written in capitals, words of English are not.
SQL = re.compile(r"\b(SELECT|INSERT INTO|DELETE FROM|UPDATE|PRAGMA|CREATE|ATTACH|VACUUM)\s")
#: Methods of a connection that take a statement.
CALLS = ("execute", "executemany", "executescript")
#: Modules outside queries/.
OTHERS = sorted(path for path in ROOT.rglob("*.py") if (ROOT / "queries") not in path.parents)


class Pair(NamedTuple):
    """A row of two columns."""

    left: int
    right: str


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    """Return a connection to an empty database."""
    with closing(sqlite3.connect(":memory:")) as opened:
        yield opened


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_sql_stands_in_queries_alone(path: Path) -> None:
    """No other module of the viewer has a statement or executes one."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not SQL.search(node.value), f"line {node.lineno}: {node.value!r}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr not in CALLS, f"line {node.lineno}"


def test_sql_is_found_in_queries() -> None:
    """The pattern of the test above matches the statements that there are."""
    with_sql = [path.stem for path in (ROOT / "queries").rglob("*.py") if SQL.search(path.read_text())]
    assert {"spans", "status", "accounts", "searching"} <= set(with_sql)


def test_a_row_is_read_by_name(db: sqlite3.Connection) -> None:
    """The statement's columns derive from the row type, with an expression where the table differs."""
    query = f"SELECT {name_columns(Pair, left='1 + 1')} FROM (SELECT 'two' AS right)"
    assert list(read(db, Pair, query)) == [Pair(2, "two")]
    assert read_one(db, Pair, f"{query} WHERE right = ?", ("three",)) is None
    both = "SELECT 1 AS left, 'a' AS right, 2 AS left, 'b' AS right"
    assert list(read_pairs(db, Pair, Pair, both)) == [(Pair(1, "a"), Pair(2, "b"))]


@pytest.mark.parametrize("query", ["SELECT 'x' AS right, 1 AS left", "SELECT 1 AS left", "SELECT 1, 'x'"])
def test_columns_that_do_not_fit_are_an_error(db: sqlite3.Connection, query: str) -> None:
    """A value never lands in another column's field."""
    with pytest.raises(AssertionError, match="for the fields"):
        read(db, Pair, query)


def test_a_span_is_shown_with_every_column_it_has(tmp_path: Path) -> None:
    """Each field of the record is a column of the row and, unless it is told otherwise, of the document."""
    elsewhere = {"exception"}
    assert set(records.Span._fields) - elsewhere <= set(SpanRow._fields)
    converted = {"trace_id", "instance_id", "host", "pid", "details", "lane"}
    derived = {"instance", "exception", "children", "critical_ns"}
    derived |= {"status_message", "events", "scope", "trace_state", "flags", "dropped"}  # Of details.
    assert set(SpanDocument.__annotations__) - derived == set(SpanRow._fields) - converted
    path = tmp_path / "shop.db"
    store(path, {"shop": [span(trace_id(1), 1)]})
    with open_database(path) as opened:
        stored = {column[1] for column in opened.execute("PRAGMA table_info(spans)")}
    joined = {"service", "name", "kind", "instance_id", "host", "pid", "resource", "unfinished"}
    assert stored - {"id", "method", "instance"} == set(SpanRow._fields) - joined
    row = SpanRow._make(None for _ in SpanRow._fields)
    filled = row._replace(span_id=bytes(8), status=records.OK)
    assert make_span(filled, None).keys() == SpanDocument.__annotations__.keys()
