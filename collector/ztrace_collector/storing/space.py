"""How much room there is for the database: a floor of free space, looked at before each transaction.

One idea: SQLite should never be the one to find out. A transaction that meets a full disk is rolled back and
nothing is lost, but what makes room, a checkpoint of the log or deleting, needs room itself.
"""

import os
from pathlib import Path

from ztrace.errors import DatabaseBlocked

#: Bytes that stay free: about what the log grows to before it goes into the database, see CHECKPOINT_PAGES;
#: and the part of a small filesystem that stays free instead.
FLOOR_BYTES = 64 << 20
FLOOR_SHARE = 0.05
#: To go on there has to be a little more than to stop: else each transaction could stop and go on.
MARGIN = 1.25


class Space:
    """The room on a database's filesystem."""

    def __init__(self, database: Path) -> None:
        self._folder = database.parent
        self._database = database
        self._log = Path(f"{database}-wal")

    def check(self, *, resuming: bool = False) -> None:
        """Find room for a transaction.

        Args:
            resuming: there was none before.

        Raises:
            DatabaseBlocked: free space is below the floor.
        """
        free, floor = self._look()
        if free < floor * (MARGIN if resuming else 1):
            raise DatabaseBlocked(
                f"no space for {self._database}: {_mib(free)} free on its disk, and {_mib(floor)} stay free",
                hint="free some space",
            )

    def is_tight(self) -> bool:
        """Tell whether taking the log into the database, as large as it is, could go below the floor."""
        free, floor = self._look()
        return free < floor + self.log_bytes()

    def log_bytes(self) -> int:
        """Return the size of the write-ahead log."""
        try:
            return os.stat(self._log).st_size
        except OSError:
            return 0

    def _look(self) -> tuple[int, int]:
        """Return the bytes that are free to us, and how many of them should stay so."""
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
