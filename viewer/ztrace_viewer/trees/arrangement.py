"""Positions of the spans of a trace in its tree, and their times.

One idea: a span is a position in a sorted list, not an id. Ids from the wire can be repeated, name themselves
as parent or form a circle; positions cannot, so each row comes out exactly once, and wrong ids are listed in
``missing``. No function recurses: a tree can be as deep as it has spans.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ztrace.records import ERROR, UNFINISHED
from ztrace_collector.settling.counting import find_circles
from ztrace_collector.tables.extent import extend, set_root
from ztrace_viewer.documents.trees import Clock, Missing
from ztrace_viewer.trees import missing, states
from ztrace_viewer.trees.clocks import NO_OFFSETS, Offset
from ztrace_viewer.trees.critical import find_critical
from ztrace_viewer.trees.missing import NO_FACTS, Facts, Orphan
from ztrace_viewer.trees.spans import SpanRow

#: Reason in ``missing`` for a span without an end, by its state.
_UNFINISHED_REASONS = {
    states.RUNNING: missing.STILL_RUNNING,
    states.LOST: missing.END_LOST,
    states.ABANDONED: missing.ABANDONED,
}


@dataclass(slots=True)
class Arrangement:
    """Rows of a trace in the order of their start, and their places in its tree.

    Attributes:
        rows: as stored.
        offsets: by host, how far its clock is ahead.
        timed: the rows by clocks without their offsets.
        children: positions of each row's children, in the order of their start.
        roots: positions of the rows without a parent.
        self_ns: own time of each row, None if unknown.
        critical_ns: each row's own time on the critical path of its root, None if unknown.
        missing: reasons for which the tree is incomplete.
        start_ns: start of the tree.
        duration_ns: duration of the tree, None while it is open.
    """

    rows: Sequence[SpanRow]
    offsets: Mapping[str, Offset]
    timed: Sequence[SpanRow]
    children: Sequence[Sequence[int]]
    roots: Sequence[int]
    self_ns: Sequence[int | None]
    critical_ns: Sequence[int | None]
    missing: list[Missing]
    start_ns: int
    duration_ns: int | None

    def find_clock(self, host: str) -> Clock | None:
        """Return how far a host's clock is ahead, None if that is not known."""
        offset = self.offsets.get(host)
        return None if offset is None else offset.document

    @property
    def services(self) -> list[str]:
        """Services of the rows, sorted."""
        return sorted({row.service for row in self.rows})

    @property
    def error_count(self) -> int:
        """Number of rows that failed."""
        return sum(row.status == ERROR for row in self.rows)

    def walk(self) -> tuple[list[int], list[int]]:
        """Return the positions in the order of the tree, parents before children, and the depth of each."""
        positions: list[int] = []
        depths: list[int] = []
        pending = list(reversed(self.roots))
        levels = [0] * len(pending)
        while pending:
            position, depth = pending.pop(), levels.pop()
            positions.append(position)
            depths.append(depth)
            if below := self.children[position]:
                pending += reversed(below)
                levels += [depth + 1] * len(below)
        return positions, depths


def arrange(
    rows: Iterable[SpanRow],
    facts: Facts = NO_FACTS,
    root_service: str | None = None,
    offsets: Mapping[str, Offset] = NO_OFFSETS,
) -> Arrangement:
    """Return the places of a trace's rows in its tree.

    Args:
        rows: each span once, in any order; at least one.
        facts: facts about parents that are not stored, see `find_orphans`.
        root_service: service whose root is the trace's, if several services have one; None if unknown.
        offsets: by host, how far its clock is ahead; own and critical times, and the order, are by clocks
            without their offsets.
    """
    rows = list(rows)
    ordered = sorted(rows, key=lambda row: _start(row, offsets))
    timed = [row._replace(start_ns=_start(row, offsets)) for row in ordered] if offsets else ordered
    parents, entries = _find_parents(ordered, facts)
    children: list[list[int]] = [[] for _ in ordered]
    for position, parent in enumerate(parents):
        if parent is not None:
            children[parent].append(position)
    roots = [position for position, parent in enumerate(parents) if parent is None]
    extent = find_extent(rows, facts.now_ns, root_service)
    return Arrangement(
        rows=ordered,
        offsets=offsets,
        timed=timed,
        children=children,
        roots=roots,
        self_ns=[
            _self_time(row, [timed[child] for child in below] if below else ())
            for row, below in zip(timed, children, strict=True)
        ],
        critical_ns=find_critical(timed, children, roots),
        missing=entries,
        start_ns=extent.start_ns,
        duration_ns=_duration(ordered, extent, root_service),
    )


def _start(row: SpanRow, offsets: Mapping[str, Offset]) -> int:
    """Return the start of a span by the clock of the root's host."""
    offset = offsets.get(row.host)
    return row.start_ns if offset is None else row.start_ns - offset.offset_ns


def find_orphans(rows: Sequence[SpanRow]) -> list[Orphan]:
    """Return the spans whose parent is not among the rows."""
    there = {row.span_id for row in rows}
    return [
        _orphan(row, row.parent_id)
        for row in rows
        if row.parent_id is not None and row.parent_id not in there
    ]


def cover(intervals: Iterable[tuple[int, int]], start_ns: int, end_ns: int) -> list[tuple[int, int]]:
    """Return the union of intervals within [start_ns, end_ns), as disjoint intervals in order."""
    union: list[tuple[int, int]] = []
    for begin, end in sorted(intervals):
        begin, end = max(begin, start_ns), min(end, end_ns)
        if begin >= end:
            continue
        if union and begin <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], end))
        else:
            union.append((begin, end))
    return union


@dataclass(slots=True)
class Extent:
    """Start and end of a tree, as `ztrace_collector.tables.extent` has them."""

    start_ns: int
    end_ns: int
    root_start_ns: int | None = None


def find_extent(rows: Sequence[SpanRow], now_ns: int, root_service: str | None = None) -> Extent:
    """Return the extent of a tree, by the rules by which the collector keeps that of a trace.

    Args:
        rows: the spans in the order of storing, at least one.
        now_ns: present time, by which a span lies in the future; 0 if unknown.
        root_service: as in `build_tree`.
    """
    now_ns = now_ns or max(row.end_ns for row in rows)
    # As in lists: the collector's row has the ended spans alone; open ones can only make it begin earlier.
    ended = [row for row in rows if row.duration_ns is not None] or rows
    extent, root = Extent(ended[0].start_ns, ended[0].end_ns), None
    for row in ended:
        extend(extent, row.start_ns, row.end_ns, now_ns)
    for row in rows:
        if _may_be_root(row, root_service) and (root is None or _root_key(row) < _root_key(root)):
            root = row
            set_root(extent, row.start_ns, row.end_ns)
    if root is None:
        opened = (row.start_ns for row in rows if row.duration_ns is None)
        extent.start_ns = min([extent.start_ns, *opened])
    return extent


def _may_be_root(row: SpanRow, root_service: str | None) -> bool:
    return row.parent_id is None and root_service in (None, row.service)


def _root_key(row: SpanRow) -> tuple[int, bytes, bool, int]:
    return row.start_ns, row.span_id, row.duration_ns is None, row.duration_ns or 0


def _duration(ordered: Sequence[SpanRow], extent: Extent, root_service: str | None) -> int | None:
    """Return the duration of the earliest root, None while it is open; without a root, the extent of all.

    The collector writes the same into ``traces``, so lists and trees agree.
    """
    roots = [row for row in ordered if _may_be_root(row, root_service)]
    if roots:
        return min(roots, key=_root_key).duration_ns
    is_open = all(row.duration_ns is None for row in ordered)
    return None if is_open else extent.end_ns - extent.start_ns


def _find_parents(ordered: Sequence[SpanRow], facts: Facts) -> tuple[list[int | None], list[Missing]]:
    positions: dict[bytes, int] = {}
    entries: list[Missing] = []
    for position, row in enumerate(ordered):
        if positions.setdefault(row.span_id, position) != position:
            entries.append({"reason": missing.REPEATED, "span_id": row.span_id.hex()})
    parents = [None if row.parent_id is None else positions.get(row.parent_id) for row in ordered]
    circles = break_circles(parents)
    for position, row in enumerate(ordered):
        if row.parent_id is not None and parents[position] is None:
            if position in circles:
                parent_id = row.parent_id.hex()
                entries.append(
                    {"reason": missing.CIRCLE, "span_id": row.span_id.hex(), "parent_id": parent_id}
                )
            else:
                entries.append(missing.explain_orphan(_orphan(row, row.parent_id), facts))
        if row.status == UNFINISHED:
            state = states.LOST if row.unfinished is None else row.unfinished["state"]
            reason = _UNFINISHED_REASONS.get(state, missing.ENDED_WITH_PROCESS)
            entries.append({"reason": reason, "span_id": row.span_id.hex()})
    return parents, entries


def _orphan(row: SpanRow, parent_id: bytes) -> Orphan:
    return Orphan(row.span_id, parent_id, row.kind, row.instance_id, row.start_ns, row.end_ns)


def break_circles(parents: list[int | None]) -> set[int]:
    """Make the earliest span of each circle a root, and return the positions of these spans."""
    broken = set(find_circles(parents))
    for position in broken:
        parents[position] = None
    return broken


def _self_time(row: SpanRow, children: Sequence[SpanRow]) -> int | None:
    """Return the stored self time, or the time not covered by the stored children if that is less.

    The span's process knew only its own children. A consumer does not take time from its producer.
    """
    if row.duration_ns is None:
        return row.self_ns
    if not children:
        return row.duration_ns if row.self_ns is None else min(row.self_ns, row.duration_ns)
    end_ns = row.start_ns + row.duration_ns
    intervals = [
        (child.start_ns, child.start_ns + child.duration_ns)
        for child in children
        if child.duration_ns is not None and child.kind != "consumer"
    ]
    busy_ns = sum(end - begin for begin, end in cover(intervals, row.start_ns, end_ns))
    left_ns = max(0, row.duration_ns - busy_ns)
    return left_ns if row.self_ns is None else min(row.self_ns, left_ns)
