"""Offsets of clocks by the calls between them: drift, steps, queues on one way, and their bounds."""

import random

import pytest

from tests.benchmarks.clocks import END_NS, merge, simulate
from ztrace_collector.layout import CLOCK_CELL_NS, SECOND_NS
from ztrace_viewer.trees.clocks import Cell, Offset, find_offset

#: Rounding of the simulated bounds.
ROUNDING_NS = 2


def known(offset: Offset | None) -> Offset:
    """Return an offset that must be known."""
    assert offset is not None
    return offset


@pytest.mark.parametrize("drift", [-50e-6, 0.0, 5e-6, 50e-6])
def test_a_drifting_offset_is_measured_within_50_us(drift: float) -> None:
    """An offset of 40 ms that drifts is found within 50 µs in 95% of moments, always within its bounds."""
    chance = random.Random(3)
    errors_ns = []
    for _ in range(4):
        cells = merge(list(simulate(lambda at_ns: 40e6 + drift * at_ns, chance)))
        for _ in range(50):
            at_ns = chance.randrange(END_NS)
            truth_ns = 40e6 + drift * at_ns
            found = known(find_offset(cells, None, at_ns))
            assert found.low_ns - ROUNDING_NS <= truth_ns <= found.high_ns + ROUNDING_NS
            assert found.low_ns <= found.offset_ns <= found.high_ns
            assert found.calls > 20
            errors_ns.append(abs(found.offset_ns - truth_ns))
    assert sorted(errors_ns)[len(errors_ns) * 95 // 100] <= 50_000


def test_a_queue_on_one_way_widens_the_bounds_and_moves_the_offset_little() -> None:
    """Answers that wait up to 5 ms leave an offset that is off by their shortest wait alone."""
    chance = random.Random(4)
    cells = merge(list(simulate(lambda _: 2e6, chance, queue_ns=10e6)))
    for at_ns in range(CLOCK_CELL_NS, END_NS, CLOCK_CELL_NS):
        found = known(find_offset(cells, None, at_ns))
        assert found.low_ns <= 2e6 <= found.high_ns
        assert abs(found.offset_ns - 2e6) < 500_000


@pytest.mark.parametrize("step_ns", [-40_000_000, 3_000_000])
def test_a_step_divides_the_lines(step_ns: int) -> None:
    """On either side of a step the offset is that of its side, told by the calls of the tree itself."""
    chance = random.Random(5)
    when_ns = 304 * SECOND_NS

    def offset_of(at_ns: int) -> float:
        return 1e6 + (step_ns if at_ns >= when_ns else 0)

    cells = merge(list(simulate(offset_of, chance)))
    for at_ns in range(250 * SECOND_NS, 360 * SECOND_NS, SECOND_NS):
        truth_ns = round(offset_of(at_ns))
        own = Cell(at_ns, truth_ns - 400_000, at_ns, truth_ns + 600_000, 1)
        found = known(find_offset(cells, own, at_ns))
        assert abs(found.offset_ns - truth_ns) < 150_000, at_ns
        assert found.low_ns <= truth_ns <= found.high_ns


def test_calls_of_the_tree_alone_bound_its_offset() -> None:
    """Where no other call is near, or all contradict, a tree's own calls are what is known."""
    own = Cell(0, 1_000_000, 0, 3_000_000, 2)
    assert find_offset([], own, 0) == Offset(2_000_000, 1_000_000, 3_000_000, 2)
    far = Cell(END_NS * 100, 0, END_NS * 100, 10, 9)
    assert known(find_offset([far], own, 0)).calls == 2
    assert known(find_offset([Cell(0, 90_000_000, 0, 91_000_000, 9)], own, 0)).calls == 2


def test_nothing_is_known_without_calls_or_from_contradictions() -> None:
    """Without calls there is no offset, nor from calls that contradict each other."""
    assert find_offset([], None, 0) is None
    step = Cell(0, 50_000_000, 0, 10_000_000, 9)
    assert find_offset([step], None, 0) is None
    assert find_offset([step], step, 0) is None


def test_a_small_contradiction_is_the_jitter_of_reading_a_clock() -> None:
    """Bounds that contradict by less than processes of a host may are no step."""
    found = known(find_offset([Cell(0, 2_050_000, 0, 2_000_000, 7)], None, 0))
    assert found == Offset(2_025_000, 2_000_000, 2_050_000, 7)


def test_offsets_are_reversed_and_chained() -> None:
    """A clock's offset follows from that of the clock between, with bounds that add up."""
    one, other = Offset(5, 3, 9, 10), Offset(-2, -4, 1, 7)
    assert one.reverse == Offset(-5, -9, -3, 10)
    assert one.then(other) == Offset(3, -1, 10, 7)
