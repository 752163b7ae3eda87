"""A database file, and a store that is closed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.collector.messages import EPOCH_NS
from ztrace_collector.storing.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a database may be made."""
    return tmp_path / "traces.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """Yield a store whose clock stands still."""
    with Store(path, clock_ns=lambda: EPOCH_NS) as opened:
        yield opened
