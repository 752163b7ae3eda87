"""Histograms of durations, from which percentiles are computed without the spans.

One idea: the width of a bucket grows with its durations, so every duration is known to the same relative
error, 2.5%, and the histograms of minutes add up to those of hours. A histogram is a mapping of bucket to
count; the database has it as a JSON object with the buckets as keys.
"""

from collections.abc import Mapping
from math import exp, log

from ztrace_collector.layout import BUCKETS_PER_E


def bucket_of(duration_ns: int) -> int:
    """Return the bucket of a duration: ``floor(20 * ln(duration_ns))``, 0 below 1 ns."""
    return int(BUCKETS_PER_E * log(duration_ns)) if duration_ns > 1 else 0


def middle_of(bucket: int) -> int:
    """Return the duration in ns that represents a bucket, within 2.5% of all its durations."""
    return round(exp((bucket + 0.5) / BUCKETS_PER_E))


def quantile(histogram: Mapping[int, int] | Mapping[str, int], q: float) -> int | None:
    """Return the duration in ns below or at which the share ``q`` of the durations lies.

    Args:
        histogram: count by bucket, with int keys, or str keys as read from JSON.
        q: from 0 to 1.

    Returns:
        The midpoint of the bucket of the ``ceil(q * count)``-th duration, None for an empty histogram.
    """
    counts = sorted((int(bucket), count) for bucket, count in histogram.items())
    wanted = q * sum(count for _, count in counts)
    seen = 0
    for bucket, count in counts:
        seen += count
        if seen >= wanted and count > 0:
            return middle_of(bucket)
    return None
