"""Figures of whole trees, each added to the outcome of a step.

One idea: the functions of the collector's settler are used, with the names of ClickHouse. What was counted of
a tree before is subtracted by counting the same rows again, or as it was kept.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from ztrace_collector.clickhouse.settling.duplicates import make_duplicate, tell_duplicates
from ztrace_collector.clickhouse.settling.names import Names
from ztrace_collector.clickhouse.settling.outcome import Outcome
from ztrace_collector.clickhouse.settling.trees import Settled, StoredSpan, Tree
from ztrace_collector.layout import LATE
from ztrace_collector.settling.clocks import Call, Cells, Hosts, align
from ztrace_collector.settling.counting import Counted, SpanRow, VersionSums, count_tree
from ztrace_collector.settling.figures import TreeSums, clamp, read_counted, write_counted
from ztrace_collector.settling.shapes import Shapes


class _Rows(NamedTuple):
    """Rows of a tree that count, the calls between hosts among them, and rows that are in another journal."""

    rows: list[SpanRow]
    calls: list[Call]
    duplicates: list[StoredSpan]


class Counting:
    """Counting of trees with the names of one database.

    For each step, call `begin`, `count` for its trees, and `finish`.
    """

    def __init__(self, names: Names) -> None:
        """Begin with nothing counted."""
        self._names = names
        self._shapes = Shapes(names.find, names.kinds["consumer"])
        self._hosts, self._bounds = Hosts(names.host_of), Cells()
        self._sums = TreeSums()

    def forget(self) -> None:
        """Count the pairs of hosts again whose clocks are measured."""
        self._bounds.forget()

    def begin(self, trees: Collection[Tree]) -> None:
        """Read what the trees of a step name."""
        self._names.learn_methods({row.method for row in _list_rows(trees)})
        self._names.learn_processes({row.instance for row in _list_rows(trees)})
        self._hosts.trim()
        self._sums = TreeSums()

    def count(self, trace_id: bytes, tree: Tree, settled: Settled | None, outcome: Outcome) -> None:
        """Add a tree, and subtract what of it was counted before."""
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
                self._sums.add(self._read_figures(settled.figures), -1)
            else:
                self._sums.add(self._add_up(rows_before), -1)
        changed = self._change(tree, now)
        figures = self._add(tree, changed)
        known_calls, known = {*rows_before.calls}, {*rows_before.duplicates}
        self._bounds.add(call for call in changed.calls if call not in known_calls)
        outcome.duplicates += [make_duplicate(each) for each in now.duplicates if each not in known]
        outcome.trees.append((trace_id.hex(), upto, len(tree.spans), figures))

    def _add(self, tree: Tree, changed: _Rows) -> str:
        """Add a tree; return its figures if they do not follow from its ended spans alone."""
        is_plain = not tree.opened and not tree.parents
        if is_plain and not self._names.has_others:
            # Added to those of other trees at once, which takes less time.
            self._add_up(changed, self._sums)
            if not self._names.has_others:
                return ""
            counted = self._add_up(changed)
        else:
            counted = self._add_up(changed)
            self._sums.add(counted)
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

    def finish(self, outcome: Outcome) -> None:
        """Write what the step has counted into its outcome."""
        names = self._names
        for minute, version, failed, own_version, path, each in self._sums.list_sums():
            if not each.is_empty:
                numbers, histogram = clamp(each.numbers), [*each.histogram.items()]
                outcome.figures.append(
                    (minute, version, failed, own_version, names.id_of(path), numbers, histogram)
                )
        outcome.bounds = [(*key, *cell) for key, cell in self._bounds.take().items()]
        outcome.paths, names.new_paths = list[Sequence[int]](names.new_paths), []
        outcome.versions, names.new_versions = list[Sequence[str]](names.new_versions), []


def _list_rows(trees: Iterable[Tree]) -> Iterable[SpanRow]:
    for tree in trees:
        for span in tree.spans:
            yield span.row
        yield from tree.opened


def _rename(sums: VersionSums, name: Callable[[int], int]) -> VersionSums:
    return {
        version: {name(path): each for path, each in by_path.items()} for version, by_path in sums.items()
    }
