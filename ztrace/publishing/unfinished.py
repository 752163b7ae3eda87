"""Spans that have not ended yet, published so that people see what hangs.

One idea: a span registers itself while it runs, in a dictionary ordered by start, at a cost of some fifty
nanoseconds. All other work runs once a second in the background, for the few spans that are old.
"""

import sys
from collections.abc import Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any

from ztrace.context import link_ids
from ztrace.native import perf_counter_ns
from ztrace.records import ABANDONED, UNFINISHED, Record
from ztrace.spans import Span

#: Age from which a span is published; most never reach it.
AGE_NS = 1_000_000_000
#: Longest pause before it is published again; until then its age doubles each time.
REPEAT_NS = 60_000_000_000
#: Spans examined, the oldest: examining more would burden the program.
MAX_WATCHED = 10_000
#: Spans published at once.
MAX_PUBLISHED = 1_000


def _count_own_references() -> int:
    """Return how many references `Unfinished.take_due` itself holds to a span that it examines."""
    register = {object(): None}
    spans = list(register)
    count = 0
    while spans:
        span = spans.pop()
        count = sys.getrefcount(span)
    return count


#: Counted, because it depends on the version of Python.
_OWN_REFERENCES = _count_own_references()


class Unfinished:
    """Schedule of the publication of a register's spans."""

    def __init__(self, register: dict[Span, None]) -> None:
        self._register = register
        #: Time of each one's next publication, by the monotonic clock.
        self._due_ns: dict[Span, int] = {}

    def take_due(self, ended: list[Any]) -> list[Record]:
        """Return the records of spans that are due, and schedule their next publication.

        Args:
            ended: list to which the spans are added that have ended since they were last seen here: this may
            be
                the last reference to them, and to their attributes.
        """
        now_ns = perf_counter_ns()
        due: list[Record] = []
        coming: dict[Span, int] = {}
        spans = self._oldest()
        while spans:
            span = spans.pop()
            age_ns = now_ns - span.start_ns
            due_ns = self._due_ns.pop(span, 0)
            if age_ns < AGE_NS:
                continue
            if sys.getrefcount(span) <= _OWN_REFERENCES:
                # The program has dropped the span without ending it.
                self._register.pop(span, None)
                ended.append(span)
                if (record := _make_record(span, {ABANDONED: True})) is not None:
                    due.append(record)
            elif now_ns < due_ns or len(due) == MAX_PUBLISHED:
                coming[span] = due_ns
            elif (record := _make_record(span)) is not None:
                due.append(record)
                coming[span] = now_ns + min(age_ns, REPEAT_NS)
            else:
                ended.append(span)
        ended += self._due_ns
        self._due_ns = coming
        return due

    def take_all(self) -> list[Record]:
        """Return the records of all spans, as the program exits."""
        spans = self._oldest()[-MAX_PUBLISHED:]
        return [record for span in spans if (record := _make_record(span)) is not None]

    def _oldest(self) -> list[Span]:
        """Return the spans that started first, the oldest last."""
        try:
            return list(islice(self._register, MAX_WATCHED))[::-1]
        except RuntimeError:  # A span started or ended meanwhile; the next look is soon.
            return []


def _make_record(span: Span, more: Mapping[str, bool] = MappingProxyType({})) -> Record | None:
    """Return the record of a span so far, or None if the span has ended meanwhile."""
    above, links, target = span._above, span.links, span._publisher
    record = (
        span.trace_id,
        span.span_id,
        None if above is None else above.span_id,
        span.kind,
        span.name,
        span.start_ns + target.offset_ns,
        None,
        None,
        None,
        UNFINISHED,
        {**dict.copy(span.attributes), **more} or None,
        None if links is None else link_ids(links),
        None,
        None,
    )
    # Checked last: a span clears its fields only after it is marked as ended.
    return None if span.ended else record
