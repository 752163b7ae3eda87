"""Critical paths of trees whose truth is known, beside the rule by which Jaeger's page finds them.

Run by hand: ``python -m tests.benchmarks.critical``. Programs are made up at random: own work, calls one
after the other with or without work between them, and tasks side by side that are joined. Simulating a
program gives its spans and, for each, the time for which the root's end waited. A tree is right if all of
these times are within 1% of the root's duration.

Jaeger's rule, as its page applies it: of a span's children, clipped to the span, the one that ends last is on
the path, then the span itself back to that end; before a child's start, the next child is the last one that
ended strictly before it, and without one the rest is the parent's.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ztrace_collector.settling.critical import walk_sections

TREES, MAX_DEPTH = 5_000, 4
#: Part of the root's duration by which a time may be off.
TOLERANCE = 0.01


@dataclass(slots=True)
class Spans:
    """Spans of a simulated program, by position, with the truth."""

    begins_ns: list[int] = field(default_factory=list)
    ends_ns: list[int] = field(default_factory=list)
    children: dict[int, list[int]] = field(default_factory=dict)
    lanes: list[int | None] = field(default_factory=list)
    truth_ns: list[int] = field(default_factory=list)

    def open(self, parent: int | None, begin_ns: int, lane: int) -> int:
        """Add a span that has begun."""
        position = len(self.begins_ns)
        self.begins_ns.append(begin_ns)
        self.ends_ns.append(begin_ns)
        self.lanes.append(lane)
        self.truth_ns.append(0)
        if parent is not None:
            self.children.setdefault(parent, []).append(position)
        return position


class Program:
    """Random program, run while it is made up."""

    def __init__(self, chance: random.Random) -> None:
        self.spans = Spans()
        self._chance = chance
        self._lanes = 0

    def run(self, parent: int | None, begin_ns: int, lane: int, depth: int) -> tuple[int, dict[int, int]]:
        """Run a call; return its end, and the time of each span on the path through it."""
        position = self.spans.open(parent, begin_ns, lane)
        now_ns, path = self._work(position, begin_ns, lane, depth)
        self.spans.ends_ns[position] = now_ns
        return now_ns, path

    def _work(self, position: int, begin_ns: int, lane: int, depth: int) -> tuple[int, dict[int, int]]:
        """Do some steps within a span, in a lane."""
        chance, now_ns, path = self._chance, begin_ns, dict[int, int]()

        def add(times: dict[int, int]) -> None:
            for each, time_ns in times.items():
                path[each] = path.get(each, 0) + time_ns

        for _ in range(chance.randint(1, 4)):
            if depth == MAX_DEPTH or chance.random() < 0.4:
                own_ns = chance.randint(1, 1_000)
                now_ns += own_ns
                add({position: own_ns})
            elif chance.random() < 0.6:
                now_ns, times = self.run(position, now_ns, lane, depth + 1)
                add(times)
            else:
                now_ns, times = self._gather(position, now_ns, depth)
                add(times)
        if now_ns == begin_ns:
            now_ns += 1
            add({position: 1})
        return now_ns, path

    def _gather(self, position: int, begin_ns: int, depth: int) -> tuple[int, dict[int, int]]:
        """Run tasks side by side within a span; the last one to end is waited for."""
        last: tuple[int, dict[int, int]] = begin_ns, {}
        for _ in range(self._chance.randint(2, 3)):
            self._lanes += 1
            now_ns, path = begin_ns, dict[int, int]()
            lane = self._lanes
            for _ in range(self._chance.randint(1, 3)):
                if self._chance.random() < 0.5:
                    own_ns = self._chance.randint(1, 500)
                    now_ns += own_ns
                    path[position] = path.get(position, 0) + own_ns
                now_ns, times = self.run(position, now_ns, lane, depth + 1)
                for each, time_ns in times.items():
                    path[each] = path.get(each, 0) + time_ns
            last = max(last, (now_ns, path), key=lambda task: task[0])
        return last


def find_ours(spans: Spans, lanes: list[int | None]) -> list[int]:
    """Return each span's time on the path, as ztrace finds it."""
    times_ns = [0] * len(lanes)
    process = [0] * len(lanes)
    sections = walk_sections(spans.begins_ns, spans.ends_ns, spans.children, process, lanes, 0)
    for position, begin_ns, end_ns in sections:
        times_ns[position] += end_ns - begin_ns
    return times_ns


def find_by_jaegers_rule(spans: Spans) -> list[int]:
    """Return each span's time on the path by the rule above."""
    times_ns = [0] * len(spans.begins_ns)
    above: dict[int, int] = {child: span for span, each in spans.children.items() for child in each}
    position, before_ns = 0, None
    while True:
        until_ns = spans.ends_ns[position] if before_ns is None else before_ns
        ended = [
            child
            for child in spans.children.get(position, ())
            if before_ns is None or spans.ends_ns[child] < before_ns
        ]
        if ended:
            child = max(ended, key=lambda each: spans.ends_ns[each])
            times_ns[position] += until_ns - spans.ends_ns[child]
            position, before_ns = child, None
            continue
        times_ns[position] += until_ns - spans.begins_ns[position]
        if position not in above:
            return times_ns
        position, before_ns = above[position], spans.begins_ns[position]


def main() -> None:
    """Print the table."""
    chance = random.Random(1)
    made: list[Spans] = []
    while len(made) < TREES:
        program = Program(chance)
        _, path = program.run(None, 0, 0, 0)
        if 3 <= len(program.spans.begins_ns) <= 300:
            for position, time_ns in path.items():
                program.spans.truth_ns[position] = time_ns
            made.append(program.spans)
    count = sum(len(spans.lanes) for spans in made)
    print(f"{TREES:,} trees of {count / TREES:.1f} spans")
    finders: dict[str, Callable[[Spans], list[int]]] = {
        "ztrace, with lanes": lambda spans: find_ours(spans, spans.lanes),
        "ztrace, without lanes": lambda spans: find_ours(spans, [None] * len(spans.lanes)),
        "Jaeger's rule": find_by_jaegers_rule,
    }
    for name, find in finders.items():
        begin_s, right = time.process_time(), 0
        for spans in made:
            limit_ns = TOLERANCE * spans.ends_ns[0]
            times_ns = find(spans)
            right += all(
                abs(one - other) <= limit_ns for one, other in zip(times_ns, spans.truth_ns, strict=True)
            )
        each_us = 1e6 * (time.process_time() - begin_s) / count
        print(f"{name:24} {right / TREES:6.1%} of the trees right, {each_us:.1f} µs a span")


if __name__ == "__main__":
    main()
