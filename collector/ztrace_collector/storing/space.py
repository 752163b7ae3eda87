"""Free space for the database: a floor that is checked before each transaction.

One idea: SQLite should never be the one to detect a full disk. A transaction that meets one is rolled back
and loses nothing, but freeing space, by a checkpoint of the log or by deleting, needs space itself.
"""

import os
from pathlib import Path

from ztrace.errors import DatabaseBlocked

#: Bytes that must stay free, about the size of the log when it is emptied (see `layout.LOG_BYTES`); and the
#: share of a small filesystem that must stay free instead.
FLOOR_BYTES = 64 << 20
FLOOR_SHARE = 0.05
#: Hysteresis: storing resumes with a little more space than it stops at, so that it does not alternate.
MARGIN = 1.25


class Space:
    """Free space on a database's filesystem."""

    def __init__(self, database: Path) -> None:
        self._folder = database.parent
        self._database = database
        self._log = Path(f"{database}-wal")

    def check(self, *, resuming: bool = False) -> None:
        """Check that there is room for a transaction.

        Args:
            resuming: storing had stopped for lack of space.

        Raises:
            DatabaseBlocked: free space is below the floor.
        """
        free, floor = self._look()
        if free < floor * (MARGIN if resuming else 1):
            raise DatabaseBlocked(
                f"no space for {self._database}: {_mib(free)} free on its disk,"
                f" and {_mib(floor)} must stay free",
                hint="free some space",
            )

    def is_tight(self) -> bool:
        """Return whether a checkpoint of the whole log could use space below the floor."""
        free, floor = self._look()
        return free < floor + self.log_bytes()

    def log_bytes(self) -> int:
        """Return the size of the write-ahead log."""
        try:
            return os.stat(self._log).st_size
        except OSError:
            return 0

    def _look(self) -> tuple[int, int]:
        """Return the available bytes, and how many of them must stay free."""
        try:
            disk = os.statvfs(self._folder)
        except OSError as error:
            raise DatabaseBlocked(
                f"cannot look at {self._folder}: {error.strerror}", hint="check the disk"
            ) from error
        total = disk.f_blocks * disk.f_frsize
        return disk.f_bavail * disk.f_frsize, int(min(FLOOR_BYTES, total * FLOOR_SHARE))


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"
