"""Positions of the spans of a trace in its tree, and their times.

One idea: a span is a position in the columns, not an id. Ids from the wire can be repeated, name themselves
as parent or form a circle; positions cannot, so each span comes out exactly once, and wrong ids are listed in
``missing``. No function recurses: a tree can be as deep as it has spans.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ztrace.records import ERROR, UNFINISHED
from ztrace_collector.settling.shapes import find_circles
from ztrace_viewer.documents.trees import Clock, Missing
from ztrace_viewer.trees import missing, states
from ztrace_viewer.trees.clocks import NO_OFFSETS, Offset
from ztrace_viewer.trees.columns import Spans
from ztrace_viewer.trees.critical import find_critical
from ztrace_viewer.trees.extent import find_extent
from ztrace_viewer.trees.missing import NO_FACTS, Facts, Orphan

#: Reason in ``missing`` for a span without an end, by its state.
_UNFINISHED_REASONS = {
    states.RUNNING: missing.STILL_RUNNING,
    states.LOST: missing.END_LOST,
    states.ABANDONED: missing.ABANDONED,
}


@dataclass(slots=True)
class Arrangement:
    """Places of the spans of a trace in its tree.

    Attributes:
        spans: as stored.
        offsets: by host, how far its clock is ahead.
        begins_ns: start of each span by clocks without their offsets.
        order: positions in the order of the tree, parents before children.
        depths: depth of each position in ``order``.
        children: positions of the children of each span that has any, in the order of their start.
        roots: positions of the spans without a parent.
        self_ns: own time of each span, None if unknown.
        critical_ns: each span's own time on the critical path of its root, None if unknown.
        missing: reasons for which the tree is incomplete.
        start_ns: start of the tree.
        duration_ns: duration of the tree, None while it is open.
    """

    spans: Spans
    offsets: Mapping[str, Offset]
    begins_ns: Sequence[int]
    order: Sequence[int]
    depths: Sequence[int]
    children: Mapping[int, Sequence[int]]
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
        """Services of the spans, sorted."""
        return sorted({call.service for call in set(self.spans.call)})

    @property
    def error_count(self) -> int:
        """Number of spans that failed."""
        return sum(status == ERROR for status in self.spans.status)


def arrange(
    spans: Spans,
    facts: Facts = NO_FACTS,
    root_service: str | None = None,
    offsets: Mapping[str, Offset] = NO_OFFSETS,
) -> Arrangement:
    """Return the places of a trace's spans in its tree.

    Args:
        spans: at least one, each once.
        facts: facts about parents that are not stored, see `find_orphans`.
        root_service: service whose root is the trace's, if several services have one; None if unknown.
        offsets: by host, how far its clock is ahead; own and critical times, and the order, are by clocks
            without their offsets.
    """
    begins_ns = _correct(spans, offsets)
    by_start = sorted(range(len(begins_ns)), key=begins_ns.__getitem__)
    places = dict(zip(spans.span_id, range(len(begins_ns)), strict=True))
    if len(places) < len(begins_ns):  # Of spans with the same id, the earliest is the parent of others.
        places = {spans.span_id[position]: position for position in reversed(by_start)}
    parents = [None if parent_id is None else places.get(parent_id) for parent_id in spans.parent_id]
    roots, children = _connect(parents, by_start)
    order, depths = _walk(roots, children)
    circles: set[int] = set()
    if len(order) < len(begins_ns):
        circles = _break_circles(parents, by_start)
        roots, children = _connect(parents, by_start)
        order, depths = _walk(roots, children)
    start_ns, duration_ns = find_extent(spans, facts.now_ns, root_service)
    return Arrangement(
        spans=spans,
        offsets=offsets,
        begins_ns=begins_ns,
        order=order,
        depths=depths,
        children=children,
        roots=roots,
        self_ns=_find_own(spans, begins_ns, children),
        critical_ns=find_critical(spans, begins_ns, children, roots, order),
        missing=_explain_missing(spans, by_start, places, parents, circles, facts),
        start_ns=start_ns,
        duration_ns=duration_ns,
    )


def find_orphans(spans: Spans) -> list[Orphan]:
    """Return the spans whose parent is not among them."""
    missing_ids = set(spans.parent_id).difference(spans.span_id, [None])
    if not missing_ids:
        return []
    return [
        _orphan(spans, position, parent_id)
        for position, parent_id in enumerate(spans.parent_id)
        if parent_id is not None and parent_id in missing_ids
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


def break_circles(parents: list[int | None]) -> set[int]:
    """Make the first span of each circle a root, and return the positions of these spans."""
    broken = set(find_circles(parents))
    for position in broken:
        parents[position] = None
    return broken


def _correct(spans: Spans, offsets: Mapping[str, Offset]) -> Sequence[int]:
    """Return the start of each span by the clock of the root's host."""
    if not offsets:
        return spans.start_ns
    ahead_ns = {host: offset.offset_ns for host, offset in offsets.items()}
    return [
        start_ns - ahead_ns.get(process.host, 0)
        for start_ns, process in zip(spans.start_ns, spans.process, strict=True)
    ]


def _connect(
    parents: Sequence[int | None], by_start: Sequence[int]
) -> tuple[list[int], dict[int, list[int]]]:
    """Return the positions of the roots, and those of the children of each parent, by their start."""
    roots: list[int] = []
    children: dict[int, list[int]] = {}
    for position in by_start:
        parent = parents[position]
        if parent is None:
            roots.append(position)
        elif parent in children:
            children[parent].append(position)
        else:
            children[parent] = [position]
    return roots, children


def _walk(roots: list[int], children: Mapping[int, Sequence[int]]) -> tuple[list[int], list[int]]:
    """Return the positions in the order of the tree, parents before children, and the depth of each."""
    order: list[int] = []
    depths: list[int] = []
    pending = roots[::-1]
    levels = [0] * len(pending)
    while pending:
        position, depth = pending.pop(), levels.pop()
        order.append(position)
        depths.append(depth)
        if position in children:
            below = children[position]
            pending += reversed(below)
            levels += [depth + 1] * len(below)
    return order, depths


def _break_circles(parents: list[int | None], by_start: Sequence[int]) -> set[int]:
    """Make the earliest span of each circle a root, and return the positions of these spans."""
    rank = {position: number for number, position in enumerate(by_start)}
    ranked = [None if (parent := parents[each]) is None else rank[parent] for each in by_start]
    broken = {by_start[number] for number in break_circles(ranked)}
    for position in broken:
        parents[position] = None
    return broken


def _explain_missing(
    spans: Spans,
    by_start: Sequence[int],
    places: Mapping[bytes, int],
    parents: Sequence[int | None],
    circles: set[int],
    facts: Facts,
) -> list[Missing]:
    """Return the reasons for which a tree is incomplete, by the start of the spans concerned."""
    entries: list[Missing] = []
    if (
        len(places) == len(parents)
        and parents.count(None) == spans.parent_id.count(None)
        and UNFINISHED not in spans.status
    ):
        return entries
    if len(places) < len(parents):
        for position in by_start:
            span_id = spans.span_id[position]
            if places[span_id] != position:
                entries.append({"reason": missing.REPEATED, "span_id": span_id.hex()})
    for position in by_start:
        parent_id, span_id = spans.parent_id[position], spans.span_id[position]
        if parent_id is not None and parents[position] is None:
            if position in circles:
                entries.append(
                    {"reason": missing.CIRCLE, "span_id": span_id.hex(), "parent_id": parent_id.hex()}
                )
            else:
                entries.append(missing.explain_orphan(_orphan(spans, position, parent_id), facts))
        if spans.status[position] == UNFINISHED:
            found = spans.unfinished.get(position)
            state = states.LOST if found is None else found["state"]
            reason = _UNFINISHED_REASONS.get(state, missing.ENDED_WITH_PROCESS)
            entries.append({"reason": reason, "span_id": span_id.hex()})
    return entries


def _orphan(spans: Spans, position: int, parent_id: bytes) -> Orphan:
    return Orphan(
        spans.span_id[position],
        parent_id,
        spans.call[position].kind,
        spans.process[position].instance_id,
        spans.start_ns[position],
        spans.end_ns(position),
    )


def _find_own(
    spans: Spans, begins_ns: Sequence[int], children: Mapping[int, Sequence[int]]
) -> list[int | None]:
    """Return the stored self times, or the time not covered by the stored children if that is less.

    A span's process knew only its own children. A consumer does not take time from its producer.
    """
    durations_ns, consumers = spans.duration_ns, spans.find_consumers()
    own_ns: list[int | None] = []
    for position, (duration_ns, stored_ns) in enumerate(zip(durations_ns, spans.self_ns, strict=True)):
        if duration_ns is None:
            own_ns.append(stored_ns)
            continue
        left_ns, reached_ns = duration_ns, begins_ns[position]
        end_ns = reached_ns + duration_ns
        for child in children.get(position, ()):  # By their start, so the covered time ends at `reached_ns`.
            child_ns = durations_ns[child]
            if child_ns is None or child in consumers:
                continue
            begin_ns = begins_ns[child]
            child_end_ns = begin_ns + child_ns
            if begin_ns < reached_ns:
                begin_ns = reached_ns
            if child_end_ns > end_ns:
                child_end_ns = end_ns
            if begin_ns < child_end_ns:
                left_ns -= child_end_ns - begin_ns
                reached_ns = child_end_ns
        own_ns.append(left_ns if stored_ns is None or stored_ns > left_ns else stored_ns)
    return own_ns
