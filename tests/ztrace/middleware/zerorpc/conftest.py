"""The processes, started once for the folder: each scenario has a token and a trace of its own."""

from collections.abc import Iterator
from itertools import count

import pytest

from tests.ztrace.middleware.zerorpc.fleet import Collected, Fleet


@pytest.fixture(scope="session")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collected]:
    """Yield a collector; at the end everything that publishers counted is stored, and nothing was refused."""
    collected = Collected(tmp_path_factory.mktemp("collected"))
    yield collected
    collected.stop()
    status = collected.status()
    assert (status["rejected"], status["spans_lost"], status["unfinished"]) == ({}, 0, 0)
    assert status["spans_stored"] == sum(each["spans_created"] for each in status["publishers"])


@pytest.fixture(scope="session")
def tokens() -> "count[int]":
    """Return the numbers of the scenarios: both fleets count on, so no token occurs twice."""
    return count()


@pytest.fixture(scope="session")
def traced(
    collected: Collected, tokens: "count[int]", tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """Yield a fleet in which every process is traced."""
    fleet = Fleet(tmp_path_factory.mktemp("traced"), collected, tokens)
    yield fleet
    fleet.stop()


@pytest.fixture(scope="session")
def plain(tokens: "count[int]", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Yield a fleet that knows nothing of ztrace's middleware: what zerorpc does by itself."""
    fleet = Fleet(tmp_path_factory.mktemp("plain"), None, tokens)
    yield fleet
    fleet.stop()
