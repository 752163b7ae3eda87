"""Traces that began in a stretch of time, the newest first.

One idea: hours are read one by one from the end, and within an hour in pages of growing size: most searches
are complete after the first few hundred traces.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple

from ztrace_collector.layout import HOUR_NS
from ztrace_viewer.queries.deadline import Deadline
from ztrace_viewer.queries.stores.answers import Candidate
from ztrace_viewer.queries.stores.conditions import Wanted
from ztrace_viewer.queries.stores.store import Searching
from ztrace_viewer.terminal.durations import UNITS_NS

#: Traces of the first page and of the largest; each page scans its hour's part of the index twice.
FIRST_PAGE, LAST_PAGE = 128, 16_384
#: Traces of a page in memory at once.
CHUNK = 1024


class Page(NamedTuple):
    """Some traces, and the time back to which the search has come."""

    traces: list[Candidate]
    since_ns: int


def read_pages(store: Searching, wanted: Wanted) -> Iterator[Page]:
    """Yield the traces that meet the conditions, the newest first."""
    size, last_hour = FIRST_PAGE, wanted.end_ns // HOUR_NS
    while True:
        hour = store.last_hour(last_hour)
        if hour is None or hour < wanted.start_ns // HOUR_NS:
            return
        last_hour = hour - 1
        start_ns = max(wanted.start_ns, hour * HOUR_NS)
        end_ns = min(wanted.end_ns, (hour + 1) * HOUR_NS - 1)
        while start_ns <= end_ns:
            # First trace beyond the page; traces that began at the same time stay together.
            beyond_ns = store.page_start(hour, start_ns, end_ns, size)
            since_ns = start_ns if beyond_ns is None else min(end_ns, beyond_ns + 1)
            rows = store.candidates(hour, wanted._replace(start_ns=since_ns, end_ns=end_ns))
            while chunk := list(islice(rows, CHUNK)):
                yield Page(chunk, chunk[-1].start_ns)
            yield Page([], since_ns)
            end_ns = since_ns - 1
            size = min(LAST_PAGE, 2 * size)


def split(traces: Sequence[Candidate], size: int, spans: int) -> Iterator[list[Candidate]]:
    """Yield traces in chunks, at least one in each, of a number of traces and of spans."""
    chunk: list[Candidate] = []
    room = spans
    for trace in traces:
        if chunk and (trace.span_count > room or len(chunk) == size):
            yield chunk
            chunk, room = [], spans
        chunk.append(trace)
        room -= trace.span_count
    if chunk:
        yield chunk


def explain_end(since_ns: int, deadline: Deadline) -> str:
    """Return a note on the time back to which the search came before the deadline."""
    since = datetime.fromtimestamp(since_ns // UNITS_NS["s"], UTC)
    return f"searched back to {since:%Y-%m-%dT%H:%M:%SZ} within {deadline.limit_s:g} s; select a shorter time"
