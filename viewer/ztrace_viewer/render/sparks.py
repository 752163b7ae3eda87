"""A bar of when: how often something happened in each part of a stretch of time.

One idea: the tallest part fills its cell and every other one is measured by it; a part in which anything
happened is never empty.
"""

from collections.abc import Sequence

#: Blocks that fill 1 to 8 eighths of a cell from below; before them what stands for nothing.
_FROM_BELOW = "·▁▂▃▄▅▆▇█"
_EIGHTHS = len(_FROM_BELOW) - 1


def draw_sparks(counts: Sequence[int], cells: int) -> str:
    """Return a bar.

    Args:
        counts: in equal parts of the time, the earliest first.
        cells: the bar's width at most; parts are put together to fit.
    """
    together = max(1, -(-len(counts) // max(1, cells)))
    sums = [sum(counts[begin : begin + together]) for begin in range(0, len(counts), together)]
    largest = max(sums, default=0)
    return "".join(_FROM_BELOW[-(-count * _EIGHTHS // largest) if count > 0 else 0] for count in sums)
