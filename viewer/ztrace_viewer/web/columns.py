"""A call tree in columns, for the page.

One idea: a list per field in place of an object per span, in the order of the tree. Names and kinds are
listed once, so a tree of 20,000 spans is a tenth of its JSON document.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypedDict

from ztrace_viewer.documents.trees import Missing
from ztrace_viewer.queries.exceptions import Raised
from ztrace_viewer.trees.arrangement import Arrangement


class RaisedDocument(TypedDict):
    """An exception in a row."""

    type: str
    message: str
    how: str
    origin: bool
    group: str


class TreeColumns(TypedDict):
    """``/data/trace/ID``: a call tree in columns; row 0 is the first root.

    The start is text: it exceeds the integers that a browser's numbers hold exactly. Of each row: the place
    in ``calls`` (service, name and kind), its depth, its begin in nanoseconds after that of the row before,
    its time, own and critical time (-1 if unknown), and its id. ``states`` has the rows that are not ok (1
    error, 2 unfinished), and ``exceptions`` what ended rows.
    """

    trace_id: str
    start_ns: str
    duration_ns: int | None
    services: list[str]
    span_count: int
    error_count: int
    complete: bool
    missing: list[Missing]
    calls: list[tuple[str, str, str]]
    call: list[int]
    depth: list[int]
    begin: list[int]
    time: list[int]
    own: list[int]
    critical: list[int]
    span: list[str]
    states: dict[int, int]
    exceptions: dict[int, RaisedDocument]


def make_columns(trace_id: bytes, tree: Arrangement, raised: Mapping[bytes, Raised]) -> TreeColumns:
    """Return a tree in columns.

    Args:
        trace_id: 16 bytes.
        tree: the spans in their places.
        raised: exceptions by the span they ended.
    """
    positions, depths = tree.walk()
    rows = [tree.rows[position] for position in positions]
    starts = [tree.start_ns, *(tree.timed[position].start_ns for position in positions)]
    calls: dict[tuple[str, str, str], int] = {}
    left = dict(raised)
    return {
        "trace_id": trace_id.hex(),
        "start_ns": str(tree.start_ns),
        "duration_ns": tree.duration_ns,
        "services": tree.services,
        "span_count": len(rows),
        "error_count": tree.error_count,
        "complete": not tree.missing,
        "missing": tree.missing,
        "call": [calls.setdefault((row.service, row.name, row.kind), len(calls)) for row in rows],
        "calls": list(calls),
        "depth": depths,
        "begin": [start - before for before, start in pairwise(starts)],
        "time": [-1 if row.duration_ns is None else row.duration_ns for row in rows],
        "own": _fill(tree.self_ns, positions),
        "critical": _fill(tree.critical_ns, positions),
        "span": [row.span_id.hex() for row in rows],
        "states": {number: row.status for number, row in enumerate(rows) if row.status},
        "exceptions": {
            number: _describe(found)
            for number, row in enumerate(rows)
            if left and (found := left.pop(row.span_id, None))
        },
    }


def _fill(times_ns: Sequence[int | None], positions: Sequence[int]) -> list[int]:
    """Return times in the order of positions, -1 for those that are unknown."""
    return [-1 if (time_ns := times_ns[position]) is None else time_ns for position in positions]


def _describe(raised: Raised) -> RaisedDocument:
    return {
        "type": raised.type,
        "message": raised.message,
        "how": raised.how,
        "origin": raised.is_origin,
        "group": raised.group,
    }
