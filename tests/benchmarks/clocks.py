"""Accuracy of the offsets of clocks that are measured by calls, beside midpoints of single calls.

Run by hand: ``python -m tests.benchmarks.clocks``. Calls are simulated with a known offset; the calls' ways
take 0.2 ms each, log-normally distributed. A midpoint takes the ways of a call to be equally long, as Jaeger
does to adjust a tree.
"""

import math
import random
import time
from collections.abc import Callable, Iterator

from ztrace_collector.layout import CLOCK_CELL_NS, SECOND_NS
from ztrace_viewer.trees.clocks import Cell, find_offset

#: Limit of the error in 95% of moments at 100 calls a minute, and simulated time.
LIMIT_NS, END_NS = 50_000, 600 * SECOND_NS
RUNS, MOMENTS = 10, 50


def simulate(
    offset_of: Callable[[int], float], chance: random.Random, a_minute: int = 100, queue_ns: float = 0
) -> Iterator[Cell]:
    """Yield the bounds that calls of ten minutes set, each a cell of its own.

    Args:
        offset_of: the offset at a time.
        chance: source of the calls.
        a_minute: calls a minute.
        queue_ns: answers wait for up to so long.
    """
    for _ in range(10 * a_minute):
        at_ns = chance.randrange(END_NS)
        there_ns, back_ns = (200_000 * math.exp(chance.gauss(0, 0.5)) for _ in range(2))
        back_ns += queue_ns * chance.random()
        truth_ns = offset_of(at_ns)
        yield Cell(at_ns, int(truth_ns - back_ns), at_ns, math.ceil(truth_ns + there_ns), 1)


def merge(calls: list[Cell]) -> list[Cell]:
    """Return the tightest bounds of each ten seconds, as the collector keeps them."""
    cells: dict[int, Cell] = {}
    for call in calls:
        key = call.low_at_ns // CLOCK_CELL_NS
        cell = cells.get(key)
        if cell is None:
            cells[key] = call
            continue
        low = max(cell, call, key=lambda each: each.low_ns)
        high = min(cell, call, key=lambda each: each.high_ns)
        cells[key] = Cell(low.low_at_ns, low.low_ns, high.high_at_ns, high.high_ns, cell.calls + 1)
    return list(cells.values())


def main() -> None:
    """Print the table."""
    print("drift  calls/min  queue   p50    p95   outside its bounds  midpoint p95  CPU")
    for drift, a_minute, queue_ns in (
        (0.0, 100, 0),
        (5e-6, 100, 0),
        (50e-6, 100, 0),
        (50e-6, 10, 0),
        (5e-6, 100, 5e6),
    ):
        chance = random.Random(1)
        errors_ns, midpoints_ns, outside, spent_s = [], [], 0, 0.0
        for _ in range(RUNS):
            start_ns = chance.uniform(-4e7, 4e7)

            def offset_of(at_ns: int, start_ns: float = start_ns, drift: float = drift) -> float:
                return start_ns + drift * at_ns

            calls = list(simulate(offset_of, chance, a_minute, queue_ns))
            cells = merge(calls)
            for call in chance.sample(calls, MOMENTS):
                at_ns, truth_ns = call.low_at_ns, offset_of(call.low_at_ns)
                begin_s = time.process_time()
                found = find_offset(cells, None, at_ns)
                spent_s += time.process_time() - begin_s
                assert found is not None
                errors_ns.append(abs(found.offset_ns - truth_ns))
                midpoints_ns.append(abs((call.low_ns + call.high_ns) / 2 - truth_ns))
                outside += not found.low_ns - 2 <= truth_ns <= found.high_ns + 2
        p50, p95 = (sorted(errors_ns)[len(errors_ns) * part // 100] / 1e3 for part in (50, 95))
        midpoint = sorted(midpoints_ns)[len(midpoints_ns) * 95 // 100] / 1e3
        each_ms = 1e3 * spent_s / (RUNS * MOMENTS)
        print(
            f"{1e6 * drift:3.0f} ppm {a_minute:8} {queue_ns / 1e6:5.0f} ms {p50:4.0f} µs {p95:4.0f} µs"
            f" {outside:12} of {RUNS * MOMENTS} {midpoint:9.0f} µs  {each_ms:.1f} ms"
        )
    print(f"limit at 100 calls a minute, without queues: p95 {LIMIT_NS / 1e3:.0f} µs")


if __name__ == "__main__":
    main()
