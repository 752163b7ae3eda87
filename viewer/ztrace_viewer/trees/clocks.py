"""Offset of one clock from another at a moment, from bounds that calls have set.

One idea: clocks drift apart along a line. Of all lines that no call contradicts, the one with the most room
on either side is the estimate, and the extremes at the moment are its bounds. Where no line fits, a clock was
set: the bounds beyond are of another line. A tree's own calls tell on which side of such a step it lies.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ztrace_viewer.documents.trees import Clock

#: Clocks by which times are told: without their measured offsets, or as stored.
MEASURED, RAW = "measured", "raw"
#: Cells on either side of a moment that make a line, and their greatest distance.
NEAREST, REACH_NS = 3, 3_600_000_000_000
#: Greatest drift of two clocks: each is up to 100 parts in a million off.
MAX_DRIFT = 200e-6
#: Contradiction that is no step: each process reads its host's clock within 50 µs.
TOLERANCE_NS = 100_000


class Cell(NamedTuple):
    """The tightest bounds of some seconds, by a row of ``clock_bounds``.

    Attributes:
        low_at_ns, high_at_ns: when the bounds held, by the first clock.
        low_ns, high_ns: bounds of how far the second clock is ahead.
        calls: number of calls.
    """

    low_at_ns: int
    low_ns: int
    high_at_ns: int
    high_ns: int
    calls: int


class Offset(NamedTuple):
    """How far a clock is ahead of another, with bounds.

    Attributes:
        calls: number of calls that it rests on.
    """

    offset_ns: int
    low_ns: int
    high_ns: int
    calls: int

    @property
    def document(self) -> Clock:
        """The offset as a document."""
        return {
            "offset_ns": self.offset_ns,
            "low_ns": self.low_ns,
            "high_ns": self.high_ns,
            "calls": self.calls,
        }

    @property
    def reverse(self) -> "Offset":
        """How far the other clock is ahead."""
        return Offset(-self.offset_ns, -self.high_ns, -self.low_ns, self.calls)

    def then(self, further: "Offset") -> "Offset":
        """Return how far a third clock is ahead, from how far it is ahead of the second."""
        return Offset(
            self.offset_ns + further.offset_ns,
            self.low_ns + further.low_ns,
            self.high_ns + further.high_ns,
            min(self.calls, further.calls),
        )


#: Offsets by host where all clocks are taken as they are.
NO_OFFSETS: Mapping[str, Offset] = {}


def find_offset(cells: Iterable[Cell], own: Cell | None, at_ns: int) -> Offset | None:
    """Return how far the second clock is ahead of the first.

    Args:
        cells: of the two clocks, in any order.
        own: bounds that the calls of the tree in question set; None without such calls.
        at_ns: the moment, by the first clock.

    Returns:
        The offset; None if nothing is known, or what is known contradicts itself.
    """
    near = [cell for cell in cells if abs(_middle(cell) - at_ns) <= REACH_NS]
    before = sorted((cell for cell in near if _middle(cell) <= at_ns), key=_middle, reverse=True)
    after = sorted((cell for cell in near if _middle(cell) > at_ns), key=_middle)
    for sides in ((before, after), (before,), (after,)):
        found = _follow(sides, at_ns)
        if found is not None and (own is None or _agrees(found, own)):
            return found
    if own is None or _is_step(own):
        return None
    low_ns, high_ns = sorted((own.low_ns, own.high_ns))
    return Offset((low_ns + high_ns) // 2, low_ns, high_ns, own.calls)


def _follow(sides: Sequence[Sequence[Cell]], at_ns: int) -> Offset | None:
    """Return the offset by the nearest cells of each side, up to a step on that side; None without cells."""
    chosen: list[Cell] = []
    found = None
    for side in sides:
        for cell in side[: NEAREST + 1]:
            fitted = None if _is_step(cell) else _fit([*chosen, cell], at_ns)
            if fitted is None:
                break
            chosen.append(cell)
            found = fitted
    return found


def _fit(cells: Sequence[Cell], at_ns: int) -> Offset | None:
    """Return the offset at a moment by the lines within the bounds of some cells; None if there is none."""
    lows = [(cell.low_at_ns - at_ns, cell.low_ns) for cell in cells]
    highs = [(cell.high_at_ns - at_ns, cell.high_ns) for cell in cells]
    # Lines are compared at the moment, relative to a bound, for floats that are exact to a nanosecond.
    base_ns = lows[0][1]
    lows = [(at, bound - base_ns) for at, bound in lows]
    highs = [(at, bound - base_ns) for at, bound in highs]
    inner = {0.0, *_slopes(lows), *_slopes(highs)}
    outer = {-MAX_DRIFT, MAX_DRIFT, *(slope for low in lows for slope in _slopes([low, *highs]))}
    ranges = {}
    for slope in sorted(inner | outer):
        low = max(bound - slope * at for at, bound in lows)
        high = min(bound - slope * at for at, bound in highs)
        ranges[slope] = low, high
    # The outer slopes have the most room where little is known, and drift the most.
    low, high = max((ranges[slope] for slope in sorted(inner)), key=_room)
    if high - low < -TOLERANCE_NS:
        low, high = max(ranges.values(), key=_room)
    if high - low < -TOLERANCE_NS:
        return None
    bounds = [each for each in ranges.values() if _room(each) >= 0]
    bounds.append((min(low, high), max(low, high)))
    return Offset(
        base_ns + round((low + high) / 2),
        base_ns + round(min(each for each, _ in bounds)),
        base_ns + round(max(each for _, each in bounds)),
        sum(cell.calls for cell in cells),
    )


def _slopes(points: Sequence[tuple[int, int]]) -> Iterable[float]:
    """Yield the slopes of the lines through two of some points, as far as clocks can drift so much."""
    for place, (at, bound) in enumerate(points):
        for other_at, other in points[:place]:
            if at != other_at and abs(slope := (bound - other) / (at - other_at)) <= MAX_DRIFT:
                yield slope


def _room(bounds: tuple[float, float]) -> float:
    return bounds[1] - bounds[0]


def _middle(cell: Cell) -> int:
    return (cell.low_at_ns + cell.high_at_ns) // 2


def _is_step(cell: Cell) -> bool:
    """Return whether a cell contradicts itself, because a clock was set within it."""
    drift_ns = MAX_DRIFT * abs(cell.low_at_ns - cell.high_at_ns)
    return cell.low_ns - cell.high_ns > TOLERANCE_NS + drift_ns


def _agrees(offset: Offset, own: Cell) -> bool:
    return own.low_ns - TOLERANCE_NS <= offset.offset_ns <= own.high_ns + TOLERANCE_NS
