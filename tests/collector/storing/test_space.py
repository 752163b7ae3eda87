"""Minimum of free disk space."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ztrace.errors import DatabaseBlocked
from ztrace_collector.storing.space import FLOOR_BYTES, MARGIN, Space

GIB = 1 << 30


@pytest.fixture
def have(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Return a function that sets the size and the free space of every disk."""

    def set_disk(size: int, free: int) -> None:
        blocks = (4096, 4096, size // 4096, free // 4096, free // 4096, 0, 0, 0, 0, 255)
        monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(blocks))

    return set_disk


def refusal(space: Space, *, resuming: bool = False) -> str:
    """Return the error about missing space, empty if there is enough."""
    try:
        space.check(resuming=resuming)
    except DatabaseBlocked as error:
        return error.message
    return ""


def test_a_large_disk_keeps_a_fixed_floor(path: Path, have: Callable[[int, int], None]) -> None:
    """A large disk keeps 64 MiB free."""
    have(1000 * GIB, FLOOR_BYTES)
    assert refusal(Space(path)) == ""
    have(1000 * GIB, FLOOR_BYTES - 4096)
    assert (
        refusal(Space(path)) == f"no space for {path}: 64.0 MiB free on its disk, and 64.0 MiB must stay free"
    )


def test_a_small_disk_keeps_a_part(path: Path, have: Callable[[int, int], None]) -> None:
    """A disk smaller than 1.25 GiB keeps a twentieth free."""
    have(100 << 20, 5 << 20)
    assert refusal(Space(path)) == ""
    have(100 << 20, (5 << 20) - 4096)
    assert "5.0 MiB must stay free" in refusal(Space(path))


def test_going_on_takes_a_little_more(path: Path, have: Callable[[int, int], None]) -> None:
    """Resuming needs a margin above the minimum, so a collector does not alternate at the boundary."""
    have(1000 * GIB, FLOOR_BYTES)
    assert refusal(Space(path), resuming=True)
    have(1000 * GIB, int(MARGIN * FLOOR_BYTES))
    assert refusal(Space(path), resuming=True) == ""


def test_the_log_counts(path: Path, have: Callable[[int, int], None]) -> None:
    """The size of the log, which a checkpoint may add to the database, counts as used."""
    space = Space(path)
    have(1000 * GIB, FLOOR_BYTES + 50_000)
    assert not space.is_tight()
    Path(f"{path}-wal").write_bytes(bytes(60_000))
    assert space.is_tight()
    assert refusal(space) == ""


def test_a_disk_that_is_gone_is_no_space(tmp_path: Path) -> None:
    """An unmounted filesystem counts as full, since it may return."""
    assert "cannot look at" in refusal(Space(tmp_path / "gone" / "traces.db"))
