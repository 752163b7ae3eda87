"""Buckets and quantiles of histograms."""

import json
import random
from collections import Counter

import pytest

from ztrace_collector.tables.histogram import bucket_of, middle_of, quantile


@pytest.mark.parametrize("duration_ns", [20, 1_000, 1_234_567, 10**9, 10**15, 2**63 - 1])
def test_a_buckets_middle_is_within_the_stated_error(duration_ns: int) -> None:
    """The middle of a bucket is within 2.6% of its durations."""
    assert middle_of(bucket_of(duration_ns)) == pytest.approx(duration_ns, rel=0.026, abs=1)


def test_the_shortest_durations_have_a_bucket() -> None:
    """Zero and one nanosecond are in bucket 0."""
    assert bucket_of(0) == bucket_of(1) == 0


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_quantiles_come_within_five_percent(q: float) -> None:
    """A quantile of a histogram is within 5% of the exact one, from memory and from JSON."""
    rng = random.Random(7)
    durations = sorted(round(rng.lognormvariate(15, 1)) for _ in range(10_000))
    exact = durations[round(q * len(durations)) - 1]
    histogram = Counter(map(bucket_of, durations))
    assert quantile(histogram, q) == pytest.approx(exact, rel=0.05)
    assert quantile(json.loads(json.dumps(histogram)), q) == quantile(histogram, q)


def test_an_empty_histogram_has_no_quantile() -> None:
    """An empty histogram has no quantile."""
    assert quantile({}, 0.5) is None


def test_the_extremes_are_the_first_and_the_last_bucket() -> None:
    """The quantiles 0 and 1 are the middles of the first and the last bucket."""
    histogram = {bucket_of(1000): 1, bucket_of(10**6): 5}
    assert quantile(histogram, 0) == middle_of(bucket_of(1000))
    assert quantile(histogram, 1) == middle_of(bucket_of(10**6))
