"""A call tree in columns, for the page.

One idea: a list per field in place of an object per span, in the order of the tree. Names, kinds and
processes are listed once, so a tree of 20,000 spans is a tenth of its JSON document.
"""

from collections.abc import Hashable
from typing import TypedDict, TypeVar

from ztrace_viewer.documents.trees import Instance, Missing, SpanDocument, TreeDocument
from ztrace_viewer.trees.tree import walk

#: Values of ``state``.
STATES = {"ok": 0, "error": 1, "unfinished": 2}

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
    if unknown), its state and its id. ``exceptions`` has those of rows that failed by one, by row.
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
    instances: list[Instance]
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


def make_columns(tree: TreeDocument) -> TreeColumns:
    """Return a tree in columns."""
    calls: dict[tuple[str, str, str], int] = {}
    instances: dict[str, int] = {}
    listed: list[Instance] = []
    columns: TreeColumns = {
        "trace_id": tree["trace_id"],
        "start_ns": str(tree["start_ns"]),
        "duration_ns": tree["duration_ns"],
        "services": tree["services"],
        "span_count": tree["span_count"],
        "error_count": tree["error_count"],
        "complete": tree["complete"],
        "missing": tree["missing"],
        "calls": [],
        "instances": listed,
        "call": [],
        "instance": [],
        "depth": [],
        "size": [],
        "begin": [],
        "time": [],
        "own": [],
        "critical": [],
        "state": [],
        "span": [],
        "exceptions": {},
    }
    for row, (span, depth) in enumerate(walk(tree["roots"])):
        instance = span["instance"]
        if _place(instances, instance["id"]) == len(listed):
            listed.append(instance)
        columns["call"].append(_place(calls, (span["service"], span["name"], span["kind"])))
        columns["instance"].append(instances[instance["id"]])
        columns["depth"].append(depth)
        columns["begin"].append(span["start_ns"] - tree["start_ns"])
        columns["time"].append(_or_unknown(span["duration_ns"]))
        columns["own"].append(_or_unknown(span["self_ns"]))
        columns["critical"].append(_or_unknown(span["critical_ns"]))
        columns["state"].append(STATES[span["status"]])
        columns["span"].append(span["span_id"])
        if raised := _describe(span):
            columns["exceptions"][row] = raised
    columns["calls"] = list(calls)
    columns["size"] = _count_below(columns["depth"])
    return columns


def _place(places: dict[_K, int], value: _K) -> int:
    """Return a value's place in the order of their first use."""
    return places.setdefault(value, len(places))


def _or_unknown(time_ns: int | None) -> int:
    return -1 if time_ns is None else time_ns


def _describe(span: SpanDocument) -> RaisedDocument | None:
    raised = span["exception"]
    if raised is None:
        return None
    return {
        "type": raised["type"],
        "message": raised["message"],
        "how": raised["how"],
        "origin": raised["origin"],
        "group": raised["group"],
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
