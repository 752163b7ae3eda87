"""The same rows in a file and in a ClickHouse database, for all tests of both stores."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clickhouse import Engine
from tests.viewer.stores.filling import copy_to_clickhouse
from tests.viewer.stores.mixed import fill


@pytest.fixture(scope="session")
def both(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Yield a file, and the address of a ClickHouse database with the same rows."""
    path = fill(tmp_path_factory.mktemp("both") / "ztrace.db")
    url = engine.url("both")
    copy_to_clickhouse(path, url)
    yield path, url
    engine.query("DROP DATABASE both")
