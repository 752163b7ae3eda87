"""Settling: trees that are complete, as far as is known, are added to the figures by path.

One idea: the settler follows the table ``spans`` by its ids, which are the order of arrival, and reads spans
once they are some seconds old. A tree is counted when none of its spans is younger, and ``settled`` has the
id of its last span then. A later span makes the tree due again: what was counted is subtracted, and the tree
is recounted. Each step is a transaction, so the work of a killed collector is neither lost nor done twice.
"""

import sqlite3
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial

from ztrace.records import KIND_NUMBERS
from ztrace_collector.layout import (
    HOUR_NS,
    LATE,
    LEFT_OUT,
    MINUTE_NS,
    PATH_MINUTES_NS,
    RESOLUTIONS_S,
    SETTLED,
)
from ztrace_collector.settling.clocks import Call, ClockBounds, Hosts, align, read_host
from ztrace_collector.settling.counting import Counted, SpanRow, count_tree
from ztrace_collector.settling.figures import PathFigures, read_counted, write_counted
from ztrace_collector.settling.paths import Paths
from ztrace_collector.settling.reading import LAST, TreeReader, TreeRows
from ztrace_collector.settling.shapes import Shapes
from ztrace_collector.settling.swept import Swept
from ztrace_collector.settling.together import Together
from ztrace_collector.settling.versions import Versions
from ztrace_collector.storing.store import Store
from ztrace_collector.storing.writer import Writer
from ztrace_collector.tables.rows import Insert

#: Time without a new span after which a tree is counted; time for which open spans are waited for, and the
#: interval of looking whether they are still open.
QUIET_S, OPEN_S, OPEN_AGAIN_S = 3.0, 60.0, 5.0
#: Interval of looking for new spans, and of deleting old figures by minute.
LOOK_S, SWEEP_S = 1.0, 600.0
#: Duration of a step, after which the collector looks for messages again.
STEP_S = 0.02
#: Spans read in a step, as many as are counted in its time, and trees that may wait: beyond, the settler
#: falls behind.
MAX_LOOKED_AT, MAX_WAITING = 4_000, 50_000
#: Age from which a tree may be one that was counted before and has expired.
LATE_NS = 10 * MINUTE_NS
#: Spans of a tree that is left out: counting more would take half a second each time.
MAX_SPANS = 50_000

_SETTLE = Insert("settled", "trace, span")


class _Waiting:
    """A tree that is to be counted.

    Attributes:
        first: id of its first span that is not counted.
        since_s: time at which that span had come.
        due_s: time from which the tree may be counted.
    """

    __slots__ = ("due_s", "first", "since_s")

    def __init__(self, first: int, since_s: float) -> None:
        self.first = first
        self.since_s = self.due_s = since_s


class Settler:
    """Follower of the stored spans that keeps the figures by path."""

    def __init__(
        self, *, clock_s: Callable[[], float] = time.monotonic, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._clock_s, self._clock_ns = clock_s, clock_ns
        #: The file; None to read it again.
        self._db: sqlite3.Connection | None = None
        self._waiting: dict[bytes, _Waiting] = {}
        #: Id of the last span that was read; of the last one that is old enough; and when that had come.
        self._seen = self._old = 0
        self._old_s = 0.0
        #: Times, and the last span at each, of spans that are not old enough.
        self._young: deque[tuple[float, int]] = deque()
        #: The writer's file and its number of spans at the last step.
        self._writer_state = (-1, -1)
        self._next_s = self._sweep_s = 0.0

    def wait_s(self) -> float:
        """Return the time until the next step."""
        return max(0.0, self._next_s - self._clock_s())

    def step(self, writer: Writer, *, is_last: bool = False) -> bool:
        """Count some of the trees that are due.

        Args:
            writer: of the database.
            is_last: count those that are not due as well.

        Returns:
            True if there is more to do at once.

        Raises:
            DatabaseError: as in `Writer.write_beside`.
            Exception: an internal error; the step is rolled back.
        """
        now_s, state = self._clock_s(), (writer.opening, writer.span_count)
        if now_s < self._next_s and not is_last:
            return False
        self._next_s = now_s + LOOK_S
        is_idle = not self._young and self._seen >= self._old and self._db is not None
        if state == self._writer_state and is_idle and not self._waiting:
            return False
        has_more = False

        def work(db: sqlite3.Connection) -> None:
            nonlocal has_more
            has_more = self.work(db, is_last=is_last)

        if not writer.write_beside(work):
            self._db = None
            return False
        self._writer_state = state
        if has_more:
            self._next_s = now_s
        return has_more

    def finish(self, writer: Writer, deadline_s: float) -> None:
        """Count the trees that wait, due or not, until a deadline; the next start counts the others."""
        while self.step(writer, is_last=True) and self._clock_s() < deadline_s:
            pass

    def work(self, db: sqlite3.Connection, *, is_last: bool = False) -> bool:
        """Do a step within a transaction; after an exception, the next step starts from the file.

        Args:
            db: the database.
            is_last: count trees that are not due as well.

        Returns:
            True if there is more to do at once.
        """
        if db is not self._db:
            self._begin(db)
        self._db = None
        now_s = self._clock_s()
        self._find_old(db, now_s, is_last)
        self._learn_methods(db)
        # Looked up once for all trees of the step.
        self._has_expired, self._has_thinned = (
            self._reader.has_rows(table) for table in ("expired_traces", "thinned_traces")
        )
        due = [trace_id for trace_id, each in self._waiting.items() if is_last or each.due_s <= now_s]
        has_more = self._settle_some(db, due, None, now_s, is_last)
        if not has_more and (swept := self._sweep(db, now_s)) is not None:
            has_more = self._settle_some(db, swept.trees, swept, now_s, is_last)
        self._figures.write()
        self._bounds.write(self._clock_ns())
        for cache in (self._paths, self._versions, self._hosts):
            cache.trim()
        # They wait in the order of their first spans.
        place = next((each.first for each in self._waiting.values()), self._seen + 1) - 1
        db.execute("UPDATE settling SET value = ? WHERE name = ?", (place, SETTLED))
        if now_s >= self._sweep_s:
            self._sweep_s = now_s + SWEEP_S
            # An hour more, for those who read now.
            oldest = (self._clock_ns() - PATH_MINUTES_NS - HOUR_NS) // MINUTE_NS
            db.execute(
                "DELETE FROM path_figures WHERE resolution_s = ? AND bucket < ?", (RESOLUTIONS_S[0], oldest)
            )
            self._figures.forget()
            self._bounds.forget()
        self._db = db
        return has_more or (self._seen < self._old and len(self._waiting) < MAX_WAITING)

    def _begin(self, db: sqlite3.Connection) -> None:
        """Start over with a file."""
        (self._seen,) = db.execute("SELECT value FROM settling WHERE name = ?", (SETTLED,)).fetchone()
        self._old = self._seen
        self._young.clear()
        self._waiting.clear()
        self._reader = TreeReader(db)
        self._figures, self._paths, self._versions = PathFigures(db), Paths(db), Versions(db)
        self._hosts, self._bounds = Hosts(partial(read_host, db)), ClockBounds(db)
        #: Rows of ``settled`` that the step writes.
        self._counted: list[tuple[int, int, str | None]] = []
        #: Methods by their kind.
        self._kinds: dict[str, set[int]] = {kind: set() for kind in KIND_NUMBERS}
        self._shapes = Shapes(self._paths.find, self._kinds["consumer"])
        self._callers: set[int] = set()
        self._last_method = 0

    def _find_old(self, db: sqlite3.Connection, now_s: float, is_last: bool) -> None:
        """Find up to which id spans are old enough; with ``is_last`` all are."""
        (last,) = db.execute("SELECT coalesce(max(id), 0) FROM spans").fetchone()
        if last > (self._young[-1][1] if self._young else self._old):
            self._young.append((now_s, last))
        while self._young and (is_last or self._young[0][0] + QUIET_S <= now_s):
            self._old_s, self._old = self._young.popleft()

    def _sweep(self, db: sqlite3.Connection, now_s: float) -> Swept | None:
        """Read the next spans that are old enough, and count the trees that are whole; the others are due."""
        if self._seen >= self._old or len(self._waiting) >= MAX_WAITING:
            return None
        swept = self._reader.sweep(self._seen, self._old, MAX_LOOKED_AT)
        if swept is None:
            self._seen = self._old
            return None
        self._seen = swept.ids[-1] if len(swept.ids) == MAX_LOOKED_AT else self._old
        self._count_whole(db, swept)
        for trace_id, places in swept.trees.items():
            waiting = self._waiting.get(trace_id)
            if waiting is None:
                self._waiting[trace_id] = _Waiting(swept.ids[places[0]], self._old_s)
            else:
                waiting.due_s = now_s
        return swept

    def _count_whole(self, db: sqlite3.Connection, swept: Swept) -> None:
        """Count the trees that are whole and on one host, and take them out of the swept spans."""
        host_of = {instance: self._hosts.of(instance) for instance in set(swept.instances)}
        has_hosts = len(set(host_of.values())) > 1
        together = Together(swept, self._shapes, self._versions.of, self._callers, self._figures.open)
        late_ns = self._clock_ns() - LATE_NS if self._has_expired else -1
        new = [
            trace_id
            for trace_id, places in swept.trees.items()
            if trace_id not in self._waiting and len(places) <= MAX_SPANS
        ]
        traces, lasts = list[int](), list[int]()
        for trace_id, trace in self._reader.find_whole(swept, new, late_ns):
            places = swept.trees[trace_id]
            if has_hosts and len({host_of[swept.instances[place]] for place in places}) > 1:
                continue
            together.add(places)
            traces.append(trace)
            lasts.append(swept.ids[places[-1]])
            del swept.trees[trace_id]
        together.write()
        if traces:
            _SETTLE.write_columns(db, [traces, lasts])

    def _settle_some(
        self,
        db: sqlite3.Connection,
        trace_ids: Iterable[bytes],
        swept: Swept | None,
        now_s: float,
        is_last: bool,
    ) -> bool:
        """Count trees as long as the step lasts, and those whose spans are all swept.

        Returns:
            True if there are more.
        """
        done: list[bytes] = []
        has_more = False
        for trace_id, tree in self._reader.read(trace_ids, swept):
            if done and self._clock_s() >= now_s + STEP_S:
                has_more = True
                if swept is None:
                    break
                if tree is not None and tree.span_count > len(swept.trees[trace_id]):
                    continue
            # A tree without rows has expired meanwhile.
            if tree is None or self._settle(db, trace_id, tree, now_s, is_last):
                done.append(trace_id)
        for trace_id in done:
            del self._waiting[trace_id]
        db.executemany(
            "INSERT OR REPLACE INTO settled (trace, span, figures) VALUES (?, ?, ?)", self._counted
        )
        self._counted.clear()
        return has_more

    def _settle(
        self, db: sqlite3.Connection, trace_id: bytes, tree: TreeRows, now_s: float, is_last: bool
    ) -> bool:
        """Count a tree; return False if it has to wait, for younger spans or open ones."""
        if tree.span_count > MAX_SPANS:
            if tree.settled is None:
                db.execute("UPDATE settling SET value = value + 1 WHERE name = ?", (LEFT_OUT,))
                db.execute("INSERT INTO settled (trace, span) VALUES (?, ?)", (tree.trace, LAST))
            return True
        if tree.settled is not None and tree.settled >= self._seen:
            return True
        is_gone = tree.settled is None and self._is_gone(db, trace_id, tree.end_ns)
        if is_gone or tree.figures == LATE:
            _count_late(db, trace_id, tree.trace, tree.settled or 0)
            return True
        opened = self._reader.read_open(trace_id) if tree.has_open else []
        waiting = self._waiting[trace_id]
        if opened and not is_last and now_s < waiting.since_s + OPEN_S:
            waiting.due_s = now_s + OPEN_AGAIN_S
            return False
        rows = self._reader.read_spans(trace_id) if tree.spans is None else tree.spans
        if not rows or (tree.settled is not None and tree.settled >= rows[-1].id):
            return True
        if rows[-1].id > self._old:
            waiting.due_s = now_s + QUIET_S
            return False
        calls = self._find_calls(rows)
        calls_before: Collection[Call] = ()
        if tree.settled is not None:
            # What was counted with open spans is known, and only its calls are of interest.
            needs_rows = tree.figures is None or calls
            rows_before = self._reader.read_spans(trace_id, tree.settled) if needs_rows else []
            calls_before = set(self._find_calls(rows_before))
            if tree.figures is None:
                before = self._count(rows_before, calls_before)
            else:
                before = read_counted(tree.figures)
            self._figures.add(before, -1)
        # Of a tree with open spans, what is added has to be known later.
        counted = self._count([*rows, *opened] if opened else rows, calls, is_added=not opened)
        if opened:
            self._figures.add(counted)
        if calls:
            self._bounds.add(call for call in calls if call not in calls_before)
        self._counted.append((tree.trace, rows[-1].id, write_counted(counted) if opened else None))
        return True

    def _is_gone(self, db: sqlite3.Connection, trace_id: bytes, end_ns: int) -> bool:
        """Return whether a tree was counted and then thinned, or expired."""
        if self._has_thinned and _has_row(db, "thinned_traces", trace_id):
            return True
        is_old = self._has_expired and end_ns <= self._clock_ns() - LATE_NS
        return is_old and _has_row(db, "expired_traces", trace_id)

    def _learn_methods(self, db: sqlite3.Connection) -> None:
        """Read the kinds of new methods: methods are never deleted, and get higher ids."""
        for method, kind in db.execute("SELECT id, kind FROM methods WHERE id > ?", (self._last_method,)):
            self._last_method = method
            self._kinds.setdefault(kind, set()).add(method)
            if kind in ("client", "producer"):
                self._callers.add(method)

    def _find_calls(self, rows: Sequence[SpanRow]) -> list[Call]:
        return self._hosts.find_calls(rows, self._kinds["client"], self._kinds["server"])

    def _count(self, rows: Sequence[SpanRow], calls: Collection[Call], *, is_added: bool = False) -> Counted:
        """Return the figures of a tree, by clocks with which its calls between hosts are possible.

        With ``is_added``, they are added to those of other trees at once, which takes less time.
        """
        if calls:
            rows = align(rows, calls, self._hosts.of)
        return count_tree(
            rows,
            self._shapes,
            self._versions.of,
            self._callers,
            self._figures.open if is_added else None,
        )


def _has_row(db: sqlite3.Connection, table: str, trace_id: bytes) -> bool:
    """Return whether a table of trees that were counted and deleted since has this one."""
    return db.execute(f"SELECT 1 FROM {table} WHERE trace_id = ?", (trace_id,)).fetchone() is not None


def _count_late(db: sqlite3.Connection, trace_id: bytes, number: int, before: int) -> None:
    """Count the spans of a deleted tree that have come since a span; the tree's figures stay as they are."""
    count, last = db.execute(
        "SELECT count(*), max(id) FROM spans WHERE trace_id = ? AND id > ?", (trace_id, before)
    ).fetchone()
    if count:
        db.execute("UPDATE settling SET value = value + ? WHERE name = ?", (count, LATE))
        db.execute(
            "INSERT OR REPLACE INTO settled (trace, span, figures) VALUES (?, ?, ?)", (number, last, LATE)
        )


def settle_all(store: Store, *, clock_ns: Callable[[], int] = time.time_ns) -> Iterator[None]:
    """Count all trees of a store that no collector writes to; yield after each step.

    Raises:
        DatabaseError: some trees are not counted; a later call counts them.
    """
    settler, has_more = Settler(clock_ns=clock_ns), True
    while has_more:
        with store.transaction() as db:
            has_more = settler.work(db, is_last=True)
        yield
