"""Requests that are written into ClickHouse: groups that are resolved, and pins."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clickhouse import Engine
from tests.viewer.conftest import Run
from tests.viewer.stored import HOUR, MINUTE, NOON, checkout, store, trace_id
from tests.viewer.stores.filling import copy_to_clickhouse

pytestmark = [pytest.mark.scale, pytest.mark.process]

Ask = Callable[..., list[Any]]


@pytest.fixture
def both(tmp_path: Path, engine: Engine, database: str) -> tuple[Path, str]:
    """Return a file with one group of errors, and a database with the same rows."""
    path = tmp_path / "ztrace.db"
    store(path, checkout(trace_id(1), NOON), at_ns=NOON)
    copy_to_clickhouse(path, engine.url(database))
    return path, engine.url(database)


@pytest.fixture
def ask(both: tuple[Path, str], run: Run, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Return a function that runs a command at a time, and returns the documents of both stores."""

    def ask(now_ns: int, *arguments: object) -> list[Any]:
        monkeypatch.setattr(time, "time_ns", lambda: now_ns)
        results = [run(*arguments, "--json", "--db", source) for source in both]
        assert [result.exit_code for result in results] == [results[0].exit_code] * 2
        return [json.loads(result.stdout) for result in results]

    return ask


def test_a_group_is_resolved_and_occurs_again(both: tuple[Path, str], run: Run, ask: Ask) -> None:
    """A group that is resolved in ClickHouse is hidden until it occurs again, as one of a file."""
    file, database = ask(NOON, "errors")
    assert file == database
    group = file["groups"][0]["group"]
    file, database = ask(NOON + MINUTE, "error", group, "--resolve")
    assert file == database
    assert file["group"]["state"] == "resolved"
    assert ask(NOON + MINUTE, "errors") == [{"groups": []}] * 2
    assert "which --all lists" in run("errors", "--db", both[1]).stderr
    file, database = ask(NOON + MINUTE, "errors", "--all")
    assert file == database
    file, database = ask(NOON + MINUTE, "error", group, "--reopen")
    assert file == database
    assert file["group"]["state"] == "open"
    ask(NOON + 2 * MINUTE, "error", group, "--resolve")
    # The next occurrence reaches another collector.
    later, again = checkout(trace_id(2, NOON + HOUR), NOON + HOUR), both[0].with_name("other.db")
    for path in (both[0], again):
        store(path, later, at_ns=NOON + HOUR)
    copy_to_clickhouse(again, both[1], journal="1" * 32)
    states = [each["groups"][0]["state"] for each in ask(NOON + 2 * HOUR, "errors")]
    assert states == ["regressed", "regressed"]


def test_an_occurrence_with_a_clock_that_is_ahead_is_resolved(both: tuple[Path, str], ask: Ask) -> None:
    """A group is resolved although its last occurrence has a time after the present one."""
    group = ask(NOON, "errors")[1]["groups"][0]["group"]
    states = [each["group"]["state"] for each in ask(NOON - HOUR, "error", group, "--resolve")]
    assert states == ["resolved", "resolved"]


def test_trees_are_pinned_and_unpinned(
    both: tuple[Path, str], run: Run, engine: Engine, database: str, ask: Ask
) -> None:
    """``show --pin`` and ``--unpin`` write a row, of which the last one counts, and say so."""
    trace = trace_id(1).hex()
    for option, pinned in (("--pin", True), ("--unpin", False)):
        documents = ask(NOON, "show", trace[:20], option)
        assert documents == [{"trace_id": trace, "pinned": pinned}] * 2
        query = "SELECT lower(hex(trace_id)), pinned FROM pins FINAL"
        assert engine.query(query, database) == f"{trace}\t{pinned:d}\n"
    assert "is pinned: thinning keeps it" in run("show", trace, "--pin", "--db", both[1]).stdout
    unknown = run("show", "ffffffff", "--pin", "--db", both[1])
    assert (unknown.exit_code, len(unknown.stderr.splitlines())) == (1, 1)
