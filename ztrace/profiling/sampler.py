"""One sample of all open spans: which spans, how they are weighed, and what they wait for.

One idea: a sample stands for all samples that were due since the one before, and not for one period: a
thread that keeps the interpreter to itself delays the sampler, and gets the whole delay. What has begun
within the delay does not, but counts for one period at least: of many calls that are shorter, few are seen,
and each stands for the others. The samples of a single span stand for no more than its age. Clocks, spans
and stacks are given by the caller, so a test can script them.
"""

from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice
from typing import Any, NamedTuple, Protocol

from ztrace.context import RUNNING_LOOPED
from ztrace.interpreter.generators import is_waiting
from ztrace.profiling.gathering import Gathering, Moment, SpanRuns
from ztrace.profiling.owners import Owner
from ztrace.profiling.sources import ACTIVE, OWN_REFERENCES, PARKED, UNSURE, Source, View, let_go_of
from ztrace.publishing.unfinished import Watch
from ztrace.records import RUN, WAIT, WAIT_BUSY
from ztrace.spans import Span

#: Parked owners sampled at once; of more, some at a time, in turn.
MAX_PARKED = 64
#: Open spans looked at in a tick: the youngest, and some of those that have run for long.
MAX_YOUNG, MAX_OLD = 2_000, 1_000


class Spans(Protocol):
    """The part of a publisher that the sampler reads.

    Attributes:
        open_spans: spans that have started lately and not ended, oldest first.
        watched: the spans that have run for long, by ``id``.
    """

    open_spans: dict[Span, None]
    watched: "OrderedDict[int, Watch]"


#: Span, its owner, and what the owner does.
_Seen = tuple[Span, Owner, View]


class _Doubt(NamedTuple):
    """Sample of a span whose thread either runs its code or blocks in it."""

    seen: SpanRuns
    stack: int
    thread: int
    moment: Moment


class Sampler:
    """Samples of the innermost open span of each owner."""

    def __init__(self, spans: Spans, source: Source) -> None:
        self._spans = spans
        self._source = source
        self._turn = 0
        self._doubts: list[_Doubt] = []

    def sample(self, gathering: Gathering, moment: Moment, least_age_ns: int = 0) -> list[Any]:
        """Add a sample of each owner.

        Args:
            gathering: profile to add to.
            moment: the time, and the time since the last call.
            least_age_ns: age from which a span is sampled.

        Returns:
            Objects of the program's that no other code refers to any more, for release by its threads.
        """
        spans = self._list_spans()
        try:
            self._sample(spans, gathering, moment, least_age_ns)
        finally:
            last = self._source.let_go()
            last += let_go_of(spans, OWN_REFERENCES)
        return last

    @property
    def is_in_doubt(self) -> bool:
        """Whether there are samples that `settle` has to add, a moment after they were taken."""
        return bool(self._doubts)

    def settle(self, gathering: Gathering) -> None:
        """Add the samples that were in doubt: their threads have run since, or they block."""
        doubts, self._doubts = self._doubts, []
        for seen, stack, thread, moment in doubts:
            gathering.add(seen, stack, RUN if self._source.has_run(thread) else WAIT, moment)

    def _sample(self, spans: list[Span], gathering: Gathering, moment: Moment, least_age_ns: int) -> None:
        innermost = [
            span for span in find_innermost(spans).values() if moment.now_ns - span.start_ns >= least_age_ns
        ]
        if not innermost:
            return
        owned: list[Owner] = [span._owner for span in innermost]  # type: ignore[misc]
        parked: list[_Seen] = []
        running: dict[int, Span] = {}
        read, stacks, add = self._source.read, gathering.stacks, gathering.add
        views = list(self._source.look(owned, moment.passed_ns))
        for inherited, child, view_of_child in self._source.find_children():
            # A span that a running child task has inherited runs, whatever the span's own task does.
            for place, span in enumerate(innermost):
                if span is inherited:
                    owned[place], views[place] = child, view_of_child
        for span, owner, view in zip(innermost, owned, views, strict=True):
            # On a busy machine threads may run between the list of spans and the look at their frames.
            if view is None or span.ended:
                continue
            thread, standing, _, _ = view
            if standing == PARKED:
                parked.append((span, owner, view))
                continue
            running[thread] = span
            stack = read(owner, view, stacks)
            if standing == UNSURE:
                self._doubts.append(_Doubt(gathering.find(span), stack, thread, moment))
            else:
                add(span, stack, RUN if standing == ACTIVE else WAIT, moment)
        chosen = self._choose(parked)
        if len(chosen) < len(parked):
            moment = moment.scale(len(parked), len(chosen))
        for span, owner, view in chosen:
            behind = running.get(view[0])
            state = WAIT_BUSY if behind is not None or view[3] else WAIT
            add(span, read(owner, view, stacks), state, moment, behind)

    def _list_spans(self) -> list[Span]:
        """Return the open spans; threads that start and end spans meanwhile do not disturb the copies."""
        try:
            watches = list(islice(self._spans.watched.values(), MAX_OLD))
        except RuntimeError:  # A span has ended meanwhile.
            watches = []
        spans = [span for watch in watches if (span := watch()) is not None]
        spans += list(self._spans.open_spans)[-MAX_YOUNG:]
        return spans

    def _choose(self, parked: list[_Seen]) -> list[_Seen]:
        """Return the parked ones to sample now: all of them, or as many as are sampled at once, in turn."""
        if len(parked) <= MAX_PARKED:
            return parked
        start = self._turn % len(parked)
        self._turn = start + MAX_PARKED
        return (parked[start:] + parked[:start])[:MAX_PARKED]


def find_innermost(spans: Iterable[Span]) -> dict[int, Span]:
    """Return the span that started last of each owner, by the owner's number.

    Left out are spans that nobody is within: they are not current, or a generator that has yielded to its
    reader holds them open.
    """
    innermost: dict[int, Span] = {}
    for span in spans:
        owner = span._owner
        if owner is None:
            continue
        if span._state == RUNNING_LOOPED:
            generator = span.apart.generator
            if generator is not None and is_waiting(generator):
                continue
        key: int = owner if type(owner) is int else id(owner[0])  # type: ignore[index]
        other = innermost.get(key)
        if other is None or span.start_ns >= other.start_ns:
            innermost[key] = span
    return innermost
