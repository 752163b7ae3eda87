"""Settling in ClickHouse: whole trees are added to the figures by path, each once.

One idea: the settler follows each journal by the arrival of its spans, up to the time that the journal has
announced. A tree is counted when none of its spans has come for some seconds, and ``settled`` has the time
up to which its spans are counted then. A later span makes the tree due again: what was counted is subtracted,
by the same function of the same rows, and the tree is recounted. A step's outcome is written ahead.
"""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ztrace_collector.clickhouse.batches import read_last, write_ahead
from ztrace_collector.clickhouse.journals import read_journals
from ztrace_collector.clickhouse.settling.counting import Counting
from ztrace_collector.clickhouse.settling.duplicates import make_duplicate, tell_duplicates
from ztrace_collector.clickhouse.settling.names import Names
from ztrace_collector.clickhouse.settling.origins import correct_origins
from ztrace_collector.clickhouse.settling.outcome import Outcome, carry_out
from ztrace_collector.clickhouse.settling.trees import (
    Settled,
    read_settled,
    read_trees,
    read_twice,
    write_ids,
)
from ztrace_collector.layout import LEFT_OUT
from ztrace_collector.settling.settler import LOOK_S, MAX_SPANS, OPEN_AGAIN_S, OPEN_S, QUIET_S, SWEEP_S

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

#: Name of the task's batches.
TASK = "settling"
#: Spans and blocks looked at in a step, and trees that may wait: beyond, the settler falls behind.
MAX_LOOKED_AT, MAX_BLOCKS, MAX_WAITING = 65_536, 1_000, 100_000
#: Trees and spans that are counted in a step, which takes some 100 ms.
MAX_TREES, STEP_SPANS = 1_500, 12_000

_BLOCKS = (
    "SELECT journal, toUnixTimestamp64Milli(arrived) AS at_ms, sum(span_count) FROM blocks WHERE {}"
    " GROUP BY journal, at_ms ORDER BY at_ms, journal LIMIT {}"
)
_TOUCHED = (
    "SELECT trace_id, journal, toUnixTimestamp64Milli(min(s.arrived)), count() FROM spans AS s WHERE {}"
    " GROUP BY trace_id, journal"
)


class _Waiting:
    """A tree that is to be counted.

    Attributes:
        first: arrival of its first span that is not counted, by journal.
        span_count: number of spans that were seen.
        since_s: time at which the first one was seen.
        due_s: time from which the tree may be counted.
    """

    __slots__ = ("due_s", "first", "since_s", "span_count")

    def __init__(self, now_s: float) -> None:
        self.first: dict[str, int] = {}
        self.span_count = 0
        self.since_s = self.due_s = now_s


class Settler:
    """Task that counts the trees of one database."""

    def __init__(
        self, client: "Client", *, clock_s: Callable[[], float] = time.monotonic, is_last: bool = False
    ) -> None:
        """Continue after the last batch, which is carried out if that is not done yet.

        Args:
            client: the connection.
            clock_s: the process's own clock.
            is_last: count trees that are not due as well.
        """
        self._client, self._clock_s, self._is_last = client, clock_s, is_last
        self._begin()

    def _begin(self) -> None:
        last = read_last(self._client, TASK)
        #: Number and outcome of the last batch.
        self._number, self._last = (
            (0, Outcome()) if last is None else (last.number, carry_out(self._client, last))
        )
        #: Arrival of the last span that was looked at, by journal.
        self._seen = dict(self._last.place)
        self._waiting: dict[bytes, _Waiting] = {}
        self._counting = Counting(Names(self._client))
        self._next_s, self._sweep_s = 0.0, self._clock_s() + SWEEP_S
        self._has_more = True

    def step(self) -> bool:
        """Count some of the trees that are due; return whether there is more to do at once."""
        now_s = self._clock_s()
        if now_s < self._next_s and not self._has_more:
            return False
        self._next_s = now_s + LOOK_S
        if now_s >= self._sweep_s:
            self._sweep_s = now_s + SWEEP_S
            self._counting.forget()
        has_seen = self._look(now_s)
        # In order of their ids, so that those of a step are near each other in the table.
        due = sorted(
            trace_id for trace_id, each in self._waiting.items() if self._is_last or each.due_s <= now_s
        )
        if due:
            has_left = self._settle(due[:MAX_TREES], now_s)
            self._has_more = has_seen or has_left or len(due) > MAX_TREES
        else:
            self._has_more = has_seen
        return self._has_more

    def _look(self, now_s: float) -> bool:
        """Note the trees of spans that have come; return whether there are more."""
        if len(self._waiting) >= MAX_WAITING:
            return False
        windows: dict[str, tuple[int, int]] = {}
        for journal, delivered_ms in read_journals(self._client).items():
            if delivered_ms > self._seen.get(journal, 0):
                windows[journal] = self._seen.get(journal, 0), delivered_ms
        if not windows:
            return False
        blocks = self._client.query(_BLOCKS.format(_write_windows(windows), MAX_BLOCKS)).result_rows
        has_more, count, ends = len(blocks) == MAX_BLOCKS, 0, dict[str, int]()
        for journal, at_ms, span_count in blocks:
            if count >= MAX_LOOKED_AT:
                has_more = True
                break
            count, ends[journal] = count + span_count, at_ms
        if ends:
            looked = {journal: (windows[journal][0], end_ms) for journal, end_ms in ends.items()}
            self._note(looked, now_s)
        # Where no block is left, there is nothing up to the announced time.
        self._seen |= ends if has_more else {journal: end_ms for journal, (_, end_ms) in windows.items()}
        return has_more

    def _note(self, windows: dict[str, tuple[int, int]], now_s: float) -> None:
        due_s = now_s + QUIET_S
        rows = self._client.query(_TOUCHED.format(_write_windows(windows))).result_rows
        for trace_id, journal, first_ms, span_count in rows:
            waiting = self._waiting.get(trace_id)
            if waiting is None:
                waiting = self._waiting[trace_id] = _Waiting(now_s)
            waiting.first.setdefault(journal, first_ms)
            waiting.span_count += span_count
            waiting.due_s = due_s

    def _settle(self, due: Sequence[bytes], now_s: float) -> bool:
        """Count trees and write the outcome; return whether some of them are left for the next step."""
        settled = read_settled(self._client, due)
        chosen, count = list[bytes](), 0
        for trace_id in due:
            before = settled.get(trace_id)
            size = self._waiting[trace_id].span_count + (0 if before is None else before.span_count)
            if chosen and count + size > STEP_SPANS:
                break
            chosen.append(trace_id)
            count += size
        outcome = Outcome(late=self._last.late, left_out=self._last.left_out)
        chosen, large = self._leave_out(chosen, settled, outcome)
        done = [trace_id for trace_id in large if self._find_twice(trace_id, outcome)]
        trees = read_trees(self._client, chosen, self._seen, settled) if chosen else {}
        self._counting.begin(trees.values())
        for trace_id, tree in trees.items():
            waiting = self._waiting[trace_id]
            if tree.opened and not self._is_last and now_s < waiting.since_s + OPEN_S:
                waiting.due_s = now_s + OPEN_AGAIN_S
            else:
                self._counting.count(trace_id, tree, settled.get(trace_id), outcome)
                done.append(trace_id)
        if done and len(self._seen) > 1:
            correct_origins(self._client, done, outcome)
        for trace_id in done:
            del self._waiting[trace_id]
        is_new = bool(done or outcome.duplicates)
        if is_new and not self._write(outcome):
            self._begin()
            return True
        return len(chosen) + len(large) < len(due) or not {*large} <= {*done}

    def _leave_out(
        self, trace_ids: Sequence[bytes], settled: dict[bytes, Settled], outcome: Outcome
    ) -> tuple[list[bytes], list[bytes]]:
        """Return the trees to count, and those that are too large."""
        chosen, large = list[bytes](), list[bytes]()
        for trace_id in trace_ids:
            before = settled.get(trace_id)
            if before is not None and before.figures == LEFT_OUT:
                large.append(trace_id)
            elif self._waiting[trace_id].span_count + (before.span_count if before else 0) > MAX_SPANS and (
                self._count_spans(trace_id) > MAX_SPANS
            ):
                large.append(trace_id)
                if before is None:
                    outcome.left_out += 1
                    outcome.trees.append((trace_id.hex(), {}, 0, LEFT_OUT))
            else:
                chosen.append(trace_id)
        return chosen, large

    def _find_twice(self, trace_id: bytes, outcome: Outcome) -> bool:
        """Add duplicates of a tree that is too large; return whether these are all.

        Which spans these are, and how many, does not depend on the size of the tree.
        """
        if len(self._seen) < 2:
            return True
        spans = read_twice(self._client, trace_id, STEP_SPANS)
        outcome.duplicates += [make_duplicate(span) for span in tell_duplicates(spans)[1]]
        return len(spans) < STEP_SPANS

    def _count_spans(self, trace_id: bytes) -> int:
        query = f"SELECT count() FROM spans WHERE {write_ids([trace_id])}"
        return int(self._client.query(query).result_rows[0][0])

    def _write(self, outcome: Outcome) -> bool:
        """Write an outcome ahead, and carry it out; return False if another process has written one."""
        self._counting.finish(outcome)
        outcome.place = dict(self._seen)
        for waiting in self._waiting.values():
            for journal, first_ms in waiting.first.items():
                outcome.place[journal] = min(outcome.place[journal], first_ms - 1)
        batch = write_ahead(self._client, TASK, self._number + 1, outcome.to_text())
        if batch is None:
            return False
        carry_out(self._client, batch)
        self._number, self._last = batch.number, outcome
        return True


def settle_all(client: "Client") -> None:
    """Count all trees that have arrived, due or not."""
    settler = Settler(client, is_last=True)
    while settler.step():
        pass


def _write_windows(windows: dict[str, tuple[int, int]]) -> str:
    """Return a condition on journal and arrival."""
    after = min(after_ms for after_ms, _ in windows.values())
    each = " OR ".join(
        f"(journal = '{journal}' AND {_is_later(after_ms)} AND NOT {_is_later(end_ms)})"
        for journal, (after_ms, end_ms) in windows.items()
    )
    # Parts and granules are left out by the first condition.
    return f"{_is_later(after)} AND ({each})"


def _is_later(at_ms: int) -> str:
    return f"arrived > fromUnixTimestamp64Milli(toInt64({at_ms}), 'UTC')"
