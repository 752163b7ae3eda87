"""Contents of a database file: all of its tables, and the changes that messages and parcels make to them."""

import sqlite3
from collections.abc import Iterable, Sequence

from ztrace.errors import WireError
from ztrace.wire import BYE, CRASH, OPEN, PROFILE, TOMBSTONE, unpack_stretch
from ztrace_collector.checking.columns import Columns
from ztrace_collector.checking.messages import read_message, read_parcel, read_spans
from ztrace_collector.checking.parcels import Outcome, Parcel
from ztrace_collector.checking.profiles import read_profile
from ztrace_collector.refusals import INTERNAL_ERROR, REPEATED_ID, SPAN_REASONS, UNFINISHED, Refusals
from ztrace_collector.storing.brought import Brought
from ztrace_collector.tables.accounts import Account
from ztrace_collector.tables.arrivals import Arrivals
from ztrace_collector.tables.exceptions import Exceptions
from ztrace_collector.tables.figures import MethodFigures
from ztrace_collector.tables.known import KnownSpans
from ztrace_collector.tables.losses import Losses
from ztrace_collector.tables.methods import Methods
from ztrace_collector.tables.profiles import Profiles
from ztrace_collector.tables.publishers import Publishers
from ztrace_collector.tables.shared import SharedIds
from ztrace_collector.tables.spans import Spans
from ztrace_collector.tables.traces import Traces
from ztrace_collector.tables.unfinished import Unfinished


class Contents:
    """All tables, with their rows that belong to the transaction in progress.

    Attributes:
        publishers: the publishers' accounts.
        brought: bytes that each service has brought and that are not deleted.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.publishers = Publishers(db)
        self.brought = Brought(db)
        self._losses = Losses(db)
        self._methods = Methods(db)
        self._spans = Spans(db)
        self._traces = Traces(db)
        self._arrivals = Arrivals(db)
        self._unfinished = Unfinished(db)
        self._known = KnownSpans(db)
        self._shared = SharedIds(db, self._methods, self._known)
        self._figures = MethodFigures(db)
        self._exceptions = Exceptions(db)
        self._profiles = Profiles(db, self._methods)

    def begin(self) -> None:
        """Prepare the tables for a transaction that has begun."""
        self._spans.hold_place()

    def add_message(self, frames: Sequence[bytes], now_ns: int, refusals: Refusals) -> int:
        """Add the spans and counts of a publisher's message; return how many of its spans are stored."""
        try:
            header, body = read_message(frames)
            account = self.publishers.account_of(header, now_ns)
        except WireError as error:
            refusals.note(error.reason, str(error))
            return 0
        stretch = unpack_stretch(body) if header.kind in (TOMBSTONE, BYE, CRASH) else None
        accepted, losses = account.receive(header, now_ns, stretch)
        self._losses.add(account.instance, losses)
        # An OPEN that was overtaken may report spans that have ended since; the next one will not.
        told = header.kind == OPEN and header.sequence >= account.next_sequence
        if not accepted and not told:
            return 0
        if header.kind == PROFILE:
            self._add_profile(account, body, now_ns, refusals)
            return 0
        try:
            columns = read_spans(header, body, refusals)
        except WireError as error:
            refusals.note(error.reason, str(error))
            columns = None
        if told:
            if columns is not None:
                methods = self._methods.number(account.service, columns, refusals)
                self._unfinished.add(account.instance, account.service, columns, methods, now_ns, refusals)
            return 0
        stored = 0 if columns is None else self._add_spans(account, columns, now_ns, refusals)
        self.brought.add(account.service, len(body), stored)
        self._losses.add(account.instance, account.count(stored, header.span_count - stored))
        return stored

    def add_parcel(self, parcel: Parcel, now_ns: int, refusals: Refusals) -> Outcome:
        """Add spans that did not come from a publisher; of spans with the same ids, the first is kept."""
        arrival_ns, now_ns = now_ns, min(now_ns, parcel.seen_ns) or now_ns
        noted = Refusals()
        for reason, number in (*parcel.refused.items(), *parcel.mended.items()):
            noted.note(reason, f"of {parcel.resource.service[:80]}", number)
        count = parcel.span_count + sum(parcel.refused.values())
        try:
            account = self.publishers.account_of_resource(parcel.resource, now_ns, noted)
        except WireError as error:
            refusals.note(error.reason, str(error), count)
            return Outcome(0, 0, {error.reason: count})
        columns = read_parcel(parcel, noted)
        accepted = 0 if columns is None else len(columns)
        if columns is not None and not parcel.finished:
            methods = self._methods.number(account.service, columns, noted)
            opened = self._unfinished.add(account.instance, account.service, columns, methods, now_ns, noted)
            # A refused unfinished span is not lost yet: its end may still arrive, as with a publisher's.
            self._losses.add(account.instance, account.take(0, count - parcel.span_count, now_ns))
            accepted -= noted.counts.get(UNFINISHED, 0)
            return _conclude(opened, accepted, noted, refusals)
        stored = 0
        if columns is not None:
            stored = self._add_each_once(account, columns, arrival_ns, noted)
            accepted -= noted.counts.get(REPEATED_ID, 0)
        self.brought.add(account.service, len(parcel.body), stored)
        self._losses.add(account.instance, account.take(stored, count - accepted, now_ns))
        return _conclude(stored, accepted, noted, refusals)

    def refuse_message(
        self, frames: Sequence[bytes], now_ns: int, refusals: Refusals, *, detail: str, is_exact: bool
    ) -> int:
        """Count a message that causes an internal error: its number is used up, and its spans are lost.

        Args:
            frames: the message.
            now_ns: the time of its arrival, Unix.
            refusals: counts the refusal.
            detail: the exception.
            is_exact: apply the message's header; if that fails too, `Account.skip` does the minimum.
        """
        refusals.note(INTERNAL_ERROR, detail)
        try:
            header, _ = read_message(frames)
            account = self.publishers.account_of(header, now_ns)
        except WireError:
            return 0
        if not is_exact:
            self._losses.add(account.instance, account.skip(header, now_ns))
            return 0
        accepted, losses = account.receive(header, now_ns)
        self._losses.add(account.instance, losses)
        if accepted:
            self._losses.add(account.instance, account.count(0, header.span_count))
        return 0

    def refuse_parcel(
        self, parcel: Parcel, now_ns: int, refusals: Refusals, *, detail: str, is_exact: bool
    ) -> Outcome:
        """Count a parcel that causes an internal error; the arguments are those of `refuse_message`."""
        count = parcel.span_count + sum(parcel.refused.values())
        refusals.note(INTERNAL_ERROR, detail, count)
        if is_exact:
            try:
                account = self.publishers.account_of_resource(parcel.resource, now_ns, refusals)
            except WireError:
                pass
            else:
                self._losses.add(account.instance, account.take(0, count, now_ns))
        return Outcome(0, 0, {INTERNAL_ERROR: count})

    def write(self, span_count: int, now_ns: int, arrival_ns: int, refusals: Refusals) -> dict[bytes, int]:
        """Write the rows of everything added.

        Args:
            span_count: number of spans stored in this transaction.
            now_ns: present time, Unix.
            arrival_ns: time of their arrival, by `ztrace_collector.storing.clocks.Age`.
            refusals: counts of the corrections.

        Returns:
            The next sequence number of each incarnation that sent something.
        """
        self._spans.release_place()
        new_traces = self._traces.write()
        if new_traces:
            self._arrivals.write(new_traces[0], arrival_ns)
        self._unfinished.write()
        self._figures.write()
        self._exceptions.write(refusals)
        self._profiles.write(now_ns)
        self._losses.write()
        acknowledgements = self.publishers.write()
        self._db.executemany(
            "UPDATE totals SET value = value + ? WHERE name = ?",
            [(span_count, "spans"), (len(new_traces), "traces")],
        )
        return acknowledgements

    def trim(self) -> None:
        """Bound the memory of the tables, after a commit."""
        self._methods.trim()
        self._profiles.trim()

    def forget(self, table: str) -> None:
        """Drop a table's rows from memory, between transactions, after rows were deleted by other means."""
        if table == "method_figures":
            self._figures.forget()
        elif table == "exception_groups":
            self._exceptions.forget()
        elif table == "losses":
            self._losses.forget()
        elif table == "publishers":
            self.publishers.forget()
        elif table == "unfinished_spans":
            self._unfinished.forget()
        elif table == "stacks":
            self._profiles.forget()

    def forget_traces(self, trace_ids: Iterable[bytes]) -> None:
        """Drop traces from memory, between transactions, after their rows were deleted by other means."""
        forgotten = list(trace_ids)
        self._traces.drop(forgotten)
        self._known.drop(forgotten)
        self._unfinished.drop(forgotten)

    def forget_all(self) -> None:
        """Drop everything from memory after a rollback."""
        self.publishers.forget()
        self._losses.forget()
        self._methods.forget()
        self._spans.forget()
        self._figures.forget()
        self._exceptions.forget()
        self._traces.forget()
        self._arrivals.forget()
        self._known.forget()
        self._unfinished.forget()
        self._profiles.forget()

    def _add_profile(self, account: Account, body: bytes, now_ns: int, refusals: Refusals) -> None:
        """Add the samples of a message; those of a refused one are counted as missing before the next."""
        try:
            profile = read_profile(body)
        except WireError as error:
            refusals.note(error.reason, str(error))
            return
        self._profiles.add(account.instance, account.service, profile, now_ns, refusals)
        account.sampled.take(profile.first, profile.samples)
        self.brought.add(account.service, len(body), 0)

    def _add_each_once(self, account: Account, columns: Columns, arrival_ns: int, refusals: Refusals) -> int:
        """Add the spans of a batch that are not stored yet, and return their number."""
        new, again = self._known.split(columns)
        stored = 0
        if new is not None:
            self._shared.follow(new, account.instance)
            stored = self._add_spans(account, new, arrival_ns, refusals)
        if again is None:
            return stored
        halves, adoptions = self._shared.tell_apart(account.service, account.instance, again, refusals)
        if halves is None:
            return stored
        stored += self._add_spans(account, halves, arrival_ns, refusals)
        self._shared.adopt(adoptions)
        self._exceptions.adopt(adoptions)
        for adoption in adoptions:
            if adoption.span_id is not None:
                self._traces.replace_root(adoption.trace_id, adoption.span_id, account.service)
        return stored

    def _add_spans(self, account: Account, columns: Columns, now_ns: int, refusals: Refusals) -> int:
        service = account.service
        methods = self._methods.number(service, columns, refusals)
        self._spans.insert(account.instance, columns, methods)
        self._known.add(columns, methods)
        self._traces.add(service, columns, methods, now_ns, self._unfinished.has_other_root)
        self._unfinished.end(service, columns)
        self._figures.add(columns, methods)
        self._exceptions.add(account.instance, service, columns, refusals)
        return len(columns)


def _conclude(stored: int, accepted: int, noted: Refusals, refusals: Refusals) -> Outcome:
    refusals.add(noted)
    refused = {reason: noted.counts[reason] for reason in SPAN_REASONS if reason in noted.counts}
    return Outcome(stored, accepted - stored, refused)
