"""Choice of the occurrences of a group that are kept as samples."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ztrace_collector.tables.samples import BETWEEN, FIRST, LATEST, MAX_SAMPLES, Sample, choose_samples

samples = st.builds(
    Sample, st.integers(0, 1000), st.binary(min_size=1, max_size=1), st.binary(min_size=1, max_size=1)
)


def test_a_single_one_is_the_first() -> None:
    """A single sample is the first, and of two the later one is the latest, in any order."""
    one, other = Sample(1, b"t", b"a"), Sample(2, b"t", b"b")
    assert choose_samples([one]) == {one: FIRST}
    assert choose_samples([other, one]) == {one: FIRST, other: LATEST}
    assert choose_samples([]) == {}


@given(st.lists(st.lists(samples, max_size=50), min_size=1, max_size=6))
def test_first_and_latest_are_always_there(batches: list[list[Sample]]) -> None:
    """The first and the latest occurrence are always kept, and the number of samples is limited."""
    kept: dict[Sample, str] = {}
    for batch in batches:
        kept = choose_samples([*kept, *batch])
    every = {sample for batch in batches for sample in batch}
    assert set(kept) <= every
    assert len(kept) == min(len(every), len(kept)) <= MAX_SAMPLES
    assert len(every) > MAX_SAMPLES or set(kept) == every
    if every:
        assert kept[min(every)] == FIRST
        assert kept[max(every)] == (LATEST if len(every) > 1 else FIRST)
        assert list(kept.values())[1:-1] == [BETWEEN] * (len(kept) - 2)


def test_samples_are_spread_over_the_time() -> None:
    """Samples are spread over time after any number of occurrences."""
    kept: dict[Sample, str] = {}
    for at_ns in range(1, 2001):
        kept = choose_samples([*kept, Sample(at_ns, b"t", b"s")])
    times = [sample.at_ns for sample in kept]
    assert len(times) == MAX_SAMPLES
    assert max(later - earlier for earlier, later in pairwise(times)) <= 2000 // 3
    assert (times[0], times[-1]) == (1, 2000)
