"""Servers of the spans whose Jaeger answers are recorded, and of the viewer tests' shop."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.viewer.web.serving import Site, served
from tests.viewer.web.spans import REQUEST, store_request


@pytest.fixture(scope="session")
def like_jaeger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Yield a server of the spans that were sent to Jaeger."""
    path = tmp_path_factory.mktemp("like") / "like.db"
    store_request(path, REQUEST)
    with served(path) as site:
        yield site


@pytest.fixture(scope="session")
def site(shop: Path) -> Iterator[Site]:
    """Yield a server of two failed checkouts."""
    with served(shop) as site:
        yield site
