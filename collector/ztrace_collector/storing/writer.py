"""A store that goes on: through full disks, other programs' locks and damaged files.

One idea: messages are held until they are stored. What is held is not acknowledged, so its publishers keep it
as well, and nothing has to be decided in a hurry: it is tried again, on the same file or, if that is damaged,
on a new one.
"""

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from ztrace.errors import DatabaseBlocked, DatabaseCorrupt, DatabaseError
from ztrace_collector.checking.parcels import Parcel
from ztrace_collector.refusals import Refusals
from ztrace_collector.storing.damage import PUZZLES, fits_a_new_file, is_ours, is_up_to_date, set_aside
from ztrace_collector.storing.database import explain
from ztrace_collector.storing.retention import NO_LIMITS, Limits, Retention
from ztrace_collector.storing.space import Space
from ztrace_collector.storing.store import Store, Written

#: How soon what is held is tried again: space that is freed is used within a second.
RETRY_S = 0.5
#: How soon the log is to be cut again if it could not be: somebody reads it.
CHECKPOINT_S = 1.0
#: SQLite's errors that say that the file cannot be got at, and nothing about what is in it.
_ACCESS = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)

#: While it holds.
_NOTHING = Written({}, None)


class Writer:
    """What stores messages, sooner or later.

    Attributes:
        holding: nothing can be stored at the moment; nothing more should be received.
        opening: how often a file has been opened: what was known of its rows may not hold for the next one.
        noted: refusals counted before anything came here, to be written with the next transaction.
    """

    def __init__(
        self,
        path: Path,
        limits: Limits = NO_LIMITS,
        *,
        say: Callable[[str], None],
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.holding = False
        self.opening = 0
        self.noted = Refusals()
        self._path = path
        self._say = say
        self._clock_ns = clock_ns
        self._space = Space(path.absolute())
        self._retention = Retention(limits, clock_ns=clock_ns)
        self._store: Store | None = None
        self._held: list[Sequence[bytes]] = []
        #: Of the call that is at work.
        self._parcels: Sequence[Parcel] = ()
        #: Stored and refused by stores that are closed.
        self._past_spans = self._past_refused = 0
        self._was_open = False
        self._opened: tuple[int, int] | None = None
        #: Since something was stored last: the file has been doubted and opened anew; it has been replaced.
        self._doubted = self._replaced = False
        self._retry_s = self._checkpoint_s = 0.0

    def __enter__(self) -> Self:
        """Open the file.

        Raises:
            DatabaseError: it cannot be used. That it cannot be written at the moment is no error: it holds.
        """
        self.write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    @property
    def span_count(self) -> int:
        """How many spans have been stored."""
        return self._past_spans + (self._store.span_count if self._store else 0)

    @property
    def refused_count(self) -> int:
        """How many messages and spans have been refused or mended."""
        return self._past_refused + (self._store.refused_count if self._store else 0)

    @property
    def publisher_count(self) -> int:
        """How many publishers are there now."""
        return self._store.publisher_count if self._store else 0

    def wait_s(self) -> float:
        """Return how long there is nothing to do here unless something is received."""
        if self.holding:
            return max(0.0, self._retry_s - time.monotonic())
        return self._retention.wait_s()

    def write(self, messages: Sequence[Sequence[bytes]] = (), parcels: Sequence[Parcel] = ()) -> Written:
        """Store what is held, if it is time to, and these messages and parcels.

        Parcels are not held: their senders have them, and are told.

        Returns:
            What may be acknowledged, and the outcome of each parcel; nothing while the writer holds.

        Raises:
            DatabaseError: it cannot be stored, and waiting would not help.
        """
        self._held += messages
        if self.holding and time.monotonic() < self._retry_s:
            return _NOTHING
        self._parcels = parcels
        try:
            while True:
                try:
                    written = self._try()
                except (DatabaseError, *PUZZLES) as error:
                    if not self._recover(error):
                        return _NOTHING
                else:
                    self._held = []
                    self._doubted = self._replaced = False
                    if self.holding:
                        self.holding = False
                        self._say(f"storing again in {self._path}")
                    return written
        finally:
            self._parcels = ()

    def tend(self) -> None:
        """Do a part of what is due beside storing: delete what is too old or too much.

        Raises:
            DatabaseError: as with `write`.
        """
        if self._store is None or self.holding:
            return
        try:
            self._retention.tend(self._store)
        except (DatabaseBlocked, DatabaseCorrupt) as error:
            self._recover(error)

    def write_beside(self, work: Callable[[sqlite3.Connection], None]) -> bool:
        """Do some work in a transaction of its own.

        Returns:
            Whether it is done; if not, nothing of it is in the file.

        Raises:
            DatabaseError: as with `write`.
        """
        if self._store is None or self.holding:
            return False
        try:
            with self._store.transaction() as db:
                work(db)
        except (DatabaseBlocked, DatabaseCorrupt) as error:
            self._recover(error)
            return False
        return True

    def finish(self) -> dict[bytes, int]:
        """Try what is held a last time, and say what is left behind.

        Returns:
            What may be acknowledged.
        """
        self._retry_s = 0.0
        acknowledgements = self.write().acknowledgements
        if self.holding:
            count = len(self._held)
            self._say(
                f"ended while holding: {count} message{'' if count == 1 else 's'} received and not stored;"
                " they are not acknowledged, so publishers keep their spans"
            )
        return acknowledgements

    def _try(self) -> Written:
        has_spans = bool(self._held or self._parcels)
        if self._store is None or has_spans or self.holding:
            self._find_room()
        if self._store is not None and has_spans and self._identify() != self._opened:
            # Stored there, spans would be where nobody looks, or nowhere. What is in the log goes with it.
            self._close()
            self._say(f"{self._path} has been moved away; going on with what is there now, or a new file")
        if self._store is None:
            self._store = Store(self._path, clock_ns=self._clock_ns)
            self._was_open = True
            self.opening += 1
            self._opened = self._identify()
            self._retention.begin(self._store)
        for_store, self.noted = self.noted, Refusals()
        self._store.noted.add(for_store)
        if has_spans or self.holding or self._store.noted.counts:
            return self._store.store(self._held, self._parcels)
        return Written({}, [])

    def _identify(self) -> tuple[int, int] | None:
        """Return which file is there now."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _find_room(self) -> None:
        now_s = time.monotonic()
        if self._store is not None and now_s >= self._checkpoint_s and self._space.is_tight():
            self._store.checkpoint()
            if self._space.log_bytes():
                self._checkpoint_s = now_s + CHECKPOINT_S
        self._space.check(resuming=self.holding)

    def _recover(self, error: Exception) -> bool:
        """Do what an error asks for.

        Returns:
            Whether it is to be tried again at once; if not, it holds.
        """
        if isinstance(error, sqlite3.Error):
            error = explain(error, self._path)
        if isinstance(error, DatabaseCorrupt):
            self._replace(error)
        elif isinstance(error, DatabaseBlocked) or (self._was_open and _is_of_access(error)):
            self._hold(error)
            return False
        elif not _is_puzzle(error):
            raise error
        elif self._store is None:
            # An intact file of this version opens: there is nothing in the messages that it could dislike.
            if not is_up_to_date(self._path):
                raise error
            self._replace(error)
        elif not self._doubted:
            # What is in memory may be wrong instead of what is in the file.
            self._doubted = True
            self._close()
        elif (self._held or self._parcels) and fits_a_new_file(self._held, self._parcels):
            self._replace(error)
        else:
            raise error
        return True

    def _hold(self, error: Exception) -> None:
        self._retry_s = time.monotonic() + RETRY_S
        if not self.holding:
            self.holding = True
            self._say(f"{error}; holding: publishers keep their spans, and it goes on by itself")
        elif not _is_usual(error):
            self._close()  # The next try has a connection that knows nothing of what has been.

    def _replace(self, error: Exception) -> None:
        """Set the damaged file aside; the next try makes a new one."""
        self._close()
        if self._replaced or not is_ours(self._path):
            raise error
        self._replaced = True
        name = set_aside(self._path)
        self._say(
            f"{self._path} is damaged and now called {name.name}; going on with a new file."
            f" Ask for what is readable in it with --db {name.name}, or save it with sqlite3's .recover"
        )

    def _close(self) -> None:
        if self._store is not None:
            store, self._store = self._store, None
            self._past_spans += store.span_count
            self._past_refused += store.refused_count
            self.noted.add(store.noted)
            store.close()


def _code(error: BaseException | None) -> int | None:
    """Return the kind of SQLite's error that an error is or comes from; None if it comes from elsewhere."""
    cause = error if isinstance(error, sqlite3.Error) else error and error.__cause__
    return getattr(cause, "sqlite_errorcode", 0) & 0xFF if isinstance(cause, sqlite3.Error) else None


def _is_of_access(error: Exception) -> bool:
    return type(error) is DatabaseError and (_code(error) is None or _code(error) in _ACCESS)


def _is_puzzle(error: Exception) -> bool:
    """Tell whether an error is what damage may look like, and may have another cause."""
    if isinstance(error, DatabaseError):
        return type(error) is DatabaseError and _code(error) is not None and _code(error) not in _ACCESS
    return True


def _is_usual(error: Exception) -> bool:
    """Tell whether a connection is known to go on after an error."""
    return _code(error) in (None, sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
