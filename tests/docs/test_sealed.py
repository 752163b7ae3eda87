"""Examples of reading the database with other programs, on a file whose traces are sealed."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.collector.sealed import seal_file
from tests.docs import pages
from tests.viewer.queries.test_profile import settle
from tests.viewer.stored import HOUR, NOON, checkout, trace_id

PAGE = pages.read("how-to/read-the-database.md")
TRACE = trace_id(1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a database of two sealed checkouts."""
    path = settle(tmp_path / "shop.db", checkout(TRACE, NOON), checkout(trace_id(2), NOON))
    assert seal_file(path, NOON + HOUR) == 2
    return path


def define(name: str) -> Callable[..., Any]:
    """Return a function of the page's examples."""
    (block,) = [each for each in pages.blocks(PAGE, "python") if f"def {name}(" in each]
    names: dict[str, Any] = {}
    exec(block, names)
    function: Callable[..., Any] = names[name]
    return function


def test_all_spans_of_a_trace_are_read(path: Path) -> None:
    """The example returns every span of a sealed trace, of which ``spans`` has none."""
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM spans").fetchone() == (0,)
    rows = define("spans_of")(path, TRACE.hex())
    spans = [(service, each) for service, batch in checkout(TRACE, NOON).items() for each in batch]
    expected = [(service, each.name, each.duration_ns, each.start_ns) for service, each in spans]
    assert sorted(rows) == sorted(each[:3] for each in expected)
    assert rows[0] == min(expected, key=lambda each: each[3])[:3]


def test_percentiles_are_read(path: Path) -> None:
    """The example returns a percentile of a method of sealed traces."""
    assert define("p95_ms")(path, "shop", "checkout") > 0


@pytest.mark.parametrize("number", range(len(pages.blocks(PAGE, "sql"))))
def test_queries_run(path: Path, number: int) -> None:
    """Each query of the page runs on a sealed file."""
    with closing(sqlite3.connect(path)) as db:
        db.execute(pages.blocks(PAGE, "sql")[number]).fetchall()
