"""Messages to rows: everything that some messages bring about, in one transaction.

One idea: either all of it is in the database, spans, figures, accounts and sequence numbers, or none of it
is, and then nothing of it stays in memory either. Only what is committed is acknowledged, so a publisher that
hears nothing sends it again.
"""

import gc
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from ztrace.errors import WireError
from ztrace.wire import BYE, CRASH, OPEN, TOMBSTONE, unpack_stretch
from ztrace_collector.checking.columns import Columns, link_texts, read_message, read_parcel, read_spans
from ztrace_collector.checking.parcels import Outcome, Parcel
from ztrace_collector.layout import SILENT_AFTER_NS
from ztrace_collector.refusals import SPAN_REASONS, UNFINISHED, Refusals
from ztrace_collector.storing.database import close_database, explain, open_database, take_in_log
from ztrace_collector.tables.accounts import Account
from ztrace_collector.tables.exceptions import Exceptions
from ztrace_collector.tables.figures import MethodFigures
from ztrace_collector.tables.known import KnownSpans
from ztrace_collector.tables.losses import Losses
from ztrace_collector.tables.methods import Methods
from ztrace_collector.tables.publishers import Publishers
from ztrace_collector.tables.rows import Insert
from ztrace_collector.tables.traces import Traces
from ztrace_collector.tables.unfinished import Unfinished

_COLUMNS = (
    "trace_id, span_id, parent_id, method, instance, start_ns, duration_ns, self_ns, cpu_ns, status,"
    " attributes, links"
)
#: Most batches have no details, and each column costs a hundredth.
_SPANS, _DETAILED = Insert("spans", _COLUMNS), Insert("spans", f"{_COLUMNS}, details")

_PLACE = (
    "INSERT INTO spans (id, trace_id, span_id, method, instance, start_ns, status)"
    " VALUES (?, x'', x'', 0, 0, 0, 0)"
)


class Written(NamedTuple):
    """What came of a transaction.

    Attributes:
        acknowledgements: the next sequence number of each incarnation that sent something.
        outcomes: of each parcel; None if nothing could be stored.
    """

    acknowledgements: dict[bytes, int]
    outcomes: list[Outcome] | None


class Store:
    """A database file, opened for writing.

    Attributes:
        span_count: spans stored since it was opened.
        refused_count: messages and spans refused or mended since it was opened.
        noted: refusals to be written with the next transaction.
    """

    def __init__(self, path: Path, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        """Open, make or bring up to date the file.

        Raises:
            DatabaseError: one of its classes.
        """
        self.span_count = 0
        self.refused_count = 0
        self._path = path
        self._clock_ns = clock_ns
        #: What is in memory may not be what is in the file.
        self._doubtful = False
        self.noted = Refusals()
        self._db, self._lock = open_database(path)
        try:
            self._publishers = Publishers(self._db)
            self._losses = Losses(self._db)
            self._methods = Methods(self._db)
            self._traces = Traces(self._db)
            self._unfinished = Unfinished(self._db)
            self._known = KnownSpans(self._db)
            self._figures = MethodFigures(self._db)
            self._exceptions = Exceptions(self._db)
            self._last_id = last_span_id(self._db)
        except sqlite3.Error as error:
            self.close()
            raise explain(error, path) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and give its lock back."""
        try:
            close_database(self._db)
        finally:
            self._lock.release()

    @property
    def publisher_count(self) -> int:
        """How many publishers are there now."""
        return self._publishers.count_alive(self._clock_ns() - SILENT_AFTER_NS)

    def store(self, messages: Sequence[Sequence[bytes]] = (), parcels: Sequence[Parcel] = ()) -> Written:
        """Write in one transaction what messages and parcels bring, and the refusals noted.

        Args:
            messages: the frames of each, as they were received.
            parcels: spans that did not come from publishers.

        Returns:
            The acknowledgements to send, and the outcome of each parcel.

        Raises:
            DatabaseError: nothing is written and nothing may be acknowledged; the store can be used again.
        """
        # A batch is thousands of objects and no cycle: looking for cycles in them costs a tenth of the time.
        collecting = gc.isenabled()
        gc.disable()
        try:
            return self._store(messages, parcels)
        except sqlite3.Error as error:
            self._roll_back()
            raise explain(error, self._path) from error
        except BaseException:
            self._roll_back()
            raise
        finally:
            if collecting:
                gc.enable()

    def checkpoint(self) -> None:
        """Take the log into the database and cut it to nothing, as far as readers and the disk let it."""
        take_in_log(self._db)

    def read(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return a query's rows, for what is done beside storing.

        Raises:
            DatabaseError: they cannot be read.
        """
        try:
            return self._db.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise explain(error, self._path) from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection in a transaction, for what is done beside storing.

        Raises:
            DatabaseError: nothing of it is in the database; the store can be used again.
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
        """Drop a table's rows from memory, between transactions: somebody else has deleted some of them."""
        if table == "method_figures":
            self._figures.forget()
        elif table == "losses":
            self._losses.forget()
        elif table == "publishers":
            self._publishers.forget()
        elif table == "unfinished_spans":
            self._unfinished.forget()

    def forget_traces(self, trace_ids: Iterable[bytes]) -> None:
        """Drop from memory what is known of traces whose rows somebody else deletes, between transactions."""
        forgotten = list(trace_ids)
        self._traces.drop(forgotten)
        self._known.drop(forgotten)
        self._unfinished.drop(forgotten)

    def _store(self, messages: Sequence[Sequence[bytes]], parcels: Sequence[Parcel]) -> Written:
        now_ns = self._clock_ns()
        refusals = Refusals()
        self._begin()
        held_place = self._hold_place()
        span_count = sum([self._take(frames, now_ns, refusals) for frames in messages])
        outcomes = [self._take_foreign(parcel, now_ns, refusals) for parcel in parcels]
        taken = zip(parcels, outcomes, strict=True)
        span_count += sum([outcome.stored for parcel, outcome in taken if parcel.finished])
        if held_place:
            self._db.execute("DELETE FROM spans WHERE id = ?", (held_place,))
        trace_count = self._traces.write()
        self._unfinished.write()
        self._figures.write()
        self._exceptions.write()
        refusals.write(self._db, now_ns)
        self.noted.write(self._db, now_ns)
        self._losses.write()
        acknowledgements = self._publishers.write()
        self._db.executemany(
            "UPDATE totals SET value = value + ? WHERE name = ?",
            [(span_count, "spans"), (trace_count, "traces")],
        )
        self._db.execute("COMMIT")
        self._methods.trim()
        self.span_count += span_count
        self.refused_count += refusals.total + self.noted.total
        self.noted = Refusals()
        return Written(acknowledgements, outcomes)

    def _hold_place(self) -> int:
        """Put a row where the last span was if that has been deleted: SQLite counts on from the highest.

        Returns:
            The row's id, 0 if it needs none.
        """
        (highest,) = self._db.execute("SELECT coalesce(max(id), 0) FROM spans").fetchone()
        if highest >= self._last_id:
            return 0
        self._db.execute(_PLACE, (self._last_id,))
        return self._last_id

    def _begin(self) -> None:
        if self._doubtful:
            self._forget_all()
        self._db.execute("BEGIN IMMEDIATE")

    def _roll_back(self) -> None:
        """Leave nothing of a transaction, in the file or in memory; what cannot be read anew now is later."""
        self._doubtful = True
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._forget_all()
        except sqlite3.Error:
            pass

    def _forget_all(self) -> None:
        self._publishers.forget()
        self._losses.forget()
        self._methods.forget()
        self._figures.forget()
        self._exceptions.forget()
        self._traces.forget()
        self._known.forget()
        self._unfinished.forget()
        self._last_id = last_span_id(self._db)
        self._doubtful = False

    def _take(self, frames: Sequence[bytes], now_ns: int, refusals: Refusals) -> int:
        """Work one message in; return how many spans of it are stored."""
        try:
            header, body = read_message(frames)
            account = self._publishers.account_of(header, now_ns)
        except WireError as error:
            refusals.note(error.reason, str(error))
            return 0
        stretch = unpack_stretch(body) if header.kind in (TOMBSTONE, BYE, CRASH) else None
        accepted, losses = account.receive(header, now_ns, stretch)
        self._losses.add(account.instance, losses)
        # An OPEN that was overtaken may tell of spans whose end has come; there will be another.
        told = header.kind == OPEN and header.sequence >= account.next_sequence
        if not accepted and not told:
            return 0
        try:
            columns = read_spans(header, body, refusals)
        except WireError as error:
            refusals.note(error.reason, str(error))
            columns = None
        if told:
            if columns is not None:
                methods = self._methods.number(account.service, columns, refusals)
                self._unfinished.add(account.instance, columns, methods, now_ns, refusals)
            return 0
        stored = 0 if columns is None else self._insert(account, columns, refusals)
        self._losses.add(account.instance, account.count(stored, header.span_count - stored))
        return stored

    def _take_foreign(self, parcel: Parcel, now_ns: int, refusals: Refusals) -> Outcome:
        """Work spans in that did not come from a publisher; of each the first that comes is kept."""
        now_ns = min(now_ns, parcel.seen_ns) or now_ns
        noted = Refusals()
        for reason, number in (*parcel.refused.items(), *parcel.mended.items()):
            noted.note(reason, f"of {parcel.resource.service[:80]}", number)
        count = parcel.span_count + sum(parcel.refused.values())
        try:
            account = self._publishers.account_of_resource(parcel.resource, now_ns, noted)
        except WireError as error:
            refusals.note(error.reason, str(error), count)
            return Outcome(0, 0, {error.reason: count})
        columns = read_parcel(parcel, noted)
        accepted = 0 if columns is None else len(columns.span_ids)
        if columns is not None and not parcel.finished:
            methods = self._methods.number(account.service, columns, noted)
            opened = self._unfinished.add(account.instance, columns, methods, now_ns, noted)
            # One that has not ended is not lost yet, as with a publisher's.
            self._losses.add(account.instance, account.take(0, count - parcel.span_count, now_ns))
            accepted -= noted.counts.get(UNFINISHED, 0)
            return self._conclude(opened, accepted, noted, refusals)
        new = None if columns is None else self._known.without(columns)
        stored = 0 if new is None else self._insert(account, new, noted)
        self._losses.add(account.instance, account.take(stored, count - accepted, now_ns))
        return self._conclude(stored, accepted, noted, refusals)

    def _conclude(self, stored: int, accepted: int, noted: Refusals, refusals: Refusals) -> Outcome:
        refusals.add(noted)
        refused = {reason: noted.counts[reason] for reason in SPAN_REASONS if reason in noted.counts}
        return Outcome(stored, accepted - stored, refused)

    def _insert(self, account: Account, columns: Columns, refusals: Refusals) -> int:
        service = account.service
        methods = self._methods.number(service, columns, refusals)
        has_details = columns.details.count(None) < len(columns.details)
        rows = zip(
            columns.trace_ids,
            columns.span_ids,
            columns.parent_ids,
            methods,
            repeat(account.instance),
            columns.start_ns,
            columns.duration_ns,
            columns.self_ns,
            columns.cpu_ns,
            columns.statuses,
            columns.attributes,
            link_texts(columns),
            *([columns.details] if has_details else ()),
            strict=False,
        )
        (_DETAILED if has_details else _SPANS).write(self._db, rows, len(methods))
        self._last_id += len(methods)
        self._unfinished.end(columns)
        self._known.add(columns)
        self._traces.add(service, columns, methods)
        self._figures.add(columns, methods)
        self._exceptions.add(service, columns, refusals)
        return len(columns.trace_ids)


def last_span_id(db: sqlite3.Connection) -> int:
    """Return the id of the span that was stored last, also if it has been deleted since.

    Ids have no gaps and never come again, so that who has come as far as one of them knows what comes after
    it, and how much of that has been deleted meanwhile.
    """
    (last_id,) = db.execute(
        "SELECT max((SELECT coalesce(max(id), 0) FROM spans),"
        " (SELECT sum(value) FROM totals WHERE name IN ('spans', 'spans_expired')))"
    ).fetchone()
    return int(last_id)
