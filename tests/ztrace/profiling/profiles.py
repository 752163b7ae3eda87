"""Profiles as messages carry them, in a form that tests compare."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import msgpack

from ztrace.records import Profile


class Sum(NamedTuple):
    """Time of one method, stack and state; the stack is the functions' names, outermost first."""

    method: str
    stack: tuple[str, ...]
    state: int
    us: int


class Run(NamedTuple):
    """Consecutive samples of a span; ``behind`` is the id of the span that ran meanwhile."""

    stack: tuple[str, ...]
    state: int
    us: int
    behind: bytes | None


@dataclass
class Readable:
    """One message's profile.

    Attributes:
        profile: its fields.
        sums: its sums, in order.
        runs: the runs of each span, by span id.
        names: the name of each span, by span id.
    """

    profile: Profile
    sums: list[Sum]
    runs: dict[bytes, list[Run]]
    names: dict[bytes, str]


def read(body: bytes | None) -> Readable:
    """Return the profile in a body."""
    assert body is not None
    profile = Profile(*msgpack.unpackb(body))
    texts, frames, stacks = profile.texts, profile.frames, profile.stacks

    def stack_of(number: int) -> tuple[str, ...]:
        names: list[str] = []
        while number:
            parent, frame = stacks[2 * number - 2 : 2 * number]
            names.append(texts[frames[3 * frame + 1]])
            assert parent < number
            number = parent
        return tuple(reversed(names))

    def method_of(position: int) -> str:
        return texts[profile.methods[2 * position + 1]]

    def fours(flat: Any) -> list[Any]:
        return [flat[place : place + 4] for place in range(0, len(flat), 4)]

    sums = [Sum(method_of(method), stack_of(stack), *rest) for method, stack, *rest in fours(profile.sums)]
    runs = {
        span_id: [
            Run(stack_of(stack), state, us, profile.spans[behind - 1][1] if behind else None)
            for stack, state, us, behind in fours(flat)
        ]
        for _, span_id, _, flat in profile.spans
    }
    names = {span_id: method_of(method) for _, span_id, method, _ in profile.spans}
    return Readable(profile, sums, runs, names)
