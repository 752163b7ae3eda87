"""Spans that have started and not ended, with the state of each.

`ztrace_viewer.trees.states` derives the state from what the publisher last reported.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ztrace.records import ABANDONED as ABANDONED_ATTRIBUTE
from ztrace_viewer.documents import UnfinishedState
from ztrace_viewer.json_text import read_json
from ztrace_viewer.trees.states import RUNNING, state_of_span

_QUERY = """
SELECT trace_id, span_id, parent_id, methods.service, name, kind, start_ns, instance_id, host, pid,
    attributes, seen_ns, state, publishers.last_seen_ns
FROM unfinished_spans JOIN methods ON methods.id = method
    JOIN instances ON instances.id = unfinished_spans.instance
    JOIN publishers ON publishers.instance = unfinished_spans.instance
"""


@dataclass(frozen=True, slots=True)
class OpenSpan:
    """A row of ``unfinished_spans``, with its method, its process and what has become of it."""

    unfinished: UnfinishedState
    attributes: dict[str, object]
    trace_id: bytes
    span_id: bytes
    parent_id: bytes | None
    service: str
    name: str
    kind: str
    start_ns: int
    instance_id: str
    host: str
    pid: int

    def running_ns(self, now_ns: int) -> int:
        """Return how long it has been running, or ran until the last sign of it."""
        running = self.unfinished["state"] == RUNNING
        return max(0, (now_ns if running else self.unfinished["last_seen_ns"]) - self.start_ns)


def read_open_spans_of(db: sqlite3.Connection, trace_id: bytes, now_ns: int) -> list[OpenSpan]:
    """Return the spans of a trace that have not ended."""
    # The collector takes a row out when its span is stored; here it is not relied on.
    condition = (
        "trace_id = ? AND NOT EXISTS (SELECT 1 FROM spans"
        " WHERE spans.trace_id = unfinished_spans.trace_id AND spans.span_id = unfinished_spans.span_id)"
    )
    return list(read_open_spans(db, now_ns, condition, (trace_id,)))


def find_root(spans: Sequence[OpenSpan]) -> OpenSpan:
    """Return the root among open spans of one trace, or if there is none the earliest."""
    return min(spans, key=lambda span: (span.parent_id is not None, span.start_ns, span.span_id))


def read_open_spans(
    db: sqlite3.Connection, now_ns: int, condition: str = "", values: Sequence[object] = ()
) -> Iterator[OpenSpan]:
    """Yield the spans that have not ended, all or those that a condition on their columns holds for."""
    where = f" WHERE {condition}" if condition else ""
    for row in db.execute(_QUERY + where + " ORDER BY unfinished_spans.id", values):
        *columns, attributes, seen_ns, state, last_seen_ns = row
        read = read_json(attributes)
        named = read if isinstance(read, dict) else {}
        abandoned = named.get(ABANDONED_ATTRIBUTE) is True
        fate = state_of_span(state, last_seen_ns, seen_ns, abandoned, now_ns)
        yield OpenSpan(fate, named, *columns)
