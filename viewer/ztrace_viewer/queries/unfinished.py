"""Spans that have begun and not ended: which there are, and whether they can still be running.

One idea: a span is as alive as its process. While that is heard of the span runs; once it is not, the span
ended with it, at the last sign of it.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ztrace.records import ABANDONED as ABANDONED_ATTRIBUTE
from ztrace_viewer.documents import UnfinishedState
from ztrace_viewer.json_text import read_json

#: A publisher beats every second: after five without one it is silent.
SILENT_AFTER_NS = 5_000_000_000
#: A span is told of again at the latest after a minute, with very many of them some seconds later. After two
#: minutes without that, while its process is heard of, it has ended, and its end never came.
LOST_AFTER_NS = 120_000_000_000

#: What may be known of a span that has not ended. Running: its process is there. Ended, crashed, silent: its
#: process is not, and that is how it went. Lost: its process is there, and tells of it no more. Abandoned:
#: nobody in its process holds it any more, so nobody can end it.
RUNNING, ENDED, CRASHED, SILENT = "running", "ended", "crashed", "silent"
LOST, ABANDONED = "lost", "abandoned"
#: The states of a span that went with its process.
WITH_PROCESS = (ENDED, CRASHED, SILENT)

#: What they are called where there is little room.
STATE_WORDS = {
    RUNNING: "running",
    ENDED: "ended with its process",
    CRASHED: "its process crashed",
    SILENT: "its process is silent",
    LOST: "its end was lost",
    ABANDONED: "let go without an end",
}

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


def state_of_publisher(state: str, last_seen_ns: int, now_ns: int) -> str:
    """Return what a publisher is by now: ``live`` becomes ``silent`` without a word."""
    return SILENT if state == "live" and now_ns - last_seen_ns > SILENT_AFTER_NS else state


def state_of_span(
    publisher_state: str, last_seen_ns: int, seen_ns: int, abandoned: bool, now_ns: int
) -> UnfinishedState:
    """Tell what has become of a span that has not ended.

    Args:
        publisher_state: ``live``, ``ended`` or ``crashed``, as it is stored.
        last_seen_ns: when its publisher was last heard of.
        seen_ns: when that last told of the span.
        abandoned: it said that nobody will end it.
        now_ns: by the same clock.
    """
    state = state_of_publisher(publisher_state, last_seen_ns, now_ns)
    if abandoned:
        return {"state": ABANDONED, "last_seen_ns": seen_ns}
    if state in WITH_PROCESS:
        return {"state": state, "last_seen_ns": last_seen_ns}
    if last_seen_ns - seen_ns > LOST_AFTER_NS:
        return {"state": LOST, "last_seen_ns": seen_ns}
    return {"state": RUNNING, "last_seen_ns": last_seen_ns}


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
