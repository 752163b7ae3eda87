"""Options and announcements of commands that run for long."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import ztrace_collector.service
from tests.viewer.conftest import Run
from ztrace.errors import EndpointError
from ztrace_collector.service import Options
from ztrace_viewer import demo as shop_demo
from ztrace_viewer.terminal.progress import CollectorProgress


@pytest.mark.parametrize("name", ["up", "collect"])
def test_the_collector_says_where_it_listens(
    run: Run, path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The collector announces its endpoint and the next step in one line on stderr."""
    calls: list[Options] = []

    def collect(options: Options, *, ready: Callable[[str], None]) -> None:
        calls.append(options)
        ready("tcp://127.0.0.1:5555")

    monkeypatch.setattr(ztrace_collector.service, "collect", collect)
    result = run(name, "--bind", "tcp://127.0.0.1:*", "--db", path)
    assert result.exit_code == 0
    (options,) = calls
    assert replace(options, companions=()) == Options("tcp://127.0.0.1:*", path, progress=options.progress)
    assert isinstance(options.progress, CollectorProgress)
    assert "ZTRACE_ENDPOINT=tcp://127.0.0.1:5555" in result.stderr
    assert str(path) in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_collector_for_other_machines_says_how_it_is_reached(
    run: Run, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collector for other machines announces a reachable address and the need for a key."""

    def collect(options: Options, *, ready: Callable[[str], None]) -> None:
        ready(options.bind)

    monkeypatch.setattr(ztrace_collector.service, "collect", collect)
    assert run("keys", "init", "--keys", tmp_path / "keys").exit_code == 0
    result = run("collect", "--bind", "tcp://0.0.0.0:4711", "--db", path, "--keys", tmp_path / "keys")
    assert "collecting at tcp://0.0.0.0:4711 into" in result.stderr
    assert "ZTRACE_ENDPOINT=tcp://THIS-MACHINE:4711 and its ZTRACE_KEY, end" in result.stderr


def test_the_collectors_errors_are_one_line(run: Run, path: Path) -> None:
    """A collector's error is one line, with exit status 2."""
    result = run("collect", "--bind", "nonsense", "--db", path)
    assert result.exit_code == 2
    assert result.stderr.startswith("ztrace: 'nonsense' is not an endpoint")
    assert EndpointError.__name__ not in result.stderr


def test_the_demo_is_given_its_options(run: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo runs for five seconds on a new file by default."""
    calls: list[tuple[float, Path | None]] = []
    monkeypatch.setattr(shop_demo, "run", lambda seconds, database: calls.append((seconds, database)))
    assert run("demo").exit_code == 0
    assert run("demo", "--seconds", 2, "--db", path).exit_code == 0
    assert calls == [(5.0, None), (2.0, path)]
