"""Lanes of a process, in which calls nest as in a thread.

One idea: nested calls in one process form a block, and a block takes the first lane that is free at its time.
Trees arrive in the order in which they began, so lanes forget blocks that ended before.
"""

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
    """Lanes of one process."""

    def __init__(self) -> None:
        #: Times at which each lane is taken: (begin, end).
        self._taken: list[list[tuple[int, int]]] = []

    def __len__(self) -> int:
        return len(self._taken)

    def place(self, block: Block, tree_start_ns: int) -> int:
        """Return the lane of a block.

        Args:
            block: of one tree.
            tree_start_ns: start of the tree; no later block begins before.
        """
        for lane, taken in enumerate(self._taken):
            # Blocks of which one ends when the other begins get two lanes: their order is unknown.
            left = [(begin, end) for begin, end in taken if end >= tree_start_ns]
            self._taken[lane] = left
            if all(end < block.start_ns or begin > block.end_ns for begin, end in left):
                left.append((block.start_ns, block.end_ns))
                return lane
        self._taken.append([(block.start_ns, block.end_ns)])
        return len(self._taken) - 1


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
