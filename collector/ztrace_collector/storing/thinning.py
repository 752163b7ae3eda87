"""Thinning: of traces that have been counted, those that matter and a fair share of the others are kept.

One idea: everything is stored first, and thinned later, so nothing is buffered and all figures are of all
traces. The traces that arrived within an hour are thinned together, once that hour is over: only then is it
known which were slow. Every step is short and runs while nothing is to be received; a killed collector
continues after the last trace that was decided.

The share is consistent: a trace is in it if the last 7 bytes of its id reach a threshold, so all collectors
and backends that apply the rule keep the same traces.
"""

import heapq
import math
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ztrace_collector.layout import HOUR_NS, LATE, SETTLED, THINNED
from ztrace_collector.storing.deleting import delete_whole_traces
from ztrace_collector.storing.store import Store
from ztrace_collector.tables.histogram import bucket_of
from ztrace_collector.tables.thresholds import is_chosen, threshold_of

#: Share of the traces of each root method and hour that are kept as the slowest.
SLOW_SHARE = 0.01
#: First traces of each root method and hour that are kept, so that rare ones are kept whole.
RARE = 20
#: Duration of a step, after which the collector looks for messages again, and interval of looking for an
#: hour that is over.
STEP_S, LOOK_S = 0.02, 5.0
#: Traces that are looked at together, and that are decided together; spans that are deleted with these.
MAX_TRACES, MAX_DECIDED, MAX_SPANS = 2_000, 500, 4_000

_OVER = object()

_LOOK = "SELECT id, root_method, duration_ns FROM traces WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
# A trace that is not counted yet as it is, or was too large for that, is kept.
_DECIDE = f"""
SELECT id, trace_id, root_method, duration_ns, span_count,
    error_count > 0 OR pinned
        OR EXISTS (SELECT 1 FROM exceptions WHERE exceptions.trace_id = traces.trace_id),
    span IS NOT coalesce((SELECT max(id) FROM spans WHERE spans.trace_id = traces.trace_id),
            (SELECT last FROM sealed_traces WHERE sealed_traces.trace = traces.id))
        OR coalesce(figures, '{LATE}') <> '{LATE}'
        OR EXISTS (SELECT 1 FROM unfinished_spans WHERE unfinished_spans.trace_id = traces.trace_id),
    EXISTS (SELECT 1 FROM thinned_traces WHERE thinned_traces.trace_id = traces.trace_id)
FROM traces LEFT JOIN settled ON trace = traces.id WHERE traces.id > ? AND traces.id <= ?
ORDER BY traces.id LIMIT ?
"""


class _Hour(NamedTuple):
    """Traces that arrived within an hour: the first id is the one after ``after``.

    Attributes:
        newest: id of the newest span when the hour was found to be over.
    """

    after: int
    last: int
    newest: int


class _Trace(NamedTuple):
    """A row of ``traces``.

    Attributes:
        matters: it has an error, an exception or a pin.
        is_open: it is not counted by path, or not as it is now.
        is_rest: of a trace that was thinned before.
    """

    id: int
    trace_id: bytes
    root_method: int
    duration_ns: int
    span_count: int
    matters: int
    is_open: int
    is_rest: int


class Thinner:
    """Thinning of a store, in steps."""

    def __init__(self, share: float, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing looked at.

        Args:
            share: share of the traces that do not matter by themselves to keep, between 0 and 1.
            clock_s: a clock that never jumps.
        """
        self._threshold = threshold_of(share)
        self._clock_s = clock_s
        self._store: Store | None = None
        self._hour: _Hour | None = None
        self._work: Iterator[None] | None = None
        self._next_s = 0.0

    def wait_s(self) -> float:
        """Return the time until the next step."""
        return max(0.0, self._next_s - self._clock_s())

    def step(self, store: Store) -> None:
        """Thin some traces if an hour is over.

        Raises:
            DatabaseError: a piece was rolled back; the next step continues after the last one.
        """
        now_s = self._clock_s()
        if now_s < self._next_s:
            return
        if store is not self._store:
            self._store, self._hour, self._work = store, None, None
        work, self._work = self._work or self._thin(store), None
        self._next_s = now_s + LOOK_S
        while self._clock_s() < now_s + STEP_S:
            if next(work, _OVER) is _OVER:
                return
        self._work, self._next_s = work, now_s

    def _thin(self, store: Store) -> Iterator[None]:
        """Thin an hour that is over, one piece per iteration."""
        hour = self._hour or _find_hour(store)
        if hour is None or not _is_counted(store, hour.newest):
            self._hour = hour
            return
        self._hour = None
        slow = _Slow()
        for look in (slow.count, slow.choose):
            after = hour.after
            while rows := store.read(_LOOK, after, hour.last, MAX_TRACES):
                for row in rows:
                    look(*row)
                after = rows[-1][0]
                yield
        seen = Counter[int]()
        place = hour.after
        while place < hour.last:
            place = self._decide(store, hour, place, slow, seen)
            yield

    def _decide(self, store: Store, hour: _Hour, after: int, slow: "_Slow", seen: Counter[int]) -> int:
        """Delete the traces of a piece that are not kept, and return the last trace decided."""
        dropped: list[_Trace] = []
        sampled: list[tuple[int, int]] = []
        spans = 0
        with store.transaction() as db:
            rows = db.execute(_DECIDE, (after, hour.last, MAX_DECIDED)).fetchall()
            for row in rows:
                trace = _Trace._make(row)
                if dropped and spans + trace.span_count > MAX_SPANS:
                    break
                after = trace.id
                seen[trace.root_method] += 1
                if trace.matters or trace.is_open:
                    continue
                if not trace.is_rest:
                    if seen[trace.root_method] <= RARE or slow.has(trace):
                        continue
                    if is_chosen(trace.trace_id, self._threshold):
                        sampled.append((self._threshold, trace.id))
                        continue
                dropped.append(trace)
                spans += trace.span_count
            if not rows:
                after = hour.last
            db.executemany("UPDATE traces SET threshold = ? WHERE id = ?", sampled)
            _drop(db, dropped, store.age_ns)
            db.execute("UPDATE settling SET value = ? WHERE name = ?", (after, THINNED))
        store.forget_traces([trace.trace_id for trace in dropped])
        return after


class _Slow:
    """The slowest traces of each root method, exactly, in the memory of 1% of them.

    One idea: a first look counts durations in buckets, after which all above one bucket are slow and some of
    those in it. A second look keeps the slowest in that bucket only.
    """

    def __init__(self) -> None:
        self._counts: dict[int, Counter[int]] = {}
        #: By root method: the bucket, and the slowest in it, the fastest first.
        self._chosen: dict[int, tuple[int, list[tuple[int, int]]]] = {}
        self._room: dict[int, int] = {}

    def count(self, _number: int, method: int, duration_ns: int) -> None:
        """Count a trace."""
        counts = self._counts.get(method)
        if counts is None:
            counts = self._counts[method] = Counter()
        counts[bucket_of(duration_ns)] += 1

    def choose(self, number: int, method: int, duration_ns: int) -> None:
        """Note a trace if it is among the slowest of its bucket; all have been counted."""
        found = self._chosen.get(method)
        if found is None:
            found = self._chosen[method] = self._find_bucket(method)
        bucket, slowest = found
        if bucket_of(duration_ns) == bucket:
            entry = (duration_ns, -number)
            if len(slowest) < self._room[method]:
                heapq.heappush(slowest, entry)
            elif slowest and entry > slowest[0]:
                heapq.heapreplace(slowest, entry)

    def has(self, trace: _Trace) -> bool:
        """Return whether a trace is one of the slowest."""
        found = self._chosen.get(trace.root_method)
        if found is None:
            return True  # Its root came after the looks.
        bucket, slowest = found
        own = bucket_of(trace.duration_ns)
        return own > bucket or (own == bucket and (trace.duration_ns, -trace.id) >= slowest[0])

    def _find_bucket(self, method: int) -> tuple[int, list[tuple[int, int]]]:
        counts = self._counts.get(method, Counter[int]())
        room, bucket = math.ceil(SLOW_SHARE * counts.total()), -1
        for bucket in sorted(counts, reverse=True):
            if counts[bucket] >= room:
                break
            room -= counts[bucket]
        self._room[method] = room
        return bucket, []


def _find_hour(store: Store) -> _Hour | None:
    """Return the first hour of arrival that is over and not thinned, None if there is none."""
    ((after,),) = store.read("SELECT value FROM settling WHERE name = ?", THINNED)
    ((last, newest),) = store.read(
        "SELECT CASE WHEN (SELECT max(hour) FROM arrivals) < ? THEN (SELECT max(id) FROM traces)"
        " ELSE (SELECT max(first_trace) - 1 FROM arrivals) END, (SELECT max(id) FROM spans)",
        store.age_ns // HOUR_NS,
    )
    ((bound,),) = store.read("SELECT min(first_trace) - 1 FROM arrivals WHERE first_trace > ? + 1", after)
    last = min((each for each in (last, bound) if each is not None), default=None)
    return None if last is None or last <= after else _Hour(after, last, newest or 0)


def _is_counted(store: Store, newest: int) -> bool:
    """Return whether all spans up to one have been counted by path, and sent on to the destinations."""
    ((place,),) = store.read(
        "SELECT min((SELECT value FROM settling WHERE name = ?),"
        " coalesce((SELECT min(place) FROM destinations WHERE in_use), ?))",
        SETTLED,
        newest,
    )
    return bool(place >= newest)


def _drop(db: sqlite3.Connection, traces: list[_Trace], at_ns: int) -> None:
    """Delete traces and count them as thinned."""
    if not traces:
        return
    delete_whole_traces(
        db, [trace.id for trace in traces], [trace.trace_id for trace in traces], "spans_thinned"
    )
    db.execute("UPDATE totals SET value = value + ? WHERE name = 'traces_thinned'", (len(traces),))
    db.executemany(
        "INSERT OR REPLACE INTO thinned_traces (trace_id, at_ns) VALUES (?, ?)",
        [(trace.trace_id, at_ns) for trace in traces],
    )
