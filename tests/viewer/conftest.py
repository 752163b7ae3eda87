"""Fixtures of databases written by the real collector, and of the command line in this process."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.viewer.stored import NOON, checkout, store, trace_id
from ztrace_viewer.cli import ztrace

#: Function that runs ``ztrace`` with arguments.
Run = Callable[..., Result]


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database with two checkouts at noon, the first slower, both failed in stock."""
    path = tmp_path_factory.mktemp("shop") / "shop.db"
    store(path, checkout(trace_id(1), NOON), at_ns=NOON)
    store(path, checkout(trace_id(2, NOON + 60_000_000_000), NOON + 60_000_000_000, 0.5), at_ns=NOON)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path at which a database may be created."""
    return tmp_path / "ztrace.db"


@pytest.fixture
def set_zone() -> Iterator[Callable[[str], None]]:
    """Yield a function that sets the local time zone; the zone is restored afterwards."""
    with pytest.MonkeyPatch.context() as patch:

        def set_to(name: str) -> None:
            patch.setenv("TZ", name)
            time.tzset()

        yield set_to
    time.tzset()


@pytest.fixture
def _hears_hangup() -> Iterator[None]:
    """Let processes of the test hear SIGHUP, also where the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, set_zone: Callable[[str], None]) -> Run:
    """Return a function that runs a command, in UTC and on a screen of 100 columns."""
    monkeypatch.setattr("ztrace_viewer.commands.find.SEARCH_S", 60)  # However busy the machine is.
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("ZTRACE_DB", raising=False)
    set_zone("UTC")

    def invoke(*arguments: object, columns: int | None = None) -> Result:
        if columns is not None:
            monkeypatch.setenv("COLUMNS", str(columns))
        result = CliRunner().invoke(ztrace, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def ask(run: Run) -> Callable[..., Any]:
    """Return a function that runs a command with ``--json`` and parses its document."""

    def invoke(*arguments: object) -> Any:
        result = run(*arguments, "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    return invoke
