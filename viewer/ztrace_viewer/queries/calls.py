"""Who calls whom: calls from one service into another.

One idea: no table has that, so spans are read, the newest traces first, for as long as there is time. Traces
of a single service, which their rows tell, have no such call and are not read.
"""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ztrace_viewer.queries.candidates import Candidate, Wanted, explain_end, read_pages
from ztrace_viewer.queries.deadline import Deadline

#: Traces whose spans are read by one statement.
_CHUNK = 500


class Calls(NamedTuple):
    """Calls between services.

    Attributes:
        counts: by caller and callee.
        note: what was left out for want of time; nothing if all was looked at.
    """

    counts: dict[tuple[str, str], int]
    note: str = ""


def count_calls(db: sqlite3.Connection, start_ns: int, end_ns: int, deadline: Deadline) -> Calls:
    """Count the calls in the traces that began between two moments."""
    services = dict(db.execute("SELECT id, service FROM methods"))
    counts: Counter[tuple[str, str]] = Counter()
    for page in read_pages(db, Wanted(start_ns, end_ns)):
        several = [trace for trace in page.traces if '","' in trace.services]
        for at in range(0, len(several), _CHUNK):
            chunk = several[at : at + _CHUNK]
            _count(db, chunk, services, counts)
            if deadline.is_over():
                return Calls(counts, explain_end(chunk[-1].start_ns, deadline))
        if deadline.is_over():
            return Calls(counts, explain_end(page.since_ns, deadline))
    return Calls(counts)


def _count(
    db: sqlite3.Connection,
    traces: Sequence[Candidate],
    services: dict[int, str],
    counts: Counter[tuple[str, str]],
) -> None:
    rows = db.execute(
        "SELECT trace_id, span_id, parent_id, method FROM spans"
        f" WHERE trace_id IN ({','.join('?' * len(traces))})",
        [trace.trace_id for trace in traces],
    ).fetchall()
    callers = {(trace_id, span_id): method for trace_id, span_id, _, method in rows}
    pairs = Counter(
        (callers[trace_id, parent_id], method)
        for trace_id, _, parent_id, method in rows
        if (trace_id, parent_id) in callers
    )
    for (caller, callee), count in pairs.items():
        if services[caller] != services[callee]:
            counts[services[caller], services[callee]] += count
