"""A call tree in columns, for the page.

One idea: a list per field in place of an object per span, in the order of the tree. Names, kinds and
processes are listed once, so a tree of 20,000 spans is a tenth of its JSON document.
"""

from collections.abc import Hashable, Mapping
from typing import TypedDict, TypeVar

from ztrace_viewer.documents.trees import Missing, TimedInstance
from ztrace_viewer.queries.exceptions import Raised
from ztrace_viewer.trees.arrangement import Arrangement

_K = TypeVar("_K", bound=Hashable)


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
    in ``calls`` (service, name and kind) and in ``instances``, its depth, the number of rows from it on that
    are it and those below it, its begin in nanoseconds after the start, its time, own and critical time (-1
    if unknown), its state (0 ok, 1 error, 2 unfinished) and its id. ``exceptions`` has what ended rows.
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
    instances: list[TimedInstance]
    call: list[int]
    instance: list[int]
    depth: list[int]
    size: list[int]
    begin: list[int]
    time: list[int]
    own: list[int]
    critical: list[int]
    state: list[int]
    span: list[str]
    exceptions: dict[int, RaisedDocument]


def make_columns(trace_id: bytes, tree: Arrangement, raised: Mapping[bytes, Raised]) -> TreeColumns:
    """Return a tree in columns.

    Args:
        trace_id: 16 bytes.
        tree: the spans in their places.
        raised: exceptions by the span they ended.
    """
    calls: dict[tuple[str, str, str], int] = {}
    instances: dict[str, int] = {}
    listed: list[TimedInstance] = []
    left = dict(raised)
    placed = list(tree.walk())
    rows = [tree.rows[position] for position, _ in placed]
    exceptions: dict[int, RaisedDocument] = {}
    for number, row in enumerate(rows):
        if _place(instances, row.instance_id) == len(listed):
            listed.append(
                {"id": row.instance_id, "host": row.host, "pid": row.pid, "clock": tree.find_clock(row.host)}
            )
        if found := left.pop(row.span_id, None):
            exceptions[number] = _describe(found)
    depths = [depth for _, depth in placed]
    return {
        "trace_id": trace_id.hex(),
        "start_ns": str(tree.start_ns),
        "duration_ns": tree.duration_ns,
        "services": tree.services,
        "span_count": len(rows),
        "error_count": tree.error_count,
        "complete": not tree.missing,
        "missing": tree.missing,
        "call": [_place(calls, (row.service, row.name, row.kind)) for row in rows],
        "calls": list(calls),
        "instances": listed,
        "instance": [instances[row.instance_id] for row in rows],
        "depth": depths,
        "size": _count_below(depths),
        "begin": [tree.timed[position].start_ns - tree.start_ns for position, _ in placed],
        "time": [_or_unknown(row.duration_ns) for row in rows],
        "own": [_or_unknown(tree.self_ns[position]) for position, _ in placed],
        "critical": [_or_unknown(tree.critical_ns[position]) for position, _ in placed],
        "state": [row.status for row in rows],
        "span": [row.span_id.hex() for row in rows],
        "exceptions": exceptions,
    }


def _place(places: dict[_K, int], value: _K) -> int:
    """Return a value's place in the order of their first use."""
    return places.setdefault(value, len(places))


def _or_unknown(time_ns: int | None) -> int:
    return -1 if time_ns is None else time_ns


def _describe(raised: Raised) -> RaisedDocument:
    return {
        "type": raised.type,
        "message": raised.message,
        "how": raised.how,
        "origin": raised.is_origin,
        "group": raised.group,
    }


def _count_below(depths: list[int]) -> list[int]:
    """Return the number of rows of each row's subtree, itself included."""
    sizes = [1] * len(depths)
    opened: list[int] = []
    for row, depth in enumerate([*depths, 0]):
        for above in opened[depth:]:
            sizes[above] = row - above
        del opened[depth:]
        opened.append(row)
    return sizes
