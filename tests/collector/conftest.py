"""Fixtures of a database path and of an open store."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from tests.collector.messages import EPOCH_NS
from tests.collector.peers import Connect, Peer
from ztrace_collector import service
from ztrace_collector.receiving import admission
from ztrace_collector.storing import database
from ztrace_collector.storing.store import Store


@pytest.fixture(autouse=True)
def _brief_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the waits of a collector in this process: idle, for keys, and for other programs' locks."""
    monkeypatch.setattr(service, "IDLE_S", 0.05)
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 100)
    monkeypatch.setattr(admission, "LOOK_S", 0.1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path at which a database may be created."""
    return tmp_path / "traces.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """Yield a store with a stopped clock; it is closed after the test."""
    with Store(path, clock_ns=lambda: EPOCH_NS) as opened:
        yield opened


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Yield a factory of publishers; they are closed after the test."""
    peers: list[Peer] = []

    def make(endpoint: str, number: int = 0, *, lasting: bool = False) -> Peer:
        peers.append(Peer(context, endpoint, number, lasting=lasting))
        return peers[-1]

    with zmq.Context() as context:
        yield make
        for peer in peers:
            peer.socket.close()
