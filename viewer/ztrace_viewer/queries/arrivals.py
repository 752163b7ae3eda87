"""Call trees and errors as they arrive in ClickHouse.

One idea: there is no order of storing over several collectors, of which one may be minutes late or have
another clock. So the follower keeps a place in each journal, and reads what the journal has delivered since.
A look changes what the follower knows once all of its answers are there, so nothing is lost or repeated if
the server goes away in between.
"""

from collections.abc import Callable, Iterable, Iterator

from ztrace.errors import DatabaseError
from ztrace_collector.clickhouse.address import ClickHouseAddress
from ztrace_viewer.documents.errors import ExceptionEvent
from ztrace_viewer.documents.traces import TraceEvent
from ztrace_viewer.json_text import read_json
from ztrace_viewer.queries.exceptions import read_frames
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.clickhouse.arriving import Raised, Seen
from ztrace_viewer.queries.stores.clickhouse.store import ClickHouseStore, open_clickhouse
from ztrace_viewer.queries.summaries import summarise_all

#: Poll interval: collectors send once a second.
POLL_S = 1.0
#: Pending traces, and reported traces that are remembered, at most.
MAX_WAITING, MAX_REPORTED = 10_000, 100_000
#: Latest traces at the start that are pending if they have no root yet.
LOOK_BACK = 1_000
#: Time before the start in which they arrived, in milliseconds.
LOOK_BACK_MS = 60_000
#: Exceptions of one question, and latest ones of a journal that may come in another order.
PAGE, UNORDERED = 1_000, 1_000


def follow_arrivals(
    address: ClickHouseAddress,
    selection: Selection,
    pause: Callable[[float], None],
    tell: Callable[[str], None],
) -> Iterator[TraceEvent | ExceptionEvent]:
    """Yield events for ever; a database that is made again is followed from its beginning.

    The arguments are those of `ztrace_viewer.queries.following.follow`.

    Raises:
        DatabaseError: the database cannot be used at the start.
    """
    follower: ArrivalFollower | None = None
    engine, is_told = "", False
    while True:
        try:
            with open_clickhouse(address) as store:
                if follower is None or store.engine_id() != engine:
                    follower = ArrivalFollower(store, selection, from_start=follower is not None)
                    engine = store.engine_id()
                is_told = False
                while True:
                    # What a store has read it keeps, so each look has its own.
                    yield from follower.look(ClickHouseStore(store.reader))
                    pause(POLL_S)
        except DatabaseError as error:
            if follower is None:
                raise
            if not is_told:
                tell(f"{error.message}; waiting for it")
                is_told = True
            pause(POLL_S)


class ArrivalFollower:
    """Reader of what has arrived since the last look.

    Args:
        store: the store.
        selection: as for `ztrace_viewer.queries.following.Follower`.
        from_start: yield everything that is stored already, too.
    """

    def __init__(self, store: ClickHouseStore, selection: Selection, *, from_start: bool = False) -> None:
        self._selection = selection
        self._since_ns = 0 if selection.since_ns is None else selection.since_ns
        #: Arrival up to which the spans of each journal were known at the start, and are known now.
        self._known = self._last = store.delivered()
        if from_start or selection.since_ns is not None:
            traces = store.traces_since(self._since_ns, MAX_WAITING)
            self._exceptions: dict[str, Seen] = {}
        else:
            after = {journal: end_ms - LOOK_BACK_MS for journal, end_ms in self._known.items()}
            traces = store.rootless_traces(after, self._known, LOOK_BACK)
            self._exceptions = store.last_exceptions(UNORDERED)
        #: Span count at the last look of the pending traces.
        self._waiting: dict[bytes, int] = dict.fromkeys(traces, 0)
        self._reported: dict[bytes, None] = {}

    def look(self, store: ClickHouseStore) -> list[TraceEvent | ExceptionEvent]:
        """Return the errors, then the call trees, that arrived since the last call."""
        delivered = store.delivered()
        exceptions, errors = self._read_exceptions(store)
        grown = {
            journal: end_ms for journal, end_ms in delivered.items() if end_ms != self._last.get(journal)
        }
        waiting = dict(self._waiting)
        if grown:
            for trace_id in store.traces_between(self._last, grown, self._known, MAX_WAITING):
                if trace_id not in self._reported:
                    waiting.setdefault(trace_id, 0)
        for trace_id in list(waiting)[: max(0, len(waiting) - MAX_WAITING)]:
            del waiting[trace_id]
        rows = store.traces(waiting) if waiting else {}
        settled = []
        for trace_id, row in rows.items():
            if row.root_span_id is not None and waiting[trace_id] == row.span_count:
                settled.append(row)
            waiting[trace_id] = row.span_count
        wanted = [row for row in settled if self._wants(row.service, row.name, row.start_ns)]
        trees: list[TraceEvent | ExceptionEvent] = [
            {"event": "trace", **summary} for summary in summarise_all(store, wanted)
        ]
        for row in settled:
            del waiting[row.trace_id]
        self._report([*errors, *(row.trace_id for row in settled)])
        self._waiting, self._last, self._exceptions = waiting, delivered, exceptions
        return [*errors.values(), *trees]

    def _read_exceptions(self, store: ClickHouseStore) -> tuple[dict[str, Seen], dict[bytes, ExceptionEvent]]:
        """Return the exceptions that are seen from now on, and the events of new ones by their ids."""
        seen = dict(self._exceptions)
        events: dict[bytes, ExceptionEvent] = {}
        while page := store.raised_after(seen, self._since_ns, PAGE):
            methods = store.methods_of({(row.trace_id, row.span_id) for row in page})
            known = store.methods()
            # An exception may arrive before its span, and from the collectors of two publishers' lives.
            read = [row for row in page if methods.get((row.trace_id, row.span_id)) in known]
            for row in read:
                ids, method = row.trace_id + row.span_id, known[methods[row.trace_id, row.span_id]]
                if ids not in self._reported and self._wants(method.service, method.name, row.at_ns):
                    events.setdefault(ids, _describe(row, method.service, method.name))
            _see(seen, read)
            if len(page) < PAGE or not read:
                break
        return seen, events

    def _report(self, ids: Iterable[bytes]) -> None:
        """Remember what is reported: a trace by its id, an exception by those of its trace and its span."""
        self._reported.update(dict.fromkeys(ids))
        for each in list(self._reported)[: max(0, len(self._reported) - MAX_REPORTED)]:
            del self._reported[each]

    def _wants(self, service: str, name: str, moment_ns: int) -> bool:
        selection = self._selection
        return (
            selection.service in (None, service)
            and selection.method in (None, name)
            and moment_ns >= self._since_ns
        )


def _see(seen: dict[str, Seen], rows: Iterable[Raised]) -> None:
    """Add exceptions to those that are seen; of each journal, the ids of the last ones are kept."""
    by_journal: dict[str, set[int]] = {}
    for row in rows:
        by_journal.setdefault(row.journal, set()).add(row.id)
    for journal, ids in by_journal.items():
        before = seen.get(journal, Seen(0, frozenset()))
        ids |= before.ids
        up_to = max(before.up_to, max(ids) - UNORDERED)
        seen[journal] = Seen(up_to, frozenset(id_ for id_ in ids if id_ > up_to))


def _describe(row: Raised, service: str, name: str) -> ExceptionEvent:
    return {
        "event": "error",
        "at_ns": row.at_ns,
        "trace_id": row.trace_id.hex(),
        "span_id": row.span_id.hex(),
        "service": service,
        "name": name,
        "type": row.type,
        "message": row.message,
        "group": row.fingerprint,
        "frames": read_frames(read_json(row.frames)),
    }
