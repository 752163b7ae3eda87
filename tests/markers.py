"""Plugin of the markers: slow tests are left out unless they are named, and `process` tells the truth.

A test without the marker `process` is stopped before it starts a process. A test with the marker fails where
neither the test nor a fixture of the test has started any.
"""

import os
import subprocess
from collections.abc import Callable, Generator
from typing import Any

import pytest


class Starts:
    """Starts of processes: of the running test, and of fixtures by their folder or file and their name."""

    def __init__(self) -> None:
        self.test: pytest.Item | None = None
        self.started = False
        self.fixture: tuple[str, str] | None = None
        self.of_fixtures: set[tuple[str, str]] = set()

    def note(self) -> None:
        """Note that a process is about to be started, unless the running test has no marker."""
        if self.test is not None and self.test.get_closest_marker("process") is None:
            pytest.fail("this test starts a process: mark it with pytest.mark.process")
        self.started = True
        if self.fixture is not None:
            self.of_fixtures.add(self.fixture)

    def belong_to(self, test: pytest.Item) -> bool:
        """Return whether the running test, or a fixture that it uses, has started a process."""
        names = test.fixturenames  # type: ignore[attr-defined]
        return self.started or any(
            name in names and test.nodeid.startswith(place) for place, name in self.of_fixtures
        )


_starts = Starts()


def pytest_configure(config: pytest.Config) -> None:
    """Leave out slow tests, and those that need further packages, unless `-m` names them.

    `-m ""` chooses the slow ones too.
    """
    choice = config.option.markexpr
    left_out = [marker for marker in ("slow", "trouble", "browser", "scale") if marker not in choice]
    if not choice:
        left_out.remove("slow")
    parts = [f"({choice})"] if choice else []
    config.option.markexpr = " and ".join(parts + [f"not {marker}" for marker in left_out])


def _noting(start: Callable[..., Any]) -> Callable[..., Any]:
    def noted(*arguments: Any, **named: Any) -> Any:
        _starts.note()
        return start(*arguments, **named)

    return noted


@pytest.fixture(scope="session", autouse=True)
def _noted_starts() -> Generator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", _noting(subprocess.Popen.__init__))
        patch.setattr(os, "fork", _noting(os.fork))
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Attribute processes that are started meanwhile to this test."""
    _starts.test, _starts.started = item, False
    try:
        return (yield)
    finally:
        _starts.test = None


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
    """Attribute processes that are started meanwhile to this fixture as well."""
    outer, _starts.fixture = _starts.fixture, (fixturedef.baseid, fixturedef.argname)
    try:
        return (yield)
    finally:
        _starts.fixture = outer


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Hold the marker against what the test and its fixtures have started."""
    result = yield
    if item.get_closest_marker("process") is not None and not _starts.belong_to(item):
        pytest.fail("this test starts no process: remove pytest.mark.process")
    return result
