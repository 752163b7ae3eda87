"""Transactions on a database file: all changes of some messages, or none.

One idea: either everything is committed, spans, figures, accounts and sequence numbers, or nothing, and then
nothing of it stays in memory either. Only what is committed is acknowledged, so a publisher without an
acknowledgement sends its message again.
"""

import gc
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

from ztrace_collector.checking.parcels import Outcome, Parcel
from ztrace_collector.layout import LOG_BYTES, SILENT_AFTER_NS
from ztrace_collector.refusals import INTERNAL_ERROR, Refusals
from ztrace_collector.storing.brought import Brought
from ztrace_collector.storing.clocks import Age, Jumps, boot_ns, bound_times, move_times
from ztrace_collector.storing.contents import Contents
from ztrace_collector.storing.database import close_database, open_database, take_in_log
from ztrace_collector.storing.defects import describe_error, log_defect
from ztrace_collector.storing.faults import explain, is_defect
from ztrace_collector.storing.places import OWN_MODE

_log = logging.getLogger(__name__)


class Written(NamedTuple):
    """Result of a transaction.

    Attributes:
        acknowledgements: the next sequence number of each incarnation that sent something, or REFUSED.
        outcomes: the outcome of each parcel; None if nothing could be stored.
    """

    acknowledgements: dict[bytes, int]
    outcomes: list[Outcome] | None


class Store:
    """Database file opened for writing, closed by `close` or at the end of a ``with`` block.

    Attributes:
        span_count: number of spans stored since it was opened.
        refused_count: number of messages and spans refused or corrected since it was opened.
        noted: refusals to be written with the next transaction.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        steady_ns: Callable[[], int] | None = None,
        log_bytes: int = LOG_BYTES,
        mode: int = OWN_MODE,
        refuse_several: Callable[[str], None] | None = None,
    ) -> None:
        """Open, create or migrate a file.

        Args:
            path: the file.
            clock_ns: the wall clock.
            steady_ns: a clock that never jumps; None for the machine's, beside a wall clock that is not the
                machine's for the same.
            log_bytes: size at which the log is taken into the file.
            mode: permissions of the file.
            refuse_several: called with a line for the user when the first publisher with several collectors
                is refused; None to accept them.

        Raises:
            DatabaseError: one of its subclasses.
        """
        self.span_count = 0
        self.refused_count = 0
        self._path = path
        self._clock_ns = clock_ns
        #: The tables' memory may differ from the file.
        self._doubtful = False
        self.noted = Refusals()
        self._db, self._lock = open_database(path, log_bytes, mode=mode)
        if steady_ns is None:
            steady_ns = boot_ns if clock_ns is time.time_ns else clock_ns
        self._jumps = Jumps(clock_ns, steady_ns)
        try:
            bound_times(self._db, clock_ns())
            self._age = Age(self._db, clock_ns, steady_ns)
            self._contents = Contents(self._db, refuse_several)
        except BaseException as error:
            self.close()
            if isinstance(error, sqlite3.Error):
                raise explain(error, path) from error
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and release its lock."""
        try:
            close_database(self._db)
        finally:
            self._lock.release()

    @property
    def publishers(self) -> dict[str, int]:
        """Number of publishers that are connected now, by services that were heard lately."""
        return self._contents.publishers.count_alive(self._clock_ns() - SILENT_AFTER_NS)

    def store(self, messages: Sequence[Sequence[bytes]] = (), parcels: Sequence[Parcel] = ()) -> Written:
        """Write the changes of messages and parcels, and the refusals noted, in one transaction.

        Args:
            messages: the frames of each message, as received.
            parcels: spans that did not come from publishers.

        Returns:
            The acknowledgements to send, and the outcome of each parcel.

        Raises:
            DatabaseError: nothing is written and nothing may be acknowledged; the store remains usable.
        """
        return self._store(messages, parcels, self._contents.add_message, self._contents.add_parcel)

    def refuse(
        self, messages: Sequence[Sequence[bytes]], parcels: Sequence[Parcel], error: Exception
    ) -> Written:
        """Write that messages and parcels are refused because they cause an internal error.

        Messages are acknowledged, and their spans count as lost.

        Args:
            messages: the frames of each message.
            parcels: spans that did not come from publishers.
            error: the exception, for the detail of the refusal.

        Returns:
            The result, as in `store`.

        Raises:
            DatabaseError: as in `store`.
        """
        contents, detail = self._contents, describe_error(error)
        for is_exact in (True, False):
            try:
                return self._store(
                    messages,
                    parcels,
                    partial(contents.refuse_message, detail=detail, is_exact=is_exact),
                    partial(contents.refuse_parcel, detail=detail, is_exact=is_exact),
                )
            except Exception as again:
                if not is_defect(again):
                    raise
                log_defect(_log, "refusing a message", again)
        # Neither the header nor the publisher's account is usable, so the spans are unknown.
        self.noted.note(INTERNAL_ERROR, detail, len(messages) + len(parcels))
        return Written({}, [Outcome(0, 0, {INTERNAL_ERROR: parcel.span_count}) for parcel in parcels])

    @property
    def age_ns(self) -> int:
        """Present time by which traces expire, near the wall clock's but without its jumps."""
        return self._age.now_ns()

    def keep_time(self) -> None:
        """After a jump of the wall clock, move by it when processes were last seen.

        Raises:
            DatabaseError: nothing has changed.
        """
        jump_ns = self._jumps.pending_ns()
        if jump_ns:
            with self.transaction() as db:
                move_times(db, jump_ns)
            self._jumps.settle(jump_ns)
            self._contents.publishers.move(jump_ns)

    @property
    def brought(self) -> Brought:
        """Bytes that each service has brought since the store was opened."""
        return self._contents.brought

    def checkpoint(self, wait_ms: int = 0) -> None:
        """Checkpoint the log and truncate it, as far as readers and the disk permit."""
        take_in_log(self._db, wait_ms)

    def read(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query, for work beside storing.

        Raises:
            DatabaseError: the rows cannot be read.
        """
        try:
            return self._db.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise explain(error, self._path) from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection within a transaction, for work beside storing.

        Raises:
            DatabaseError: the transaction is rolled back; the store remains usable.
        """
        try:
            self._begin()
            yield self._db
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise explain(error, self._path) from error
        except BaseException:
            self._roll_back()
            raise

    def forget(self, table: str) -> None:
        """Drop a table's rows from memory, between transactions, after rows were deleted by other means."""
        self._contents.forget(table)

    def forget_traces(self, trace_ids: Iterable[bytes]) -> None:
        """Drop traces from memory, between transactions, after their rows were deleted by other means."""
        self._contents.forget_traces(trace_ids)

    def _store(
        self,
        messages: Sequence[Sequence[bytes]],
        parcels: Sequence[Parcel],
        add_message: Callable[[Sequence[bytes], int, Refusals], None],
        add_parcel: Callable[[Parcel, int, Refusals], Outcome],
    ) -> Written:
        self.keep_time()
        # A batch is thousands of objects without a cycle; searching them for cycles takes a tenth of the
        # time.
        collecting = gc.isenabled()
        gc.disable()
        try:
            contents, now_ns, refusals = self._contents, self._clock_ns(), Refusals()
            self._begin()
            contents.begin()
            for frames in messages:
                add_message(frames, now_ns, refusals)
            outcomes = [add_parcel(parcel, now_ns, refusals) for parcel in parcels]
            acknowledgements = contents.write(now_ns, self._age.arrival_ns(), refusals)
            self._age.write(self._db)
            refusals.write(self._db, now_ns)
            self.noted.write(self._db, now_ns)
            self._db.execute("COMMIT")
            contents.trim()
        except sqlite3.Error as error:
            self._roll_back()
            raise explain(error, self._path) from error
        except BaseException:
            self._roll_back()
            raise
        finally:
            if collecting:
                gc.enable()
        self.span_count += contents.span_count
        self.refused_count += refusals.total + self.noted.total
        self.noted = Refusals()
        return Written(acknowledgements, outcomes)

    def _begin(self) -> None:
        if self._doubtful:
            self._forget_all()
        self._db.execute("BEGIN IMMEDIATE")

    def _roll_back(self) -> None:
        """Undo a transaction in the file and in memory; if memory cannot be read again now, read it later."""
        self._doubtful = True
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._forget_all()
        except sqlite3.Error:
            pass
        except Exception as error:
            log_defect(_log, "reading tables again", error)

    def _forget_all(self) -> None:
        self._contents.forget_all()
        self._age.forget()
        self._doubtful = False
