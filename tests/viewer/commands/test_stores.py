"""``--db`` with the address of a ClickHouse database, as far as none has to run."""

import pytest

from ztrace_viewer.cli import run

#: An address of a database; none of these tests connects.
URL = "clickhouse://127.0.0.1:9/ztrace"
#: Commands that need a file, with their arguments.
NEED_A_FILE = [
    "import spans.json",
    "collect",
    "up",
]


def fail(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that fails with one line; return the line."""
    assert run(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    [line] = told.err.splitlines()
    return line


@pytest.mark.parametrize("command", NEED_A_FILE)
def test_commands_that_need_a_file_say_so(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """A command that ClickHouse does not answer refuses its address in one line."""
    name = command.split()[0]
    line = fail(capsys, *command.split(), "--db", URL)
    assert f"'ztrace {name}' needs a collector's file, and not ClickHouse; name one with --db" in line


@pytest.mark.parametrize(
    "address",
    ["clickhouse://", "clickhouse://host", "clickhouse://ada:secret@host:port/db", "clickhouse://h/a-b"],
)
def test_addresses_that_name_no_database_are_usage_errors(
    capsys: pytest.CaptureFixture[str], address: str
) -> None:
    """An address without a host or a database is one line, which has no password."""
    line = fail(capsys, "slow", "--db", address)
    assert line.startswith("ztrace slow: invalid value for '--db'")
    assert "secret" not in line


def test_a_missing_library_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the library for ClickHouse, the line says what to install."""
    monkeypatch.setattr("ztrace_collector.clickhouse.engine.find_spec", lambda name: None)
    told = "ztrace: ClickHouse needs a library that is not installed; pip install 'ztrace[clickhouse]'"
    assert fail(capsys, "slow", "--db", URL) == told
