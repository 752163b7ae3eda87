"""Durations as a histogram, from which percentiles come without the spans.

One idea: a bucket's width grows with its durations, so that every duration is known to the same relative
error, 2.5%, and histograms of minutes add up to those of hours by adding counts. A histogram is a mapping of
bucket to count; in the database it is a JSON object, whose keys are the buckets as text.
"""

from collections.abc import Mapping
from math import exp, log

from ztrace_collector.layout import BUCKETS_PER_E


def bucket_of(duration_ns: int) -> int:
    """Return the bucket of a duration: ``floor(20 * ln(duration_ns))``, 0 for anything under 1 ns."""
    return int(BUCKETS_PER_E * log(duration_ns)) if duration_ns > 1 else 0


def middle_of(bucket: int) -> int:
    """Return the duration in ns that stands for a bucket, within 2.5% of all that it holds."""
    return round(exp((bucket + 0.5) / BUCKETS_PER_E))


def quantile(histogram: Mapping[int, int] | Mapping[str, int], q: float) -> int | None:
    """Return the duration in ns below or at which the share ``q`` of the durations lies.

    Args:
        histogram: count by bucket, with keys as they are in memory or as JSON gives them back.
        q: from 0 to 1.

    Returns:
        The middle of the bucket of the ``ceil(q * count)``-th duration, None for an empty histogram.
    """
    counts = sorted((int(bucket), count) for bucket, count in histogram.items())
    wanted = q * sum(count for _, count in counts)
    seen = 0
    for bucket, count in counts:
        seen += count
        if seen >= wanted and count > 0:
            return middle_of(bucket)
    return None
