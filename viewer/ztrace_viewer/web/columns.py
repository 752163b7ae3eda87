"""A call tree in columns, for the page.

One idea: a list per field in place of an object per span, in the order of the tree. Names and kinds are
listed once, so a tree of 20,000 spans is a tenth of its JSON document.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TypedDict, TypeVar

from ztrace_viewer.documents.trees import Clock, Missing
from ztrace_viewer.queries.exceptions import Raised
from ztrace_viewer.trees.arrangement import Arrangement
from ztrace_viewer.trees.columns import Call, Spans

T = TypeVar("T")


class RaisedDocument(TypedDict):
    """An exception in a row."""

    type: str
    message: str
    how: str
    origin: bool
    group: str


class HostClock(Clock):
    """Clock of a host whose offset is taken out of the times of its services."""

    host: str
    services: list[str]


class TreeColumns(TypedDict):
    """``/data/trace/ID``: a call tree in columns; row 0 is the first root.

    The start is text: it exceeds the integers that a browser's numbers hold exactly. Of each row: the place
    in ``calls`` (place of the service in ``services``, name and kind), its depth, its begin in nanoseconds
    after that of the row before, and its time, own and critical time (-1 if unknown). ``ids`` are the span
    ids, eight bytes each, in base64. ``states`` has the rows that are not ok (1 error, 2 unfinished), and
    ``exceptions`` what ended rows.
    """

    trace_id: str
    start_ns: str
    duration_ns: int | None
    services: list[str]
    span_count: int
    error_count: int
    complete: bool
    missing: list[Missing]
    clocks: list[HostClock]
    calls: list[tuple[int, str, str]]
    call: list[int]
    depth: Sequence[int]
    begin: list[int]
    time: list[int]
    own: list[int]
    critical: list[int]
    ids: str
    states: dict[int, int]
    exceptions: dict[int, RaisedDocument]


def make_columns(trace_id: bytes, tree: Arrangement, raised: Mapping[bytes, Raised]) -> TreeColumns:
    """Return a tree in columns.

    Args:
        trace_id: 16 bytes.
        tree: the spans in their places.
        raised: exceptions by the span they ended.
    """
    spans, order = tree.spans, tree.order
    begins_ns = [tree.start_ns, *_pick(tree.begins_ns, order)]
    calls: dict[Call, int] = {}
    services = {service: number for number, service in enumerate(tree.services)}
    return {
        "trace_id": trace_id.hex(),
        "start_ns": str(tree.start_ns),
        "duration_ns": tree.duration_ns,
        "services": tree.services,
        "span_count": len(order),
        "error_count": tree.error_count,
        "complete": not tree.missing,
        "missing": tree.missing,
        "clocks": _list_clocks(tree),
        "call": [calls.setdefault(call, len(calls)) for call in _pick(spans.call, order)],
        "calls": [(services[call.service], call.name, call.kind) for call in calls],
        "depth": tree.depths,
        "begin": [begin - before for before, begin in pairwise(begins_ns)],
        "time": _fill(spans.duration_ns, order),
        "own": _fill(tree.self_ns, order),
        "critical": _fill(tree.critical_ns, order),
        "ids": b64encode(b"".join(_pick(spans.span_id, order))).decode(),
        "states": {number: status for number, status in enumerate(_pick(spans.status, order)) if status},
        "exceptions": _place(raised, spans, order),
    }


def _list_clocks(tree: Arrangement) -> list[HostClock]:
    """Return the clocks whose offsets are taken out, the one that differs most first."""
    if not tree.offsets:
        return []
    services: dict[str, set[str]] = {}
    for call, process in set(zip(tree.spans.call, tree.spans.process, strict=True)):
        services.setdefault(process.host, set()).add(call.service)
    return [
        {"host": host, "services": sorted(services[host]), **offset.document}
        for host, offset in sorted(tree.offsets.items(), key=lambda each: (-abs(each[1].offset_ns), each[0]))
    ]


def _pick(column: Sequence[T], order: Sequence[int]) -> Iterator[T]:
    """Return the values of a column in the order of the tree."""
    return map(column.__getitem__, order)


def _fill(times_ns: Sequence[int | None], order: Sequence[int]) -> list[int]:
    """Return times in the order of the tree, -1 for those that are unknown."""
    return [-1 if time_ns is None else time_ns for time_ns in _pick(times_ns, order)]


def _place(raised: Mapping[bytes, Raised], spans: Spans, order: Sequence[int]) -> dict[int, RaisedDocument]:
    """Return exceptions by their rows; of rows with the same id, the first one has it."""
    left = dict(raised)
    return {
        number: _describe(found)
        for number, span_id in enumerate(_pick(spans.span_id, order) if left else ())
        if (found := left.pop(span_id, None))
    }


def _describe(raised: Raised) -> RaisedDocument:
    return {
        "type": raised.type,
        "message": raised.message,
        "how": raised.how,
        "origin": raised.is_origin,
        "group": raised.group,
    }
