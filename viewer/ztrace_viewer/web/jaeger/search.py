"""Which traces a question finds.

One idea: most of a question is settled by what a trace's row has, its services and its root, and by the
minutes in which a method was called at all. Only traces about which that leaves a doubt have their spans
looked at, as many as there is time for.
"""

import json
import sqlite3
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from ztrace_collector.layout import MINUTE_NS
from ztrace_viewer.queries.candidates import Candidate, Wanted, explain_end, read_pages
from ztrace_viewer.queries.deadline import Deadline
from ztrace_viewer.queries.figures import find_minutes
from ztrace_viewer.queries.names import find_operations
from ztrace_viewer.web.jaeger.matching import Matcher
from ztrace_viewer.web.jaeger.parameters import Question

#: Traces whose spans are read by one statement.
CHUNK = 200


class Found(NamedTuple):
    """What a search has found.

    Attributes:
        traces: the newest first.
        note: what was left out for want of time; nothing if all was looked at.
    """

    traces: list[Candidate]
    note: str = ""


class _Names(NamedTuple):
    """What a question's names are in the tables.

    Attributes:
        service: as the JSON arrays of ``traces.services`` have it; None for any.
        methods: ids; None for any.
        minutes: those in which any of the methods was called, in their order; None for any.
    """

    service: str | None
    methods: frozenset[int] | None
    minutes: list[int] | None


def search(db: sqlite3.Connection, question: Question, deadline: Deadline) -> Found:
    """Return the newest traces that have a span which is all that the question says."""
    names = _find_names(db, question)
    if names.methods is not None and not names.methods:
        return Found([])
    by_span = bool(question.tags) or question.min_ns is not None or question.max_ns is not None
    is_settled = not by_span and question.operation is None
    matcher = Matcher(db, question, names.methods)
    found: list[Candidate] = []
    wanted = Wanted(question.start_ns, question.end_ns, names.service, question.min_ns or 0)
    for page in read_pages(db, wanted):
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
    """Return those of some traces that match, by their roots or by their spans."""
    sure = set()
    if not by_span and names.methods is not None:
        sure = {each.trace_id for each in chunk if each.root_method in names.methods}
    doubtful = [each.trace_id for each in chunk if each.trace_id not in sure]
    sure |= matcher.find(doubtful, deadline)
    return [each for each in chunk if each.trace_id in sure]


def _may_match(trace: Candidate, names: _Names) -> bool:
    """Tell whether any of the methods was called while a trace went on."""
    if names.minutes is None:
        return True
    first = bisect_left(names.minutes, trace.start_ns // MINUTE_NS)
    return first < len(names.minutes) and names.minutes[first] <= trace.end_ns // MINUTE_NS


def _find_names(db: sqlite3.Connection, question: Question) -> _Names:
    service = None
    if question.service is not None:
        # As the collector writes the array: between quotes that no name can contain unescaped.
        service = json.dumps(question.service, ensure_ascii=False)
    if question.service is None and question.operation is None:
        return _Names(service, None, None)
    methods = find_operations(db, question.service, question.operation)
    if question.operation is None:
        return _Names(service, methods, None)
    # Spans count in the minute they ended in, which is not before their trace began.
    return _Names(service, methods, find_minutes(db, methods, question.start_ns))
