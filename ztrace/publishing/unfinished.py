"""Spans that have not ended yet, so that people see what hangs.

One idea: a span registers itself while it runs, in a dictionary in the order of their beginning, which costs
it some fifty nanoseconds; all else is done once a second in the background, for those few that are old.
"""

import sys
from collections.abc import Mapping
from itertools import islice
from types import MappingProxyType

from ztrace.native import perf_counter_ns
from ztrace.records import ABANDONED, UNFINISHED, Record
from ztrace.spans import Span

#: A span that runs for longer than this is published; most never are.
AGE_NS = 1_000_000_000
#: It is published again when it is twice as old, and at the latest after this.
REPEAT_NS = 60_000_000_000
#: Spans looked at, the oldest: what a program may have open without this being a burden to it.
MAX_WATCHED = 10_000
#: Spans published at once.
MAX_PUBLISHED = 1_000


def _count_own_references() -> int:
    """Return how many references `Unfinished.take_due` itself holds to a span it looks at."""
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
    """Which spans of a register are to be published when."""

    def __init__(self, register: dict[Span, None]) -> None:
        self._register = register
        #: When each is to be published next, by the monotonic clock.
        self._due_ns: dict[Span, int] = {}

    def take_due(self) -> list[Record]:
        """Return records of those whose turn it is, and remember when it is again."""
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
                # Whoever began it has let it go without ending it: nobody ever will.
                self._register.pop(span, None)
                if (record := _make_record(span, {ABANDONED: True})) is not None:
                    due.append(record)
            elif now_ns < due_ns or len(due) == MAX_PUBLISHED:
                coming[span] = due_ns
            elif (record := _make_record(span)) is not None:
                due.append(record)
                coming[span] = now_ns + min(age_ns, REPEAT_NS)
        self._due_ns = coming
        return due

    def take_all(self) -> list[Record]:
        """Return records of all, as the program ends."""
        spans = self._oldest()[-MAX_PUBLISHED:]
        return [record for span in spans if (record := _make_record(span)) is not None]

    def _oldest(self) -> list[Span]:
        """Return the spans that began first, the first one last."""
        try:
            return list(islice(self._register, MAX_WATCHED))[::-1]
        except RuntimeError:  # One began or ended meanwhile: the next look is soon.
            return []


def _make_record(span: Span, more: Mapping[str, bool] = MappingProxyType({})) -> Record | None:
    """Return the record of a span so far, or None if it has ended meanwhile."""
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
        None if links is None else [[link.trace_id, link.span_id] for link in links],
        None,
        None,
    )
    # Asked last: the span takes itself apart only after it has said that it has ended.
    return None if span.ended else record
