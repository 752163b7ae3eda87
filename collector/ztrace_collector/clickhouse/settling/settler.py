"""Settling in ClickHouse: whole trees are added to the figures by path, each once.

One idea: the settler follows each journal by the arrival of its spans, up to the time that the journal has
announced. A tree is counted when none of its spans has come for some seconds, and ``settled`` has the time
up to which its spans are counted then. A later span makes the tree due again: what was counted is subtracted,
by the same function of the same rows, and the tree is recounted. A step's outcome is written ahead.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ztrace_collector.clickhouse.batches import read_last, write_ahead
from ztrace_collector.clickhouse.journals import read_journals
from ztrace_collector.clickhouse.settling.duplicates import tell_duplicates
from ztrace_collector.clickhouse.settling.names import Names
from ztrace_collector.clickhouse.settling.outcome import Outcome, carry_out
from ztrace_collector.clickhouse.settling.trees import (
    Settled,
    StoredSpan,
    Tree,
    read_settled,
    read_trees,
    write_ids,
)
from ztrace_collector.layout import LATE, LEFT_OUT
from ztrace_collector.settling.clocks import Call, Cells, Hosts, align
from ztrace_collector.settling.counting import Counted, SpanRow, VersionSums, count_tree
from ztrace_collector.settling.figures import TreeSums, clamp, read_counted, write_counted
from ztrace_collector.settling.settler import LOOK_S, MAX_SPANS, OPEN_AGAIN_S, OPEN_S, QUIET_S, SWEEP_S
from ztrace_collector.settling.shapes import Shapes

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

#: Name of the task's batches.
TASK = "settling"
#: Spans looked at in a step, and trees that may wait: beyond, the settler falls behind.
MAX_LOOKED_AT, MAX_WAITING = 65_536, 100_000
#: Trees and spans that are counted in a step, which takes some 100 ms.
MAX_TREES, STEP_SPANS = 1_500, 12_000

_BLOCKS = (
    "SELECT journal, toUnixTimestamp64Milli(arrived) AS at_ms, sum(span_count) FROM blocks WHERE {}"
    " GROUP BY journal, at_ms ORDER BY at_ms, journal LIMIT 1000"
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


class _Rows(NamedTuple):
    """Rows of a tree that count, the calls between hosts among them, and rows that are in another journal."""

    rows: list[SpanRow]
    calls: list[Call]
    duplicates: list[StoredSpan]


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
        self._names = Names(self._client)
        self._shapes = Shapes(self._names.find, self._names.kinds["consumer"])
        self._hosts, self._bounds = Hosts(self._names.host_of), Cells()
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
            self._bounds.forget()
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
        count, ends = 0, dict[str, int]()
        blocks = self._client.query(_BLOCKS.format(_write_windows(windows))).result_rows
        for place, (journal, at_ms, span_count) in enumerate(blocks, 1):
            count, ends[journal] = count + span_count, at_ms
            if count >= MAX_LOOKED_AT and place < len(blocks):
                break
        else:
            place = 0
        has_more = place > 0 or len(blocks) == 1000
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
        trees = read_trees(self._client, chosen, self._seen, settled) if chosen else {}
        self._names.learn_methods({row.method for row in _list_rows(trees.values())})
        self._names.learn_processes({row.instance for row in _list_rows(trees.values())})
        self._hosts.trim()
        sums = TreeSums()
        done = large
        for trace_id, tree in trees.items():
            waiting = self._waiting[trace_id]
            if tree.opened and not self._is_last and now_s < waiting.since_s + OPEN_S:
                waiting.due_s = now_s + OPEN_AGAIN_S
            else:
                self._count(trace_id, tree, settled.get(trace_id), sums, outcome)
                done.append(trace_id)
        for trace_id in done:
            del self._waiting[trace_id]
        if done and not self._write(sums, outcome):
            self._begin()
            return True
        return len(chosen) + len(large) < len(due)

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

    def _count_spans(self, trace_id: bytes) -> int:
        query = f"SELECT count() FROM spans WHERE {write_ids([trace_id])}"
        return int(self._client.query(query).result_rows[0][0])

    def _count(
        self, trace_id: bytes, tree: Tree, settled: Settled | None, sums: TreeSums, outcome: Outcome
    ) -> None:
        """Add a tree to sums, and subtract what of it was counted before."""
        upto: dict[str, int] = {}
        for span in tree.spans:
            upto[span.journal] = max(span.arrived_ms, upto.get(span.journal, 0))
        counted_upto = {} if settled is None else settled.upto
        if all(counted_upto.get(journal, 0) >= at_ms for journal, at_ms in upto.items()):
            return  # Counted already, or deleted meanwhile.
        rows_before, now = _Rows([], [], []), self._arrange(tree.spans)
        if settled is not None:
            stored = [span for span in tree.spans if span.arrived_ms <= settled.upto.get(span.journal, 0)]
            upto = {**settled.upto, **upto}
            if settled.figures == LATE or len(stored) < settled.span_count:
                outcome.late += len(tree.spans) - len(stored)
                outcome.trees.append((trace_id.hex(), upto, settled.span_count, LATE))
                return
            rows_before = self._arrange(stored)
            if settled.figures:
                sums.add(self._read_figures(settled.figures), -1)
            else:
                sums.add(self._add_up(rows_before), -1)
        changed = self._change(tree, now)
        figures = self._add(tree, changed, sums)
        known_calls, known = {*rows_before.calls}, {*rows_before.duplicates}
        self._bounds.add(call for call in changed.calls if call not in known_calls)
        outcome.duplicates += [_make_duplicate(each) for each in now.duplicates if each not in known]
        outcome.trees.append((trace_id.hex(), upto, len(tree.spans), figures))

    def _add(self, tree: Tree, changed: _Rows, sums: TreeSums) -> str:
        """Add a tree to sums; return its figures if they do not follow from its ended spans alone."""
        is_plain = not tree.opened and not tree.parents
        if is_plain and not self._names.has_others:
            # Added to those of other trees at once, which takes less time.
            self._add_up(changed, sums)
            if not self._names.has_others:
                return ""
            counted = self._add_up(changed)
        else:
            counted = self._add_up(changed)
            sums.add(counted)
        return "" if is_plain and not self._is_with_others(counted) else self._write_figures(counted)

    def _arrange(self, spans: Sequence[StoredSpan]) -> _Rows:
        kept, duplicates = tell_duplicates(spans)
        rows = [span.row for span in kept]
        return _Rows(rows, self._find_calls(rows), duplicates)

    def _change(self, tree: Tree, now: _Rows) -> _Rows:
        """Return the rows with the spans that are open, and with the parents that some got later."""
        if not tree.opened and not tree.parents:
            return now
        rows = [
            row._replace(parent_id=tree.parents.get((row.span_id, row.instance), row.parent_id))
            for row in now.rows
        ]
        return _Rows(rows + tree.opened, self._find_calls(rows), now.duplicates)

    def _find_calls(self, rows: Sequence[SpanRow]) -> list[Call]:
        kinds = self._names.kinds
        return self._hosts.find_calls(rows, kinds["client"], kinds["server"])

    def _add_up(self, found: _Rows, sums: TreeSums | None = None) -> Counted:
        """Return the figures of a tree, or add them to sums."""
        rows: Sequence[SpanRow] = found.rows
        if found.calls:
            rows = align(rows, found.calls, self._hosts.of)
        names, open_sums = self._names, None if sums is None else sums.open
        return count_tree(rows, self._shapes, names.version_of, names.callers, open_sums)

    def _is_with_others(self, counted: Counted) -> bool:
        """Return whether names were beyond the bounds, and may be within them when the tree is recounted."""
        paths = {path for by_path in counted.sums.values() for path in by_path}
        return self._names.are_others(paths, {counted.version, *counted.sums})

    def _write_figures(self, counted: Counted) -> str:
        return write_counted(counted._replace(sums=_rename(counted.sums, self._names.id_of)))

    def _read_figures(self, text: str) -> Counted:
        counted = read_counted(text)
        return counted._replace(sums=_rename(counted.sums, self._names.number_of))

    def _write(self, sums: TreeSums, outcome: Outcome) -> bool:
        """Write an outcome ahead, and carry it out; return False if another process has written one."""
        names = self._names
        for minute, version, failed, own_version, path, each in sums.list_sums():
            if not each.is_empty:
                numbers, histogram = clamp(each.numbers), [*each.histogram.items()]
                outcome.figures.append(
                    (minute, version, failed, own_version, names.id_of(path), numbers, histogram)
                )
        outcome.bounds = [(*key, *cell) for key, cell in self._bounds.take().items()]
        outcome.paths, names.new_paths = list[Sequence[int]](names.new_paths), []
        outcome.versions, names.new_versions = list[Sequence[str]](names.new_versions), []
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


def _list_rows(trees: Iterable[Tree]) -> Iterable[SpanRow]:
    for tree in trees:
        for span in tree.spans:
            yield span.row
        yield from tree.opened


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


def _make_duplicate(span: StoredSpan) -> tuple[object, ...]:
    row = span.row
    return (
        row.trace_id.hex(),
        row.span_id.hex(),
        row.instance,
        span.journal,
        row.method,
        row.start_ns,
        row.duration_ns,
        row.self_ns,
        row.status,
        span.arrived_ms,
    )


def _rename(sums: VersionSums, name: Callable[[int], int]) -> VersionSums:
    return {
        version: {name(path): each for path, each in by_path.items()} for version, by_path in sums.items()
    }
