"""Bars: times at which a span ran and waited for its children, on the time scale of its tree.

One idea: time is measured in eighths of a cell, the resolution of block characters, and each cell shows what
fills most of it: own time as a block, time in children as a line.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

#: Blocks that fill 0 to 8 eighths of a cell from its left side.
_FROM_LEFT = " ▏▎▍▌▋▊▉█"
_EIGHTHS = 8
WAITING, OPEN = "─", "╌"
#: Own time of a span that the end of the root did not wait for.
BESIDE = "░"


@dataclass(frozen=True, slots=True)
class Scale:
    """Time scale of a bar's full width."""

    start_ns: int
    end_ns: int
    width: int

    def eighths(self, moment_ns: int) -> int:
        """Return the position of a moment in eighths of a cell from the left, within the bar."""
        span_ns = max(1, self.end_ns - self.start_ns)
        position = (moment_ns - self.start_ns) * self.width * _EIGHTHS // span_ns
        return min(self.width * _EIGHTHS, max(0, position))


def draw_bar(
    scale: Scale, start_ns: int, end_ns: int | None, waits: Sequence[tuple[int, int]]
) -> list[tuple[str, bool]]:
    """Return the cells of a span's bar.

    Args:
        scale: scale of the tree.
        start_ns: start, Unix.
        end_ns: end, Unix; None for a span without an end, whose bar is open to the right.
        waits: disjoint intervals in which children ran.

    Returns:
        ``scale.width`` cells as (character, whether it shows own time).
    """
    begin = min(scale.eighths(start_ns), scale.width * _EIGHTHS - 1)
    if end_ns is None:
        first = begin // _EIGHTHS
        return [(" ", False)] * first + [(OPEN, True)] * (scale.width - first)
    end = max(scale.eighths(end_ns), begin + 1)
    # Marks per eighth: 0 nothing, 1 time in children, 2 own time.
    marks = bytearray(scale.width * _EIGHTHS)
    marks[begin:end] = b"\2" * (end - begin)
    for wait_start, wait_end in waits:
        low, high = max(begin, scale.eighths(wait_start)), min(end, scale.eighths(wait_end))
        if low < high:
            marks[low:high] = b"\1" * (high - low)
    cells = bytes(marks)
    return [_cell(cells[cell : cell + _EIGHTHS]) for cell in range(0, len(cells), _EIGHTHS)]


@lru_cache(maxsize=6561)  # As many as there are cells: three marks, eight times.
def _cell(marks: bytes) -> tuple[str, bool]:
    own, waiting = marks.count(2), marks.count(1)
    if own == 0:
        return (WAITING, False) if waiting else (" ", False)
    if waiting and (waiting >= own or own < _EIGHTHS // 2):
        return WAITING, False
    if own == _EIGHTHS or waiting:
        return "█", True
    if marks[0] == 2:
        return _FROM_LEFT[own], True
    if marks[-1] == 2:
        return ("▐" if own >= _EIGHTHS // 2 else "▕"), True
    return _FROM_LEFT[own], True
