"""Offsets of the clocks of one tree's hosts, from the bounds that calls between them have set."""

import sqlite3
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ztrace.records import OK
from ztrace_collector.layout import CLOCK_CELL_NS
from ztrace_collector.settling.clocks import make_call
from ztrace_viewer.queries.rows import name_columns, read
from ztrace_viewer.trees.clocks import NEAREST, Cell, Offset, find_offset
from ztrace_viewer.trees.spans import SpanRow

_CELLS = f"SELECT {name_columns(Cell)} FROM clock_bounds WHERE host = ? AND other_host = ?"


class _Link(NamedTuple):
    """Two hosts of a tree, the first one by name, and a moment by its clock."""

    host: str
    other: str
    at_ns: int


def read_offsets(db: sqlite3.Connection, rows: Sequence[SpanRow]) -> dict[str, Offset]:
    """Return how far the clocks of a tree's hosts are ahead of that of its root's host.

    Args:
        db: the database.
        rows: spans of the tree.

    Returns:
        Offsets by host, without the root's host and hosts whose clocks are unknown.
    """
    if len({row.host for row in rows}) < 2:
        return {}
    links, own = _find_links(rows)
    measured: defaultdict[str, dict[str, Offset]] = defaultdict(dict)
    for link in links.values():
        offset = find_offset(_read_cells(db, link), own.get((link.host, link.other)), link.at_ns)
        if offset is not None:
            measured[link.host][link.other] = offset
            measured[link.other][link.host] = offset.reverse
    root = min(rows, key=lambda row: (row.parent_id is not None, row.start_ns, row.span_id))
    offsets, pending = {root.host: Offset(0, 0, 0, 0)}, deque([root.host])
    while pending:
        host = pending.popleft()
        for other, offset in measured[host].items():
            if other not in offsets:
                offsets[other] = offset if host == root.host else offsets[host].then(offset)
                pending.append(other)
    del offsets[root.host]
    return offsets


def _find_links(
    rows: Sequence[SpanRow],
) -> tuple[dict[tuple[str, str], _Link], dict[tuple[str, str], Cell]]:
    """Return the pairs of hosts between which a tree has calls, and the bounds of those that succeeded."""
    parents = {row.span_id: row for row in rows}
    links: dict[tuple[str, str], _Link] = {}
    own: dict[tuple[str, str], Cell] = {}
    for row in rows:
        parent = None if row.parent_id is None else parents.get(row.parent_id)
        if parent is None or row.host == parent.host or "" in (row.host, parent.host):
            continue
        is_called = parent.host < row.host
        first, second = (parent, row) if is_called else (row, parent)
        pair = first.host, second.host
        links.setdefault(pair, _Link(*pair, first.start_ns))
        if (parent.kind, row.kind) != ("client", "server") or not parent.status == row.status == OK:
            continue
        call = make_call(
            (parent.host, row.host), (parent.start_ns, parent.end_ns), (row.start_ns, row.end_ns)
        )
        if call is None:
            continue
        low_ns, high_ns = (call.low_ns, call.high_ns) if is_called else (-call.high_ns, -call.low_ns)
        known = own.get(pair)
        if known is None:
            own[pair] = Cell(first.start_ns, low_ns, first.start_ns, high_ns, 1)
        else:
            low_ns, high_ns = max(low_ns, known.low_ns), min(high_ns, known.high_ns)
            own[pair] = known._replace(low_ns=low_ns, high_ns=high_ns, calls=known.calls + 1)
    return links, own


def _read_cells(db: sqlite3.Connection, link: _Link) -> Iterator[Cell]:
    """Yield the cells that are nearest to a moment, on either side."""
    cell = link.at_ns // CLOCK_CELL_NS
    # One more on each side, since a cell's bounds lie in it by one clock only.
    for side in (f"{_CELLS} AND cell <= ? ORDER BY cell DESC", f"{_CELLS} AND cell > ? ORDER BY cell"):
        yield from read(db, Cell, f"{side} LIMIT {NEAREST + 2}", (link.host, link.other, cell))
