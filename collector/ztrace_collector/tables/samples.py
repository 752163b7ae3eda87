"""Occurrences of an exception group that are kept by name: the first, the latest, and some between.

One idea: the few that are kept decide, with the new ones, which stay. So it does not matter how many there
have been, nor whether retention has deleted some of them.
"""

from collections.abc import Iterable
from typing import NamedTuple

#: What a sample is to its group.
FIRST, BETWEEN, LATEST = "first", "between", "latest"
#: Samples of a group, the first and the latest included: what somebody may want to look at.
MAX_SAMPLES = 10
#: New ones of a transaction that are looked at, evenly taken: which of thousands does not matter.
MAX_NEW = 4 * MAX_SAMPLES


class Sample(NamedTuple):
    """An origin; they are sorted by time, those of the same time by their ids."""

    at_ns: int
    trace_id: bytes
    span_id: bytes


def choose_samples(samples: Iterable[Sample]) -> dict[Sample, str]:
    """Return those that are kept, in the order of time, and what each is.

    While there are too many, the one goes whose neighbours are closest to each other: what is left is spread
    over the time of the group.
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
