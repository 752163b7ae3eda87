"""Lanes of a process, in which calls nest as in a thread.

One idea: calls of one process that lie within each other are a block, and no two blocks in a lane overlap.
"""

import heapq
from dataclasses import dataclass, field

from ztrace_viewer.trees.forest import Forest

#: Ancestors searched for a call in the same process; recursion over more processes gets a lane of its own.
_MAX_HOPS = 64


@dataclass(slots=True)
class Block:
    """Spans of one process that nest.

    Attributes:
        instance: the process.
        positions: the spans, the outermost first and then by start.
    """

    instance: int
    start_ns: int
    end_ns: int
    positions: list[int] = field(default_factory=list)


class Lanes:
    """The lanes of one process; a block takes the lowest one that is free from its start on."""

    def __init__(self) -> None:
        #: End of the last block of each lane.
        self._ends_ns: list[int] = []
        #: Lanes in use, by that end, and lanes that were free at the start of an earlier block.
        self._busy: list[tuple[int, int]] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._ends_ns)

    def place(self, block: Block) -> int:
        """Return the lane of a block.

        The cost is logarithmic where blocks come by their start. Blocks of overlapping trees may come out of
        order; a lane whose last block ends later is then in use again.
        """
        # A block that starts at the very end of another is put beside it: their order would be a guess.
        while self._busy and self._busy[0][0] < block.start_ns:
            heapq.heappush(self._free, heapq.heappop(self._busy)[1])
        lane = None
        while self._free and lane is None:
            lowest = heapq.heappop(self._free)
            if self._ends_ns[lowest] < block.start_ns:
                lane = lowest
            else:
                heapq.heappush(self._busy, (self._ends_ns[lowest], lowest))
        if lane is None:
            lane = len(self._ends_ns)
            self._ends_ns.append(block.end_ns)
        self._ends_ns[lane] = block.end_ns
        heapq.heappush(self._busy, (block.end_ns, lane))
        return lane


def find_blocks(forest: Forest) -> list[Block]:
    """Return the blocks of a tree, by their start."""
    blocks: list[Block] = []
    block_of: dict[int, int] = {}
    #: Spans of each block that are open at the current time, the innermost last.
    opened: list[list[int]] = []
    ends_ns = [span.start_ns + span.duration_ns for span in forest.spans]
    for position in sorted(range(len(forest.spans)), key=lambda each: (forest.spans[each].start_ns, each)):
        span = forest.spans[position]
        caller = _find_caller(forest, position)
        number = None if caller is None else block_of.get(caller)
        if number is not None:
            stack = opened[number]
            while stack and ends_ns[stack[-1]] <= span.start_ns:
                stack.pop()
            if not (stack and stack[-1] == caller and ends_ns[position] <= ends_ns[stack[-1]]):
                number = None
        if number is None:
            number = len(blocks)
            blocks.append(Block(span.instance, span.start_ns, ends_ns[position]))
            opened.append([])
        block_of[position] = number
        blocks[number].positions.append(position)
        opened[number].append(position)
    return blocks


def _find_caller(forest: Forest, position: int) -> int | None:
    """Return the nearest span above that is in the same process."""
    instance = forest.spans[position].instance
    above = forest.parents[position]
    for _ in range(_MAX_HOPS):
        if above is None or forest.spans[above].instance == instance:
            return above
        above = forest.parents[above]
    return None
