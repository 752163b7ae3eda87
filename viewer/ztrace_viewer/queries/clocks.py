"""Offsets of the clocks of one tree's hosts, from the bounds that calls between them have set."""

from collections import defaultdict, deque
from typing import NamedTuple

from ztrace.records import OK
from ztrace_collector.layout import CLOCK_CELL_NS
from ztrace_collector.settling.clocks import make_call
from ztrace_viewer.queries.stores.store import Trees
from ztrace_viewer.trees.clocks import NEAREST, Cell, Offset, find_offset
from ztrace_viewer.trees.columns import Spans


class _Link(NamedTuple):
    """Two hosts of a tree, the first one by name, and a moment by its clock."""

    host: str
    other: str
    at_ns: int


def read_offsets(store: Trees, spans: Spans) -> dict[str, Offset]:
    """Return how far the clocks of a tree's hosts are ahead of that of its root's host.

    Args:
        store: the store.
        spans: spans of the tree.

    Returns:
        Offsets by host, without the root's host and hosts whose clocks are unknown.
    """
    if len({process.host for process in set(spans.process)}) < 2:
        return {}
    links, own = _find_links(spans)
    measured: defaultdict[str, dict[str, Offset]] = defaultdict(dict)
    for link in links.values():
        # One more on each side, since a cell's bounds lie in it by one clock only.
        cells = store.clock_cells(link.host, link.other, link.at_ns // CLOCK_CELL_NS, NEAREST + 2)
        offset = find_offset(cells, own.get((link.host, link.other)), link.at_ns)
        if offset is not None:
            measured[link.host][link.other] = offset
            measured[link.other][link.host] = offset.reverse
    root = spans.process[_find_first(spans)].host
    offsets, pending = {root: Offset(0, 0, 0, 0)}, deque([root])
    while pending:
        host = pending.popleft()
        for other, offset in measured[host].items():
            if other not in offsets:
                offsets[other] = offset if host == root else offsets[host].then(offset)
                pending.append(other)
    del offsets[root]
    return offsets


def _find_first(spans: Spans) -> int:
    """Return the position of the earliest root, or of the earliest span if there is no root."""
    return min(
        range(len(spans.span_id)),
        key=lambda each: (spans.parent_id[each] is not None, spans.start_ns[each], spans.span_id[each]),
    )


def _find_links(spans: Spans) -> tuple[dict[tuple[str, str], _Link], dict[tuple[str, str], Cell]]:
    """Return the pairs of hosts between which a tree has calls, and the bounds of those that succeeded."""
    places = {span_id: position for position, span_id in enumerate(spans.span_id)}
    hosts = [process.host for process in spans.process]
    links: dict[tuple[str, str], _Link] = {}
    own: dict[tuple[str, str], Cell] = {}
    for position, parent_id in enumerate(spans.parent_id):
        parent = None if parent_id is None else places.get(parent_id)
        if parent is None or hosts[position] == hosts[parent] or "" in (hosts[position], hosts[parent]):
            continue
        is_called = hosts[parent] < hosts[position]
        first, second = (parent, position) if is_called else (position, parent)
        pair, at_ns = (hosts[first], hosts[second]), spans.start_ns[first]
        links.setdefault(pair, _Link(*pair, at_ns))
        kinds = spans.call[parent].kind, spans.call[position].kind
        if kinds != ("client", "server") or not spans.status[parent] == spans.status[position] == OK:
            continue
        call = make_call(
            (hosts[parent], hosts[position]),
            (spans.start_ns[parent], spans.end_ns(parent)),
            (spans.start_ns[position], spans.end_ns(position)),
        )
        if call is None:
            continue
        low_ns, high_ns = (call.low_ns, call.high_ns) if is_called else (-call.high_ns, -call.low_ns)
        known = own.get(pair)
        if known is None:
            own[pair] = Cell(at_ns, low_ns, at_ns, high_ns, 1)
        else:
            low_ns, high_ns = max(low_ns, known.low_ns), min(high_ns, known.high_ns)
            own[pair] = known._replace(low_ns=low_ns, high_ns=high_ns, calls=known.calls + 1)
    return links, own
