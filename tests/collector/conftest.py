"""Fixtures of a database path and of an open store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.collector.messages import EPOCH_NS
from ztrace_collector.storing.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path at which a database may be created."""
    return tmp_path / "traces.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """Yield a store with a stopped clock; it is closed after the test."""
    with Store(path, clock_ns=lambda: EPOCH_NS) as opened:
        yield opened
