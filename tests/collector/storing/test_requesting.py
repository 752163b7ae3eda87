"""Requests for profiles in the file: bounds, withdrawal, and whether a collector is there to send them."""

from pathlib import Path

import pytest

from tests.collector.messages import EPOCH_NS, request_profile, row, rows
from ztrace.errors import DatabaseMissing, SettingsError
from ztrace.wire import MAX_HZ, MAX_REQUEST_S
from ztrace_collector.layout import SECOND_NS
from ztrace_collector.storing.requesting import (
    MAX_RUNNING,
    has_collector,
    withdraw_request,
)
from ztrace_collector.storing.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a database without a collector."""
    path = tmp_path / "ztrace.db"
    Store(path).close()
    return path


def test_a_request_is_one_row(path: Path) -> None:
    """A request is a row with a nonce of its own, until it is withdrawn."""
    first = request_profile(path, "billing", 50, 30, EPOCH_NS)
    second = request_profile(path, "", 1, 1, EPOCH_NS)
    assert first.nonce != second.nonce
    withdraw_request(path, second.nonce)
    assert row(path, "SELECT nonce, service, hz, seconds, at_ns, sent_ns FROM profile_requests") == {
        "nonce": first.nonce,
        "service": "billing",
        "hz": 50,
        "seconds": 30,
        "at_ns": EPOCH_NS,
        "sent_ns": None,
    }


@pytest.mark.parametrize(
    ("hz", "seconds", "told"),
    [
        (0, 1, "--hz 0 is out of bounds; give 1 to 100"),
        (MAX_HZ + 1, 1, "--hz 101 is out of bounds; give 1 to 100"),
        (1, 0, "--seconds 0 is out of bounds; give 1 to 600"),
        (1, MAX_REQUEST_S + 1, "--seconds 601 is out of bounds; give 1 to 600"),
    ],
)
def test_numbers_out_of_bounds_are_rejected(path: Path, hz: int, seconds: int, told: str) -> None:
    """A request that publishers would reject is not written, and the message has the bounds."""
    with pytest.raises(SettingsError) as caught:
        request_profile(path, "", hz, seconds, EPOCH_NS)
    assert str(caught.value) == told
    assert rows(path, "SELECT id FROM profile_requests") == []


def test_few_requests_run_at_a_time(path: Path) -> None:
    """One more than may run is rejected until another one is over."""
    for _ in range(MAX_RUNNING):
        request_profile(path, "", 50, 5, EPOCH_NS)
    with pytest.raises(SettingsError, match="wait until one ends"):
        request_profile(path, "", 50, 5, EPOCH_NS)
    request_profile(path, "", 50, 5, EPOCH_NS + 5 * SECOND_NS)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """A request to no file makes none."""
    with pytest.raises(DatabaseMissing):
        request_profile(tmp_path / "none.db", "", 50, 5, EPOCH_NS)
    assert list(tmp_path.iterdir()) == []


def test_a_collector_is_detected_by_its_lock(path: Path) -> None:
    """A collector is there while it has the file open, and asking leaves no file behind."""
    before = sorted(path.parent.iterdir())
    assert not has_collector(path)
    with Store(path):
        assert has_collector(path)
    assert not has_collector(path)
    assert sorted(path.parent.iterdir()) == before
