"""One profile in the making: samples added up by method and stack, and in order by span."""

from typing import NamedTuple

from ztrace.profiling.stacks import Stacks
from ztrace.publishing.values import fit_name
from ztrace.spans import Span

#: Samples, and frames of stacks, at which a profile is full: with them, each array of its message is within
#: the limit of the collector, 65,536 items.
MAX_SAMPLES, MAX_FRAMES = 16_000, 30_000

#: Kind and name of spans.
Method = tuple[int, str]


class Moment(NamedTuple):
    """Time of a sample, and the times that it stands for.

    Attributes:
        now_ns: time of the monotonic clock.
        passed_ns: time since the sample before.
        period_ns: time that was to pass: what began within it counts whole, for others that were not seen.
    """

    now_ns: int
    passed_ns: int
    period_ns: int

    def scale(self, of: int, sampled: int) -> "Moment":
        """Return the moment of a sample that stands for others: ``sampled`` are sampled ``of`` all."""
        return Moment(self.now_ns, self.passed_ns * of // sampled, self.period_ns * of // sampled)


class Run:
    """Consecutive samples of one span that are the same.

    Attributes:
        stack: number of the stack.
        state: RUN, WAIT or WAIT_BUSY.
        behind: id of the span that ran meanwhile, if that is known.
        ns: time that the samples stand for, within the span.
        all_ns: time that they stand for among all spans of the method.
    """

    __slots__ = ("all_ns", "behind", "ns", "stack", "state")

    def __init__(self, stack: int, state: int, behind: bytes | None, ns: int, all_ns: int) -> None:
        self.stack, self.state, self.behind, self.ns, self.all_ns = stack, state, behind, ns, all_ns


class SpanRuns:
    """Samples of one span.

    Attributes:
        trace_id, span_id, method, start_ns: those of the span.
        age_ns: age of the span at the last sample.
        runs: the samples in order; none of a span that others have waited for only.
        last: the last of them.
    """

    __slots__ = ("age_ns", "last", "method", "runs", "span_id", "start_ns", "trace_id")

    def __init__(self, span: Span) -> None:
        self.trace_id, self.span_id = span.trace_id, span.span_id
        self.method = method_of(span)
        self.start_ns = span.start_ns
        self.age_ns = 0
        self.runs: list[Run] = []
        self.last: Run | None = None


class Gathering:
    """Samples of a few seconds.

    Attributes:
        start_ns: start of the profile, by the monotonic clock.
        samples: number of samples.
        stacks: table of the stacks.
        spans: samples by span id.
    """

    def __init__(self, start_ns: int) -> None:
        self.start_ns = start_ns
        self.samples = 0
        self.stacks = Stacks()
        self.spans: dict[bytes, SpanRuns] = {}

    @property
    def is_full(self) -> bool:
        """Whether the profile has to be sent before there are more samples."""
        return self.samples >= MAX_SAMPLES or self.stacks.frames >= MAX_FRAMES

    @property
    def sums(self) -> dict[tuple[Method, int, int], int]:
        """Time in ns by method, stack and state."""
        sums: dict[tuple[Method, int, int], int] = {}
        for seen in self.spans.values():
            for run in seen.runs:
                key = seen.method, run.stack, run.state
                sums[key] = sums.get(key, 0) + run.all_ns
        return sums

    def add(
        self, span: Span | SpanRuns, stack: int, state: int, moment: Moment, behind: Span | None = None
    ) -> None:
        """Add a sample.

        Args:
            span: innermost open span of its owner, or what `find` has returned for it.
            stack: number of the owner's stack.
            state: RUN, WAIT or WAIT_BUSY.
            moment: time of the sample, and times that it stands for.
            behind: span whose owner ran on the same thread, if the state is WAIT_BUSY.
        """
        # Sixty-four times in a tick: no call that is not needed.
        self.samples += 1
        seen = self.spans.get(span.span_id) or self.find(span)
        now_ns, ns, period_ns = moment
        seen.age_ns = age_ns = now_ns - span.start_ns
        if ns > period_ns and ns > age_ns:
            ns = age_ns if age_ns > period_ns else period_ns
        all_ns = ns
        if ns > age_ns:
            ns = age_ns
        behind_id = None
        if behind is not None:
            behind_id = behind.span_id
            if behind_id not in self.spans:
                self.find(behind)
        last = seen.last
        if last is not None and last.stack == stack and last.state == state and last.behind == behind_id:
            last.ns += ns
            last.all_ns += all_ns
        else:
            seen.last = run = Run(stack, state, behind_id, ns, all_ns)
            seen.runs.append(run)

    def find(self, span: Span | SpanRuns) -> SpanRuns:
        """Return the samples of a span."""
        seen = self.spans.get(span.span_id)
        if seen is None:
            seen = self.spans[span.span_id] = span if isinstance(span, SpanRuns) else SpanRuns(span)
        return seen


def method_of(span: Span) -> Method:
    """Return the kind and the name of a span."""
    name = span.name
    return span.kind, name if type(name) is str else fit_name(name)
