"""A store that continues through full disks, locks, damaged files and internal errors.

One idea: messages are held until they are stored. A held message is not acknowledged, so its publisher keeps
its spans as well, and the writer can retry at leisure, with the same file or, if that is damaged, with a new
one.

A file is replaced only if SQLite's own check of it fails. Any other unforeseen exception is an internal
error: the messages are retried one by one, and those that cause it are refused.
"""

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum, auto
from pathlib import Path
from typing import Any, Self

from ztrace.errors import DatabaseBlocked, DatabaseCorrupt
from ztrace_collector.checking.parcels import Outcome, Parcel
from ztrace_collector.refusals import Refusals
from ztrace_collector.storing.damage import is_ours, is_sound, set_aside
from ztrace_collector.storing.defects import DefectFiles, log_defect
from ztrace_collector.storing.faults import explain, is_defect, is_of_access, is_usual
from ztrace_collector.storing.folding import fold_accounts
from ztrace_collector.storing.log import Log
from ztrace_collector.storing.places import OWN_MODE, identify
from ztrace_collector.storing.retention import NO_LIMITS, Limits, Retention
from ztrace_collector.storing.space import Space
from ztrace_collector.storing.store import Store, Written

#: Interval between retries of held messages: freed space is used within a second.
RETRY_S = 0.5
#: Messages held before receiving ends: room to answer publishers that connect, and for those that end.
HELD_MESSAGES = 64
#: Interval between attempts to truncate the log while a reader prevents that.
CHECKPOINT_S = 1.0
#: Minimum interval between two checks of the file, each of which reads the whole file.
CHECK_S = 600.0

#: Result of `Writer.write` while it holds.
_NOTHING = Written({}, None)

_log = logging.getLogger(__name__)


class _Next(Enum):
    """Continuation after an error: retry everything, hold, or retry message by message."""

    AGAIN = auto()
    HOLD = auto()
    SINGLY = auto()


class Writer:
    """Store that holds messages it cannot write.

    Attributes:
        holding: nothing can be stored at the moment, and nothing more should be received.
        opening: number of times a file has been opened; a new file may have other rows than the last one.
        noted: refusals to be written with the next transaction.
    """

    def __init__(
        self,
        path: Path,
        limits: Limits = NO_LIMITS,
        *,
        say: Callable[[str], None],
        defects: DefectFiles | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        steady_ns: Callable[[], int] | None = None,
        mode: int = OWN_MODE,
        refuse_several: bool = False,
    ) -> None:
        self.holding = False
        self.opening = 0
        self.noted = Refusals()
        self._path, self._mode, self._refuse_several = path, mode, refuse_several
        self._say = say
        self._defects = defects or DefectFiles(path)
        self._clock_ns, self._steady_ns = clock_ns, steady_ns
        self._space = Space(path.absolute())
        self._log = Log(path, limits.max_bytes, say=say)
        self._retention = Retention(replace(limits, max_bytes=self._log.file_bytes), clock_ns=clock_ns)
        self._store: Store | None = None
        self._held: list[Sequence[bytes]] = []
        #: Spans stored, and messages and spans refused, by stores that are closed.
        self._past_spans = self._past_refused = 0
        self._was_open = False
        self._opened: tuple[int, int] | None = None
        #: The file was replaced, and nothing has been stored since.
        self._replaced = False
        #: SQLite reported damage, and its check of the file passed.
        self._is_acquitted = False
        self._retry_s = self._checkpoint_s = self._fold_s = 0.0
        self._check_s = -CHECK_S

    def __enter__(self) -> Self:
        """Open the file, or hold if it cannot be written at the moment.

        Raises:
            DatabaseError: the file cannot be used.
        """
        self.write()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def span_count(self) -> int:
        """Number of spans stored."""
        return self._past_spans + (self._store.span_count if self._store else 0)

    @property
    def refused_count(self) -> int:
        """Number of messages and spans refused or corrected."""
        return self._past_refused + (self._store.refused_count if self._store else 0)

    @property
    def publishers(self) -> dict[str, int]:
        """Number of publishers that are connected now, by services that were heard lately."""
        return self._store.publishers if self._store else {}

    @property
    def is_full(self) -> bool:
        """True while nothing can be stored and no more should be received."""
        return self.holding and len(self._held) >= HELD_MESSAGES

    def wait_s(self) -> float:
        """Return the time until the writer has work, unless something is received."""
        if self.holding:
            return max(0.0, self._retry_s - time.monotonic())
        return self._retention.wait_s()

    def write(self, messages: Sequence[Sequence[bytes]] = (), parcels: Sequence[Parcel] = ()) -> Written:
        """Store the held messages, if a retry is due, and these messages and parcels.

        Parcels are not held: their senders keep the spans, and are asked to retry.

        Returns:
            The acknowledgements to send, and the outcome of each parcel; nothing while the writer holds.

        Raises:
            DatabaseError: nothing can be stored, and waiting would not help.
        """
        self._held += messages
        if self.holding and time.monotonic() < self._retry_s:
            return _NOTHING
        next_ = _Next.AGAIN
        while next_ is not _Next.HOLD:
            try:
                written = self._write(parcels) if next_ is _Next.AGAIN else self._write_singly(parcels)
            except Exception as error:
                next_ = self._recover(error)
            else:
                self._held = []
                self._replaced = False
                if self.holding:
                    self.holding = False
                    self._say(f"storing again in {self._path}")
                return written
        return _NOTHING

    def tend(self) -> None:
        """Do a step of the work beside storing: delete what exceeds the limits, and empty the log.

        Raises:
            DatabaseError: as in `write`.
        """
        if self._store is None or self.holding:
            return
        try:
            self._store.keep_time()
            if not self._log.is_over():  # Otherwise deleting would make it grow even more.
                self._retention.tend(self._store)
                now_s = time.monotonic()
                if now_s >= self._fold_s:
                    self._fold_s = now_s + fold_accounts(self._store)
            self._log.tend(self._store)
        except Exception as error:
            if self._recover(error) is _Next.SINGLY:
                log_defect(_log, "deleting old traces", error)
                self._retention.pause()

    def read(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query; none while the writer holds.

        Raises:
            DatabaseError: as in `write`.
            Exception: an internal error.
        """
        if self._store is None or self.holding:
            return []
        try:
            return self._store.read(sql, *parameters)
        except Exception as error:
            if self._recover(error) is _Next.SINGLY:
                raise
            return []

    def write_beside(self, work: Callable[[sqlite3.Connection], None]) -> bool:
        """Run some work in a transaction of its own.

        Returns:
            True if the work is committed, False if it is rolled back or the writer holds.

        Raises:
            DatabaseError: as in `write`.
            Exception: an internal error in the work, which is rolled back.
        """
        if self._store is None or self.holding:
            return False
        try:
            with self._store.transaction() as db:
                work(db)
        except Exception as error:
            if self._recover(error) is _Next.SINGLY:
                raise
            return False
        return True

    def run_beside(self, step: Callable[[Store], None]) -> None:
        """Run a step of work that has transactions of its own; nothing while the writer holds.

        Raises:
            DatabaseError: as in `write`.
            Exception: an internal error in the step.
        """
        if self._store is None or self.holding:
            return
        try:
            step(self._store)
        except Exception as error:
            if self._recover(error) is _Next.SINGLY:
                raise

    def finish(self) -> dict[bytes, int]:
        """Retry the held messages a last time, and report those that are not stored.

        Returns:
            The acknowledgements to send.
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

    def _write(self, parcels: Sequence[Parcel]) -> Written:
        """Store everything in one transaction."""
        has_spans = bool(self._held or parcels)
        if self._store is None or has_spans or self.holding:
            self._find_room()
        if self._store is not None and has_spans and identify(self._path) != self._opened:
            # In a file that was moved or deleted, spans would be lost. Closing takes the log into that file.
            self._close()
            self._say(f"{self._path} was moved away; continuing with the file of that name, or a new one")
        store = self._store or self._open()
        for_store, self.noted = self.noted, Refusals()
        store.noted.add(for_store)
        if not has_spans and not self.holding and not store.noted.counts:
            return Written({}, [])
        before_s, count = time.perf_counter(), store.span_count
        written = store.store(self._held, parcels)
        _log.debug(
            "stored %d messages and %d parcels in %.1f ms: %d new spans",
            len(self._held),
            len(parcels),
            1000 * (time.perf_counter() - before_s),
            store.span_count - count,
        )
        return written

    def _write_singly(self, parcels: Sequence[Parcel]) -> Written:
        """Store each message and parcel in its own transaction; refuse those that cause an internal error."""
        assert self._store is not None
        try:
            self._store.store()
        except Exception as error:
            if not is_defect(error):
                raise
            log_defect(_log, "counting refusals", error)
            self._store.noted = Refusals()
        acknowledgements: dict[bytes, int] = {}
        outcomes: list[Outcome] = []
        while self._held:
            acknowledgements |= self._write_one(self._store, [self._held[0]], []).acknowledgements
            del self._held[0]
        for parcel in parcels:
            outcomes += self._write_one(self._store, [], [parcel]).outcomes or ()
        return Written(acknowledgements, outcomes)

    def _write_one(
        self, store: Store, messages: Sequence[Sequence[bytes]], parcels: Sequence[Parcel]
    ) -> Written:
        try:
            return store.store(messages, parcels)
        except Exception as error:
            if not is_defect(error):
                raise
            data = {"messages": messages, "parcels": [parcel._asdict() for parcel in parcels]}
            self._defects.report(_log, "storing a message", error, data)
            return store.refuse(messages, parcels, error)

    def _open(self) -> Store:
        self._store = store = Store(
            self._path,
            clock_ns=self._clock_ns,
            steady_ns=self._steady_ns,
            log_bytes=self._log.empty_bytes,
            mode=self._mode,
            refuse_several=self._say if self._refuse_several else None,
        )
        self._was_open = True
        self.opening += 1
        self._opened = identify(self._path)
        self._retention.begin(store)
        _log.info("opened %s", self._path)
        return store

    def _find_room(self) -> None:
        now_s = time.monotonic()
        if self._store is not None and now_s >= self._checkpoint_s and self._space.is_tight():
            self._store.checkpoint()
            if self._space.log_bytes():
                self._checkpoint_s = now_s + CHECKPOINT_S
        self._space.check(resuming=self.holding)
        if self._store is not None:
            self._log.check(self._store)

    def _recover(self, error: Exception) -> _Next:
        """Handle an error, and return how to continue.

        Raises:
            Exception: the error, if continuing is not possible.
        """
        if isinstance(error, sqlite3.Error):
            error = explain(error, self._path)
        if isinstance(error, DatabaseBlocked) or (self._was_open and is_of_access(error)):
            return self._hold(error)
        if not is_defect(error) or (self._store is None and not is_ours(self._path)):
            raise error
        is_corrupt = isinstance(error, DatabaseCorrupt)
        if is_corrupt and self._replaced:
            raise error  # What damages every file would damage the next one as well.
        now_s = time.monotonic()
        if now_s >= self._check_s + CHECK_S:
            self._check_s = now_s
            try:
                is_damaged = not is_sound(self._path)
            except sqlite3.Error as trouble:
                return self._hold(explain(trouble, self._path))
            if is_damaged:
                return self._replace(error)
            self._is_acquitted = is_corrupt
        elif is_corrupt and not self._is_acquitted:
            # The file may have been damaged since its last check, so nothing is refused before the next.
            return self._hold(error)
        if self._store is None:
            raise error
        return _Next.SINGLY

    def _hold(self, error: Exception) -> _Next:
        self._retry_s = time.monotonic() + RETRY_S
        if not self.holding:
            self.holding = True
            self._say(f"{error}; holding: publishers keep their spans, and storing resumes by itself")
        elif not is_usual(error):
            self._close()  # The next attempt has a new connection, whose state is known.
        return _Next.HOLD

    def _replace(self, error: Exception) -> _Next:
        """Set the damaged file aside; the next attempt creates a new one."""
        self._close()
        if not is_ours(self._path):
            raise error
        self._replaced = True
        name = set_aside(self._path)
        self._say(
            f"{self._path} is damaged and was renamed to {name.name}; continuing with a new file."
            f" Query what is readable with --db {name.name}, or save it with sqlite3's .recover"
        )
        return _Next.AGAIN

    def _close(self) -> None:
        if self._store is not None:
            store, self._store = self._store, None
            self._past_spans += store.span_count
            self._past_refused += store.refused_count
            self.noted.add(store.noted)
            store.close()
