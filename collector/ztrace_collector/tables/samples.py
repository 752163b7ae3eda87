"""Samples of an exception group: the first occurrence, the latest, and some between.

One idea: the stored samples and the new occurrences alone determine the next samples. So neither the number
of occurrences matters, nor whether retention has deleted some of the samples.
"""

from collections.abc import Iterable
from typing import NamedTuple

#: Positions of a sample in its group.
FIRST, BETWEEN, LATEST = "first", "between", "latest"
#: Maximum of samples of a group, with the first and the latest.
MAX_SAMPLES = 10
#: Maximum of new occurrences considered in a transaction, evenly spaced.
MAX_NEW = 4 * MAX_SAMPLES


class Sample(NamedTuple):
    """Origin of an exception; samples are sorted by time, and by ids at equal times."""

    at_ns: int
    trace_id: bytes
    span_id: bytes


def choose_samples(samples: Iterable[Sample]) -> dict[Sample, str]:
    """Return the samples to keep in the order of time, each with its position.

    While there are too many, the one with the closest neighbours is dropped, so the rest is spread over the
    time of the group.
    """
    kept = sorted(set(samples))
    if len(kept) > MAX_NEW:
        step = (len(kept) - 1) / (MAX_NEW - 1)
        kept = [kept[round(number * step)] for number in range(MAX_NEW)]
    while len(kept) > MAX_SAMPLES:
        closest = min(range(1, len(kept) - 1), key=lambda at: kept[at + 1].at_ns - kept[at - 1].at_ns)
        del kept[closest]
    chosen = dict.fromkeys(kept, BETWEEN)
    if kept:
        chosen[kept[-1]] = LATEST
        chosen[kept[0]] = FIRST
    return chosen
