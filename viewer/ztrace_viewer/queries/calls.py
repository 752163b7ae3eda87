"""Calls from one service to another.

One idea: no table counts them, so spans are read, the newest traces first, until the deadline. Traces whose
row names a single service contain no such call and are skipped.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ztrace_viewer.queries.candidates import explain_end, read_pages, split
from ztrace_viewer.queries.deadline import Deadline
from ztrace_viewer.queries.stores.answers import Candidate, Method
from ztrace_viewer.queries.stores.conditions import Wanted
from ztrace_viewer.queries.stores.store import Store

#: Traces that one statement reads, and spans; of a larger trace, so many of its spans are read.
_CHUNK, _CHUNK_SPANS = 500, 20_000
#: Pairs of services counted: as many as a page can draw several times over.
MAX_PAIRS = 10_000


class Calls(NamedTuple):
    """Calls between services, by their number.

    Attributes:
        counts: by caller and callee.
        note: what is not counted; empty if all is.
    """

    counts: dict[tuple[str, str], int]
    note: str = ""


def count_calls(store: Store, start_ns: int, end_ns: int, deadline: Deadline) -> Calls:
    """Count the calls in the traces that began between two moments."""
    methods = store.methods()
    counts: Counter[tuple[str, str]] = Counter()
    for page in read_pages(store, Wanted(start_ns, end_ns)):
        several = [trace for trace in page.traces if '","' in trace.services]
        for chunk in split(several, _CHUNK, _CHUNK_SPANS):
            _count(store, chunk, methods, counts)
            if len(counts) > MAX_PAIRS:
                most = dict(counts.most_common(MAX_PAIRS))
                return Calls(most, f"more than {MAX_PAIRS:,} pairs of services; select a shorter time")
            if deadline.is_over():
                return Calls(counts, explain_end(chunk[-1].start_ns, deadline))
        if deadline.is_over():
            return Calls(counts, explain_end(page.since_ns, deadline))
    return Calls(counts)


def _count(
    store: Store,
    traces: Sequence[Candidate],
    methods: dict[int, Method],
    counts: Counter[tuple[str, str]],
) -> None:
    spans = store.call_rows([trace.trace_id for trace in traces], _CHUNK_SPANS)
    callers = {(span.trace_id, span.span_id): span.method for span in spans}
    pairs = Counter(
        (caller, span.method)
        for span in spans
        if span.parent_id is not None and (caller := callers.get((span.trace_id, span.parent_id))) is not None
    )
    for (caller, callee), count in pairs.items():
        between = methods[caller].service, methods[callee].service
        if between[0] != between[1]:
            counts[between] += count
