"""The floor of free space."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ztrace.errors import DatabaseBlocked
from ztrace_collector.storing.space import FLOOR_BYTES, MARGIN, Space

GIB = 1 << 30


@pytest.fixture
def have(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Return what makes every disk have a size and free space."""

    def set_disk(size: int, free: int) -> None:
        blocks = (4096, 4096, size // 4096, free // 4096, free // 4096, 0, 0, 0, 0, 255)
        monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(blocks))

    return set_disk


def refusal(space: Space, *, resuming: bool = False) -> str:
    """Return the line that there is no room, empty if there is."""
    try:
        space.check(resuming=resuming)
    except DatabaseBlocked as error:
        return error.message
    return ""


def test_a_large_disk_keeps_a_fixed_floor(path: Path, have: Callable[[int, int], None]) -> None:
    """64 MiB, however large the disk is."""
    have(1000 * GIB, FLOOR_BYTES)
    assert refusal(Space(path)) == ""
    have(1000 * GIB, FLOOR_BYTES - 4096)
    assert refusal(Space(path)) == f"no space for {path}: 64.0 MiB free on its disk, and 64.0 MiB stay free"


def test_a_small_disk_keeps_a_part(path: Path, have: Callable[[int, int], None]) -> None:
    """A twentieth of a disk that has less than 1.25 GiB."""
    have(100 << 20, 5 << 20)
    assert refusal(Space(path)) == ""
    have(100 << 20, (5 << 20) - 4096)
    assert "5.0 MiB stay free" in refusal(Space(path))


def test_going_on_takes_a_little_more(path: Path, have: Callable[[int, int], None]) -> None:
    """Space at the floor does not make a collector stop and go on with each transaction."""
    have(1000 * GIB, FLOOR_BYTES)
    assert refusal(Space(path), resuming=True)
    have(1000 * GIB, int(MARGIN * FLOOR_BYTES))
    assert refusal(Space(path), resuming=True) == ""


def test_the_log_counts(path: Path, have: Callable[[int, int], None]) -> None:
    """What the log may add to the database is taken to be used before it is."""
    space = Space(path)
    have(1000 * GIB, FLOOR_BYTES + 50_000)
    assert not space.is_tight()
    Path(f"{path}-wal").write_bytes(bytes(60_000))
    assert space.is_tight()
    assert refusal(space) == ""


def test_a_disk_that_is_gone_is_no_space(tmp_path: Path) -> None:
    """A filesystem that cannot be looked at, as when it is unmounted, may come back."""
    assert "cannot look at" in refusal(Space(tmp_path / "gone" / "traces.db"))
