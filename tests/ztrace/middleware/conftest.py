"""Fixtures of several middleware."""

from collections.abc import Iterator

import pytest

from tests.ztrace.middleware.messaging import Sockets
from tests.ztrace.recording import Recorder


@pytest.fixture
def sockets(recorder: Recorder) -> Iterator[Sockets]:
    """Yield a maker of sockets."""
    sockets = Sockets()
    yield sockets
    sockets.close()
