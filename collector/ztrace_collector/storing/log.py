"""Write-ahead log beside a database: its share of the size limit, and when it is emptied.

One idea: the log is part of what a database takes on the disk. SQLite can empty it only at a moment when no
reader uses it, so a program that reads for long makes it grow with every transaction. Beyond the log's share
of a size limit nothing is stored until that program has finished: publishers keep their spans meanwhile.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

from ztrace.errors import DatabaseBlocked
from ztrace_collector.layout import LOG_BYTES
from ztrace_collector.storing.store import Store

#: Share of the size limit for the log, and the most that is reserved for it.
SHARE, MAX_BYTES = 0.25, 256 << 20
#: Part of its share at which the log is emptied; the rest is for the time in which readers prevent that.
EMPTY_AT = 0.5
#: Size at which the user is warned that a reader prevents emptying, if the size is not limited.
LARGE_BYTES = 4 * LOG_BYTES
#: Wait for readers to end before the log is emptied, and interval between two attempts.
WAIT_MS, RETRY_S = 50, 1.0
#: Interval of emptying a log that has not reached its size, and the size from which that is worthwhile.
REST_S, REST_BYTES = 60.0, 1 << 20


class Log:
    """Size and emptying of the log of one database.

    Attributes:
        empty_bytes: size at which the log is emptied.
        max_bytes: size above which nothing is stored; None if the size is not limited.
        file_bytes: size that is left for the file; None likewise.
    """

    def __init__(
        self,
        database: Path,
        limit_bytes: int | None,
        *,
        say: Callable[[str], None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Divide a limit on the size of a database between its file and its log."""
        self.empty_bytes, self.max_bytes, self.file_bytes = LOG_BYTES, None, None
        if limit_bytes is not None:
            self.max_bytes = min(int(SHARE * limit_bytes), MAX_BYTES)
            self.file_bytes = limit_bytes - self.max_bytes
            self.empty_bytes = min(LOG_BYTES, int(EMPTY_AT * self.max_bytes))
        self._database = database
        self._path = Path(f"{database}-wal")
        self._say = say
        self._clock_s = clock_s
        self._next_s = self._rest_s = 0.0
        self._is_told = False

    def size(self) -> int:
        """Return the size of the log in bytes, 0 if there is none."""
        try:
            return os.stat(self._path).st_size
        except OSError:
            return 0

    def is_over(self) -> bool:
        """Return whether the log has more than its share."""
        return self.max_bytes is not None and self.size() > self.max_bytes

    def tend(self, store: Store) -> None:
        """Empty the log if it is due and no reader prevents that."""
        size, now_s = self.size(), self._clock_s()
        if now_s >= self._rest_s and size >= REST_BYTES:
            self._rest_s = now_s + REST_S
            store.checkpoint(0)
        elif size > self.empty_bytes and now_s >= self._next_s:
            store.checkpoint(WAIT_MS)
            if self.size() > self.empty_bytes:
                self._next_s = self._clock_s() + RETRY_S
        self._tell()

    def check(self, store: Store) -> None:
        """Check that the log has its share at most, after an attempt to empty it.

        Raises:
            DatabaseBlocked: a reader prevents emptying.
        """
        if not self.is_over():
            return
        store.checkpoint(WAIT_MS)
        if self.is_over():
            raise DatabaseBlocked(
                f"a program has been reading {self._database} for so long that the log beside it has"
                f" {self.size() / 1e6:.0f} MB",
                hint="end that program or its query",
            )

    def _tell(self) -> None:
        size = self.size()
        if size <= self.empty_bytes:
            self._is_told = False
        elif size > LARGE_BYTES and not self._is_told:
            self._is_told = True
            self._say(
                f"a program has been reading {self._database} for so long that the log beside it has"
                f" {size / 1e6:.0f} MB; the log shrinks once that program or its query ends"
            )
