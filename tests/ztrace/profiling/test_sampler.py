"""The rules of a sample, by a scripted source: which spans, how much time, which state, and behind whom."""

import pytest

from tests.ztrace.profiling.profiles import Readable, Run, Sum, read
from tests.ztrace.profiling.scripted import Register, Scripted
from ztrace.profiling import sampler as sampling
from ztrace.profiling.encoding import encode
from ztrace.profiling.gathering import Gathering, Moment
from ztrace.profiling.sampler import Sampler
from ztrace.profiling.sources import ACTIVE, BLOCKED, PARKED, UNSURE
from ztrace.records import RUN, WAIT, WAIT_BUSY

MS = 1_000_000
#: Period of the samples.
PERIOD_NS = 20 * MS


class Lab:
    """Sampler over a register and a scripted source."""

    def __init__(self) -> None:
        self.register = Register()
        self.source = Scripted()
        self.sampler = Sampler(self.register, self.source)
        self.gathering = Gathering(0)
        self.now_ns = 0

    def ticks(self, passed_ns: int = PERIOD_NS, least_age_ns: int = 0) -> None:
        """Take one sample after a time."""
        self.now_ns += passed_ns
        self.sampler.sample(self.gathering, Moment(self.now_ns, passed_ns, PERIOD_NS), least_age_ns)
        self.sampler.settle(self.gathering)

    def result(self, run_age_ns: int = 0) -> Readable:
        """Return the profile so far."""
        return read(encode(self.gathering, 0, self.now_ns, run_age_ns=run_age_ns))


@pytest.fixture
def lab() -> Lab:
    """Return a sampler with no spans."""
    return Lab()


def test_a_sample_stands_for_the_time_since_the_one_before(lab: Lab) -> None:
    """A delay of the sampler counts for what the owner does at its end, and not as one period."""
    lab.register.opens(1)
    lab.source.puts(1, ACTIVE, "main", "compress")
    lab.ticks()
    lab.ticks(90 * MS)
    assert lab.result().sums == [Sum("work", ("main", "compress"), RUN, 110_000)]


def test_a_span_that_ends_while_its_owner_is_looked_at_has_no_sample(lab: Lab) -> None:
    """A stack that may be of what the owner does after a span is not the span's."""
    lab.source.ending.append(lab.register.opens(1))
    lab.register.opens(2, name="other")
    lab.source.puts(1, ACTIVE, "main", "next")
    lab.source.puts(2, ACTIVE, "main", "compress")
    lab.ticks()
    assert [one.method for one in lab.result().sums] == ["other"]


def test_a_delay_is_none_of_a_span_that_began_within_it(lab: Lab) -> None:
    """A span that has begun within a delay counts for its age; one within a period, for the period."""
    lab.register.opens(1, 60 * MS, "late")
    lab.register.opens(2, 98 * MS, "new")
    lab.source.puts(1, PARKED)
    lab.source.puts(2, PARKED)
    lab.ticks(100 * MS)
    assert [(one.method, one.us) for one in lab.result().sums] == [("late", 40_000), ("new", 20_000)]


def test_the_samples_of_one_span_are_no_longer_than_it_is(lab: Lab) -> None:
    """A span's own samples stand for its age at most, whatever they stand for in the sums."""
    span = lab.register.opens(1, 18 * MS)
    lab.source.puts(1, PARKED, "main")
    lab.ticks()
    assert lab.result().runs[span.span_id] == [Run(("main",), WAIT, 2_000, None)]


def test_the_innermost_span_of_each_owner_is_sampled(lab: Lab) -> None:
    """Of nested spans the last counts, young or old, and each owner has its own."""
    outer = lab.register.opens(1, 0, "outer")
    inner = lab.register.opens(1, 1 * MS, "inner")
    lab.register.opens(2, 2 * MS, "other")
    lab.register.ages(inner)
    lab.register.ages(outer)  # Not in the order of their starts.
    lab.source.puts(1, PARKED)
    lab.source.puts(2, ACTIVE)
    lab.ticks()
    assert {one.method for one in lab.result().sums} == {"inner", "other"}


def test_spans_that_nobody_is_within_are_not_sampled(lab: Lab) -> None:
    """A span that was started without becoming current has no owner, and hides none."""
    lab.register.opens(1, 0, "current")
    lab.register.opens(None, 1 * MS, "apart")
    lab.source.puts(1, ACTIVE)
    lab.ticks()
    assert [one.method for one in lab.result().sums] == ["current"]


def test_an_owner_that_has_ended_is_left_out(lab: Lab) -> None:
    """A span whose owner cannot be seen any more has no sample."""
    lab.register.opens(1)
    lab.ticks()
    assert (lab.gathering.samples, lab.result().sums) == (0, [])


def test_a_parked_owner_waits_behind_the_one_that_runs_on_its_thread(lab: Lab) -> None:
    """Parked owners wait for a busy loop, and behind a known span, on their own thread alone."""
    hog = lab.register.opens(1, 0, "report")
    behind = lab.register.opens(2, 0, "quick")
    free = lab.register.opens(3, 0, "elsewhere")
    unknown = lab.register.opens(4, 0, "unknown")
    lab.source.puts(1, BLOCKED, "read")
    lab.source.puts(2, PARKED, "sleep")
    lab.source.puts(3, PARKED, "sleep", thread=8)
    lab.source.puts(4, PARKED, "sleep", thread=9, behind=True)
    lab.ticks()
    assert lab.result().runs == {
        hog.span_id: [Run(("read",), WAIT, 20_000, None)],
        behind.span_id: [Run(("sleep",), WAIT_BUSY, 20_000, hog.span_id)],
        free.span_id: [Run(("sleep",), WAIT, 20_000, None)],
        unknown.span_id: [Run(("sleep",), WAIT_BUSY, 20_000, None)],
    }


def test_a_span_runs_while_a_child_without_a_span_does(lab: Lab) -> None:
    """Code that inherits a span counts for the span, in place of its waiting, and others wait behind."""
    gathers = lab.register.opens(1, 0, "gathers")
    other = lab.register.opens(2, 0, "other")
    lab.source.puts(1, PARKED, "gather", behind=True)
    lab.source.puts(2, PARKED, "sleep", behind=True)
    lab.source.children = [(gathers, 3, (7, ACTIVE, ("child",), False)), (None, 4, (8, ACTIVE, (), False))]
    lab.ticks()
    assert lab.result().runs == {
        gathers.span_id: [Run(("child",), RUN, 20_000, None)],
        other.span_id: [Run(("sleep",), WAIT_BUSY, 20_000, gathers.span_id)],
    }


@pytest.mark.parametrize("runs", [True, False])
def test_a_thread_in_doubt_is_decided_a_moment_later(lab: Lab, runs: bool) -> None:
    """A thread that may block counts as running if it goes on after the sample."""
    lab.register.opens(1)
    lab.source.puts(1, UNSURE, "poll")
    lab.source.running = {7} if runs else set()
    lab.ticks()
    assert lab.result().sums == [Sum("work", ("poll",), RUN if runs else WAIT, 20_000)]


def test_equal_samples_in_a_row_are_one_run(lab: Lab) -> None:
    """A span's samples stay in order, and neighbours with the same stack and state are added up."""
    span = lab.register.opens(1)
    for standing in (ACTIVE, PARKED, PARKED, ACTIVE):
        lab.source.puts(1, standing, "main")
        lab.ticks()
    assert lab.result().runs[span.span_id] == [
        Run(("main",), RUN, 20_000, None),
        Run(("main",), WAIT, 40_000, None),
        Run(("main",), RUN, 20_000, None),
    ]
    assert [one.us for one in lab.result().sums] == [40_000, 40_000]


def test_many_parked_owners_are_sampled_in_turn(lab: Lab) -> None:
    """Of more owners than are sampled at once each gets its turn, and stands for the others."""
    owners = range(1, 4 * sampling.MAX_PARKED + 1)
    for owner in owners:
        lab.register.opens(owner, 0, f"m{owner}")
        lab.source.puts(owner, PARKED, "sleep")
    lab.register.opens(999, 0, "running")
    lab.source.puts(999, ACTIVE, "main", thread=8)
    lab.ticks()
    assert lab.gathering.samples == sampling.MAX_PARKED + 1
    for _ in range(3):
        lab.ticks()
    sums = {one.method: one.us for one in lab.result().sums}
    assert sums == {"running": 80_000} | {f"m{owner}": 80_000 for owner in owners}


def test_young_spans_are_left_out_where_slow_ones_are_asked_for(lab: Lab) -> None:
    """With a least age, an owner whose innermost span is younger is not sampled at all."""
    lab.register.opens(1, 0, "slow")
    lab.register.opens(2, 0, "waits for a quick one")
    lab.register.opens(2, 80 * MS, "quick")
    lab.source.puts(1, ACTIVE)
    lab.source.puts(2, ACTIVE)
    lab.ticks(100 * MS, least_age_ns=100 * MS)
    assert [one.method for one in lab.result().sums] == ["slow"]


def test_samples_of_single_spans_are_kept_from_an_age_on(lab: Lab) -> None:
    """Sums have all spans; of single ones those that grow old, and those that these waited for."""
    slow = lab.register.opens(1, 0, "slow")
    hog = lab.register.opens(2, 70 * MS, "hog")
    lab.register.opens(3, 70 * MS, "quick")
    lab.source.puts(1, PARKED, "sleep")
    lab.source.puts(2, ACTIVE, "main")
    lab.source.puts(3, PARKED, "sleep", thread=8)
    for _ in range(5):
        lab.ticks()
    result = lab.result(run_age_ns=100 * MS)
    assert {one.method for one in result.sums} == {"slow", "hog", "quick"}
    assert result.names == {slow.span_id: "slow", hog.span_id: "hog"}
    assert result.runs[hog.span_id] == []
    assert result.runs[slow.span_id][-1] == Run(("sleep",), WAIT_BUSY, 40_000, hog.span_id)


def test_nothing_is_asked_of_the_source_without_spans(lab: Lab) -> None:
    """A process without open spans is not looked at."""
    lab.ticks()
    lab.register.opens(1, PERIOD_NS)
    lab.ticks(least_age_ns=100 * MS)
    assert lab.source.looks == []


def test_objects_that_only_the_sampler_holds_are_returned(lab: Lab) -> None:
    """Frames of functions that have ended, and spans that have, are left to the program's threads."""
    lab.source.last = [object()]
    span = lab.register.opens(1)
    lab.source.puts(1, ACTIVE)
    returned = lab.sampler.sample(lab.gathering, Moment(PERIOD_NS, PERIOD_NS, PERIOD_NS))
    assert len(returned) == 1
    ended = lab.source.look

    def look(*arguments: object) -> object:
        lab.register.open_spans.clear()
        return ended(*arguments)  # type: ignore[arg-type]

    del span
    lab.source.look = look  # type: ignore[method-assign,assignment]
    assert len(lab.sampler.sample(lab.gathering, Moment(2 * PERIOD_NS, PERIOD_NS, PERIOD_NS))) == 1
