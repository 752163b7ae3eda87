"""Bar of occurrences in each part of a stretch of time.

One idea: the largest part fills its cell and is the scale of the others. A part with any occurrence is never
empty.
"""

from collections.abc import Callable, Sequence

#: Character of an empty part, then blocks that fill 1 to 8 eighths of a cell from below.
_FROM_BELOW = "·▁▂▃▄▅▆▇█"
_EIGHTHS = len(_FROM_BELOW) - 1


def draw_sparks(counts: Sequence[int], cells: int, merge: Callable[[Sequence[int]], int] = sum) -> str:
    """Return the bar of some counts.

    Args:
        counts: counts in equal parts of the time, the earliest first.
        cells: largest width of the bar; parts are merged to fit.
        merge: merges the counts of parts; their sum by default.
    """
    together = max(1, -(-len(counts) // max(1, cells)))
    sums = [merge(counts[begin : begin + together]) for begin in range(0, len(counts), together)]
    largest = max(sums, default=0)
    return "".join(_FROM_BELOW[-(-count * _EIGHTHS // largest) if count > 0 else 0] for count in sums)
