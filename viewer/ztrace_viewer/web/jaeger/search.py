"""Search for traces by a question.

One idea: the row of a trace, with its services and root, and the minutes in which a method was called decide
about most traces. Spans are read only of the others, until the deadline.
"""

import json
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from ztrace_collector.layout import HOUR_NS, MINUTE_NS
from ztrace_viewer.queries.candidates import explain_end, read_pages
from ztrace_viewer.queries.deadline import Deadline
from ztrace_viewer.queries.names import find_operations
from ztrace_viewer.queries.stores.answers import Candidate
from ztrace_viewer.queries.stores.conditions import Wanted
from ztrace_viewer.queries.stores.store import Store
from ztrace_viewer.web.jaeger.matching import Matcher
from ztrace_viewer.web.jaeger.parameters import Question

#: Traces whose spans one statement reads.
CHUNK = 200
#: Time by which the clock of a span may be behind that of its trace's root: an hour, and the longest span.
SKEW_NS = 2 * HOUR_NS


class Found(NamedTuple):
    """Result of a search.

    Attributes:
        traces: the newest first.
        note: the time that was not searched before the deadline; empty if all was.
    """

    traces: list[Candidate]
    note: str = ""


class _Names(NamedTuple):
    """Names of a question as in the tables.

    Attributes:
        service: service as in the JSON of ``traces.services``; None for any.
        methods: ids of the methods; None for any.
        minutes: minutes in which any of the methods was called, in order; None for any.
    """

    service: str | None
    methods: frozenset[int] | None
    minutes: list[int] | None


def search(store: Store, question: Question, deadline: Deadline) -> Found:
    """Return the newest traces with a span that meets all conditions of a question."""
    names = _find_names(store, question)
    if names.methods is not None and not names.methods:
        return Found([])
    by_span = bool(question.tags) or question.min_ns is not None or question.max_ns is not None
    is_settled = not by_span and question.operation is None
    matcher = Matcher(store, question, names.methods)
    found: list[Candidate] = []
    wanted = Wanted(question.start_ns, question.end_ns, names.service, question.min_ns or 0)
    for page in read_pages(store, wanted):
        left = [each for each in page.traces if _may_match(each, names)]
        if is_settled:
            found += left
        for at in range(0, 0 if is_settled else len(left), CHUNK):
            chunk = left[at : at + CHUNK]
            found += _match(chunk, names, matcher, deadline, by_span=by_span)
            if len(found) < question.limit and deadline.is_over():
                return Found(found, explain_end(chunk[0].start_ns, deadline))
        if len(found) >= question.limit:
            return Found(found[: question.limit])
        if deadline.is_over():
            return Found(found, explain_end(page.since_ns, deadline))
    return Found(found)


def _match(
    chunk: Sequence[Candidate], names: _Names, matcher: Matcher, deadline: Deadline, *, by_span: bool
) -> list[Candidate]:
    """Return the matching ones of some traces, by their roots or spans."""
    sure = set()
    if not by_span and names.methods is not None:
        sure = {each.trace_id for each in chunk if each.root_method in names.methods}
    doubtful = [each.trace_id for each in chunk if each.trace_id not in sure]
    sure |= matcher.find(doubtful, deadline)
    return [each for each in chunk if each.trace_id in sure]


def _may_match(trace: Candidate, names: _Names) -> bool:
    """Return whether any of the methods was called during a trace."""
    if names.minutes is None:
        return True
    first = bisect_left(names.minutes, (trace.start_ns - SKEW_NS) // MINUTE_NS)
    return first < len(names.minutes) and names.minutes[first] <= trace.end_ns // MINUTE_NS


def _find_names(store: Store, question: Question) -> _Names:
    service = None
    if question.service is not None:
        # As in the array that the collector writes, in quotes that no name contains unescaped.
        service = json.dumps(question.service, ensure_ascii=False)
    if question.service is None and question.operation is None:
        return _Names(service, None, None)
    methods = find_operations(store, question.service, question.operation)
    if question.operation is None:
        return _Names(service, methods, None)
    # Spans count in the minute they ended in, which by their clock is not long before their trace began.
    return _Names(service, methods, store.minutes_of(methods, (question.start_ns - SKEW_NS) // MINUTE_NS))
