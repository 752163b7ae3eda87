"""Call trees and errors as they arrive.

One idea: rows of a file are numbered in the order of storing, so new ones have higher ids. A trace is
reported once its root is stored and no span has arrived since the last poll, because processes send
independently and the root's process is not always the last. ClickHouse is followed by
`ztrace_viewer.queries.arrivals`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ztrace.errors import DatabaseError
from ztrace_collector.layout import HOUR_NS
from ztrace_viewer.documents.errors import ExceptionEvent
from ztrace_viewer.documents.traces import TraceEvent
from ztrace_viewer.json_text import read_json
from ztrace_viewer.queries.exceptions import read_frames
from ztrace_viewer.queries.rows import name_columns, read
from ztrace_viewer.queries.selection import Selection, match_names
from ztrace_viewer.queries.stores.source import Source
from ztrace_viewer.queries.stores.sqlite.store import SqliteStore, open_file
from ztrace_viewer.queries.summaries import summarise_all

#: Poll interval: immediate to a reader, and negligible work.
POLL_S = 0.25
#: Pending traces at most; beyond, the oldest are discarded, as their root may never arrive.
MAX_WAITING = 10_000
#: Latest rows at the start that are pending if they have no root yet.
_LOOK_BACK = 1_000
#: Rows of one query: below the limit of parameters of every SQLite.
_CHUNK = 500


def follow(
    database: Source, selection: Selection, pause: Callable[[float], None], tell: Callable[[str], None]
) -> Iterator[TraceEvent | ExceptionEvent]:
    """Yield events for ever; a database that replaces the first one is followed from its beginning.

    Args:
        database: the database; a file may be deleted or replaced meanwhile, and a server away.
        selection: as in `Follower`.
        pause: waits for so many seconds between two polls.
        tell: called with a message once the database is gone.

    Raises:
        DatabaseError: the database cannot be used at the start.
    """
    if isinstance(database, Path):
        yield from _follow_file(database, selection, pause, tell)
    else:
        from ztrace_viewer.queries.arrivals import follow_arrivals

        yield from follow_arrivals(database, selection, pause, tell)


def _follow_file(
    database: Path, selection: Selection, pause: Callable[[float], None], tell: Callable[[str], None]
) -> Iterator[TraceEvent | ExceptionEvent]:
    is_first, is_told = True, False
    while True:
        try:
            with open_file(database, snapshot=False) as store:
                followed = _identify(database)
                follower = Follower(store, selection, from_start=not is_first)
                is_first = is_told = False
                while True:
                    # Before looking, so that what was stored until the file was replaced is read as well.
                    is_replaced = _identify(database) != followed
                    yield from follower.look()
                    if is_replaced:
                        yield from follower.look()  # A tree is reported once a look finds nothing new of it.
                        break
                    pause(POLL_S)
        except DatabaseError as error:
            if is_first:
                raise
            if not is_told:
                tell(f"{error.message}; waiting for it")
                is_told = True
            pause(POLL_S)


def _identify(database: Path) -> tuple[int, int] | None:
    """Return an identity of a file, which another file under its name does not have."""
    try:
        found = database.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class _Raised(NamedTuple):
    """An exception at its origin."""

    id: int
    at_ns: int
    trace_id: bytes
    span_id: bytes
    service: str
    name: str
    type: str
    message: str
    fingerprint: str | None
    frames: str


_COLUMNS = name_columns(
    _Raised,
    service="methods.service",
    name="methods.name",
    **{name: f"exceptions.{name}" for name in ("id", "trace_id", "span_id", "type", "message", "frames")},
)
_RAISED = f"""
SELECT {_COLUMNS} FROM exceptions
    JOIN {{}} AS spans ON spans.trace_id = exceptions.trace_id AND spans.span_id = exceptions.span_id
    JOIN methods ON methods.id = spans.method
    LEFT JOIN exception_groups ON exception_groups.id = exception_group
"""
#: Traces whose spans are sealed, of exceptions that began before the follower.
_SEALED = """
SELECT DISTINCT traces.trace_id FROM exceptions JOIN traces USING (trace_id)
    JOIN sealed_traces ON trace = traces.id WHERE exceptions.id BETWEEN ? AND ?
"""


class _Count(NamedTuple):
    id: int
    span_count: int


class Follower:
    """Reader of the rows stored since the last poll.

    Args:
        store: the file's store, without a snapshot.
        selection: service and method of a trace's root and of an exception's origin. With ``since_ns``,
            traces and exceptions since then are yielded first.
        from_start: yield everything that is stored already, too.
    """

    def __init__(self, store: SqliteStore, selection: Selection, *, from_start: bool = False) -> None:
        self._store = store
        self._selection = selection
        self._last_trace = 0 if from_start else self._last("traces")
        self._last_exception = 0 if from_start else self._last("exceptions")
        #: Span count at the last poll, by row id, of the pending traces.
        self._waiting: dict[int, int] = {}
        if selection.since_ns is not None and not from_start:
            rows = store.db.execute(
                "SELECT id FROM traces WHERE hour >= ? AND start_ns >= ? AND id <= ? ORDER BY id",
                (selection.since_ns // HOUR_NS, selection.since_ns, self._last_trace),
            )
            self._last_exception = self._exception_before(selection.since_ns)
        else:
            rows = store.db.execute(
                "SELECT id FROM traces WHERE id > ? AND id <= ? AND root_span_id IS NULL",
                (self._last_trace - _LOOK_BACK, self._last_trace),
            )
        self._waiting.update((row_id, 0) for (row_id,) in rows)

    def look(self) -> Iterator[TraceEvent | ExceptionEvent]:
        """Yield the errors, then the call trees, that arrived since the last call."""
        yield from self._exceptions()
        yield from self._traces()

    def _last(self, table: str) -> int:
        return int(self._store.db.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0])

    def _exception_before(self, since_ns: int) -> int:
        """Return the last row id before the first exception since then."""
        query = "SELECT coalesce(min(id) - 1, ?) FROM exceptions WHERE at_ns >= ?"
        return int(self._store.db.execute(query, (self._last_exception, since_ns)).fetchone()[0])

    def _traces(self) -> Iterator[TraceEvent]:
        new = self._store.db.execute(
            "SELECT id FROM traces WHERE id > ? ORDER BY id", (self._last_trace,)
        ).fetchall()
        if new:
            self._last_trace = new[-1][0]
            self._waiting.update((row_id, 0) for (row_id,) in new)
        for row_id in list(self._waiting)[: max(0, len(self._waiting) - MAX_WAITING)]:
            del self._waiting[row_id]
        for row_id in self._settled():
            del self._waiting[row_id]
            trace = self._store.trace_by_id(row_id)
            if trace is not None and self._wants(trace.service, trace.name, trace.start_ns):
                yield {"event": "trace", **summarise_all(self._store, [trace])[0]}

    def _settled(self) -> list[int]:
        settled = []
        waiting = sorted(self._waiting)
        for begin in range(0, len(waiting), _CHUNK):
            chunk = waiting[begin : begin + _CHUNK]
            marks = ",".join("?" * len(chunk))
            query = (
                f"SELECT {name_columns(_Count)} FROM traces"
                f" WHERE id IN ({marks}) AND root_span_id IS NOT NULL"
            )
            for row in read(self._store.db, _Count, query, chunk):
                if self._waiting[row.id] == row.span_count:
                    settled.append(row.id)
                self._waiting[row.id] = row.span_count
        return settled

    def _exceptions(self) -> Iterator[ExceptionEvent]:
        first, last = self._last_exception, self._last("exceptions")
        self._last_exception = last
        conditions, values = match_names(self._selection, "methods.service", "methods.name")
        conditions += [
            "exceptions.origin_span_id = exceptions.span_id",
            "exceptions.origin_trace_id = exceptions.trace_id",
            "exceptions.id BETWEEN ? AND ?",
        ]
        query, found = f"{_RAISED} WHERE {' AND '.join(conditions)}", [*values, first + 1, last]
        db = self._store.db
        rows = {row.id: row for row in read(db, _Raised, query.format("spans"), found)}
        for trace_id in db.execute(_SEALED, (first + 1, last)).fetchall():
            of_trace = f"{query.format('all_spans')} AND spans.trace_id = ?"
            rows.update((row.id, row) for row in read(db, _Raised, of_trace, [*found, *trace_id]))
        for _, row in sorted(rows.items()):
            if self._in_time(row.at_ns):
                yield {
                    "event": "error",
                    "at_ns": row.at_ns,
                    "trace_id": row.trace_id.hex(),
                    "span_id": row.span_id.hex(),
                    "service": row.service,
                    "name": row.name,
                    "type": row.type,
                    "message": row.message,
                    "group": row.fingerprint or "",
                    "frames": read_frames(read_json(row.frames)),
                }

    def _wants(self, service: str, name: str, start_ns: int) -> bool:
        selection = self._selection
        return (
            selection.service in (None, service)
            and selection.method in (None, name)
            and self._in_time(start_ns)
        )

    def _in_time(self, moment_ns: int) -> bool:
        return self._selection.since_ns is None or moment_ns >= self._selection.since_ns
