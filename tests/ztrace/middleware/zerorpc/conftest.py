"""Collector and fleets of processes, started once per session; each scenario has its own token and trace."""

from collections.abc import Iterator
from itertools import count

import pytest

from tests.ztrace.middleware.zerorpc.fleet import Collected, Fleet
from ztrace.middleware import carriers
from ztrace_collector.refusals import HANDSHAKE_FAILED


@pytest.fixture(scope="session")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collected]:
    """Yield a collector, and assert at the end that all spans created are stored and none was rejected.

    Clients of other tests may still try a port that the system has given to this collector: such a connection
    has no spans.
    """
    collected = Collected(tmp_path_factory.mktemp("collected"))
    yield collected
    collected.stop()
    status = collected.status()
    status["rejected"].pop(carriers.UNREADABLE, None)  # The peers', as some tests send.
    status["rejected"].pop(HANDSHAKE_FAILED, None)
    assert (status["rejected"], status["spans_lost"], status["unfinished"]) == ({}, 0, 0)
    assert status["spans_stored"] == sum(each["spans_created"] for each in status["publishers"])


@pytest.fixture(scope="session")
def tokens() -> "count[int]":
    """Return the counter of scenarios, shared by both fleets so that no token repeats."""
    return count()


@pytest.fixture(scope="session")
def traced(
    collected: Collected, tokens: "count[int]", tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """Yield a fleet of traced processes."""
    fleet = Fleet(tmp_path_factory.mktemp("traced"), collected, tokens)
    yield fleet
    fleet.stop()


@pytest.fixture(scope="session")
def plain(tokens: "count[int]", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Yield a fleet of untraced processes, as a reference for zerorpc's own behaviour."""
    fleet = Fleet(tmp_path_factory.mktemp("plain"), None, tokens)
    yield fleet
    fleet.stop()
