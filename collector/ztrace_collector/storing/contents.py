"""Contents of a database file: all of its tables, and the changes that messages and parcels make to them."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ztrace.errors import WireError
from ztrace.wire import BYE, CRASH, OPEN, PROFILE, REFUSED, TOMBSTONE, Header, unpack_stretch
from ztrace_collector.checking.columns import Columns
from ztrace_collector.checking.messages import (
    Decoded,
    decode_spans,
    read_message,
    read_parcel,
    read_spans,
    read_together,
)
from ztrace_collector.checking.parcels import Outcome, Parcel
from ztrace_collector.checking.profiles import read_profile
from ztrace_collector.checking.text import cut
from ztrace_collector.refusals import (
    INTERNAL_ERROR,
    REPEATED_ID,
    SEVERAL_COLLECTORS,
    SPAN_REASONS,
    UNFINISHED,
    Refusals,
)
from ztrace_collector.storing.brought import Brought
from ztrace_collector.tables.accounts import Account
from ztrace_collector.tables.arrivals import Arrivals
from ztrace_collector.tables.exceptions import Exceptions
from ztrace_collector.tables.figures import MethodFigures
from ztrace_collector.tables.known import KnownSpans
from ztrace_collector.tables.losses import Losses
from ztrace_collector.tables.methods import Methods
from ztrace_collector.tables.profiles import Profiles
from ztrace_collector.tables.publishers import MAX_NAME, Publishers
from ztrace_collector.tables.shared import SharedIds
from ztrace_collector.tables.spans import Spans
from ztrace_collector.tables.traces import Traces
from ztrace_collector.tables.unfinished import Unfinished

#: Spans that are added at once: more gain nothing, and would not fit into the processor's cache.
TOGETHER = 256


@dataclass(slots=True)
class _Waiting:
    """Messages whose spans are added together."""

    messages: list[tuple[Account, Decoded]] = field(default_factory=list)
    span_count: int = 0


class Contents:
    """All tables, with their rows that belong to the transaction in progress.

    Attributes:
        publishers: the publishers' accounts.
        brought: bytes that each service has brought and that are not deleted.
        span_count: number of spans stored in the transaction in progress, or in the last one.
    """

    def __init__(self, db: sqlite3.Connection, refuse_several: Callable[[str], None] | None = None) -> None:
        self._db = db
        self._refuse_several = refuse_several
        self._has_refused = False
        #: Incarnations of the transaction that have several collectors, and may not.
        self._turned_away: set[bytes] = set()
        self.publishers = Publishers(db)
        self.brought = Brought(db)
        self._losses = Losses(db)
        self._methods = Methods(db)
        self._spans = Spans(db)
        self._traces = Traces(db, self._spans.unseal)
        self._arrivals = Arrivals(db)
        self._unfinished = Unfinished(db)
        self._known = KnownSpans(db)
        self._shared = SharedIds(db, self._methods, self._known)
        self._figures = MethodFigures(db)
        self._exceptions = Exceptions(db, self._spans.unseal)
        self._profiles = Profiles(db, self._methods)
        #: Messages of the transaction whose spans are not added yet, by service and fields of a span.
        self._waiting: dict[tuple[str, int], _Waiting] = {}
        self.span_count = 0

    def begin(self) -> None:
        """Prepare the tables for a transaction that has begun."""
        self._spans.hold_place()
        self.span_count = 0

    def add_message(self, frames: Sequence[bytes], now_ns: int, refusals: Refusals) -> None:
        """Add the spans and counts of a publisher's message.

        Ended spans wait until `write` for those of other messages of the same service, because many small
        batches cost several times as much as a large one.
        """
        try:
            header, body = read_message(frames)
            self._check_collectors(header)
            account = self.publishers.account_of(header, now_ns)
        except WireError as error:
            refusals.note(error.reason, str(error))
            return
        stretch = None
        if header.kind in (TOMBSTONE, BYE, CRASH):
            stretch = unpack_stretch(body)
            self._add_waiting(now_ns, refusals)  # Losses stay in the order of the messages.
        accepted, losses = account.receive(header, now_ns, stretch)
        self._losses.add(account.instance, losses)
        # An OPEN that was overtaken may report spans that have ended since; the next one will not.
        told = header.kind == OPEN and header.sequence >= account.next_sequence
        if not accepted and not told:
            return
        if header.kind == PROFILE:
            self._add_profile(account, body, now_ns, refusals)
            return
        try:
            decoded = decode_spans(header, body)
        except WireError as error:
            refusals.note(error.reason, str(error))
            if accepted:
                self.brought.add(account.service, len(body), 0)
                self._losses.add(account.instance, account.count(0, header.span_count))
            return
        if told:
            self._add_waiting(now_ns, refusals)
            columns = read_spans(decoded, refusals, finished=False)
            if columns is not None:
                self._spans.unseal(set(columns.trace_id))
                methods = self._methods.number(account.service, columns, refusals)
                self._unfinished.add(account.instance, account.service, columns, methods, now_ns, refusals)
            return
        # Those that are refused after all are taken off again.
        self.brought.add(account.service, len(body), len(decoded.spans))
        account.count(len(decoded.spans), 0)
        key = account.service, decoded.width if decoded.is_whole else 0
        waiting = self._waiting.setdefault(key, _Waiting())
        waiting.messages.append((account, decoded))
        waiting.span_count += len(decoded.spans)
        if waiting.span_count >= TOGETHER:
            del self._waiting[key]
            self._add_together(*key, waiting.messages, now_ns, refusals)

    def add_parcel(self, parcel: Parcel, now_ns: int, refusals: Refusals) -> Outcome:
        """Add spans that did not come from a publisher; of spans with the same ids, the first is kept."""
        self._add_waiting(now_ns, refusals)
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
        if columns is not None:
            self._spans.unseal(set(columns.trace_id))
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
    ) -> None:
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
            return
        if not is_exact:
            self._losses.add(account.instance, account.skip(header, now_ns))
            return
        accepted, losses = account.receive(header, now_ns)
        self._losses.add(account.instance, losses)
        if accepted:
            self._losses.add(account.instance, account.count(0, header.span_count))

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

    def write(self, now_ns: int, arrival_ns: int, refusals: Refusals) -> dict[bytes, int]:
        """Write the rows of everything added.

        Args:
            now_ns: present time, Unix.
            arrival_ns: time of their arrival, by `ztrace_collector.storing.clocks.Age`.
            refusals: counts of the corrections.

        Returns:
            The next sequence number of each incarnation that sent something, or REFUSED.
        """
        self._add_waiting(now_ns, refusals)
        self._spans.release_place()
        new_traces = self._traces.write()
        if new_traces:
            self._arrivals.write(new_traces[0], arrival_ns)
        self._unfinished.write()
        self._figures.write()
        self._exceptions.write(refusals)
        self._profiles.write(now_ns)
        self._losses.write()
        acknowledgements = self.publishers.write() | dict.fromkeys(self._turned_away, REFUSED)
        self._turned_away.clear()
        self._db.executemany(
            "UPDATE totals SET value = value + ? WHERE name = ?",
            [(self.span_count, "spans"), (len(new_traces), "traces")],
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
        self._waiting.clear()
        self._turned_away.clear()
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

    def _check_collectors(self, header: Header) -> None:
        """Refuse a publisher with several collectors where their files are not put together.

        Raises:
            WireError: the publisher has several.
        """
        if header.collectors < 2 or self._refuse_several is None:
            return
        self._turned_away.add(header.incarnation)
        if not self._has_refused:
            self._has_refused = True
            self._refuse_several(
                f"publishers of {cut(header.service, MAX_NAME)} have several collectors, which needs"
                " --clickhouse at each of them; they are refused, and keep their spans"
            )
        raise WireError(
            SEVERAL_COLLECTORS,
            f"{header.service[:80]!r} has {header.collectors}, and there is no --clickhouse",
        )

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
            stored = self._add_of(account, new, arrival_ns, refusals)
        if again is None:
            return stored
        halves, adoptions = self._shared.tell_apart(account.service, account.instance, again, refusals)
        if halves is None:
            return stored
        stored += self._add_of(account, halves, arrival_ns, refusals)
        self._shared.adopt(adoptions)
        self._exceptions.adopt(adoptions)
        for adoption in adoptions:
            if adoption.span_id is not None:
                self._traces.replace_root(adoption.trace_id, adoption.span_id, account.service)
        return stored

    def _add_waiting(self, now_ns: int, refusals: Refusals) -> None:
        """Add the spans of the messages that wait, those of a service together."""
        waiting, self._waiting = self._waiting, {}
        for key, each in waiting.items():
            self._add_together(*key, each.messages, now_ns, refusals)

    def _add_together(
        self,
        service: str,
        fields: int,
        messages: Sequence[tuple[Account, Decoded]],
        now_ns: int,
        refusals: Refusals,
    ) -> None:
        """Add the spans of messages of a service as one batch, or one by one if any needs correction."""
        columns = None
        if len(messages) > 1 and fields:
            columns = read_together([decoded for _, decoded in messages], refusals)
        if columns is not None:
            instances = [account.instance for account, decoded in messages for _ in decoded.spans]
            self._add_spans(service, instances, columns, now_ns, refusals)
            return
        for account, decoded in messages:
            columns = read_spans(decoded, refusals, finished=True)
            stored = 0 if columns is None else self._add_of(account, columns, now_ns, refusals)
            if refused := len(decoded.spans) - stored:
                self.brought.add(service, 0, -refused)
                self._losses.add(account.instance, account.count(-refused, refused))

    def _add_of(self, account: Account, columns: Columns, now_ns: int, refusals: Refusals) -> int:
        """Add spans of one process, and return their number."""
        instances = [account.instance] * len(columns)
        self._add_spans(account.service, instances, columns, now_ns, refusals)
        return len(columns)

    def _add_spans(
        self, service: str, instances: Sequence[int], columns: Columns, now_ns: int, refusals: Refusals
    ) -> None:
        methods = self._methods.number(service, columns, refusals)
        self._spans.insert(instances, columns, methods)
        self.span_count += len(columns)
        self._known.add(columns, methods)
        self._traces.add(service, columns, methods, now_ns, self._unfinished.has_other_root)
        self._unfinished.end(service, columns)
        self._figures.add(columns, methods)
        self._exceptions.add(instances, service, columns, refusals)


def _conclude(stored: int, accepted: int, noted: Refusals, refusals: Refusals) -> Outcome:
    refusals.add(noted)
    refused = {reason: noted.counts[reason] for reason in SPAN_REASONS if reason in noted.counts}
    return Outcome(stored, accepted - stored, refused)
