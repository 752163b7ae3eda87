"""Encoding of a profile into the body of a PROFILE message.

One idea: a message has all that is needed to read it. The stacks are a tree, in which each is the stack of
its caller and one frame more, so what many of them have in common is sent once.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import msgpack

from ztrace import diagnostics
from ztrace.profiling.gathering import Gathering, SpanRuns
from ztrace.profiling.stacks import UNKNOWN, Stacks, fit
from ztrace.records import Profile
from ztrace.scrubbing.rules import Rules
from ztrace.wire import MAX_BODY_BYTES

#: Reason for a profile that is too large for a message, as shown by ``ztrace status``; its samples are lost.
TOO_LARGE = "profile_too_large"

#: Nonce of a request, and one of STARTED, FINISHED and DECLINED.
Answer = tuple[bytes, int]


class _Table:
    """Items and their positions."""

    def __init__(self) -> None:
        self.positions: dict[Any, int] = {}

    def place(self, item: object) -> int:
        """Return the position of an item, which is added at the end if it is new."""
        return self.positions.setdefault(item, len(self.positions))

    def flatten(self) -> list[int]:
        """Return the numbers of all items, which are tuples of numbers, in order."""
        return list(chain.from_iterable(self.positions))


class _Tables:
    """Tables of one message."""

    def __init__(self, stacks: Stacks, rules: Rules | None) -> None:
        self.texts, self.frames, self.nodes, self.methods = _Table(), _Table(), _Table(), _Table()
        self._stacks = stacks
        self._rules = rules
        self._known = {UNKNOWN: UNKNOWN}

    def place_stack(self, number: int) -> int:
        """Return the number that a stack has in the message."""
        node = self._known.get(number)
        if node is None:
            node = UNKNOWN
            for file, function, line in self._stacks.locate(number):
                frame = self.frames.place((self.texts.place(file), self.texts.place(function), line))
                node = 1 + self.nodes.place((node, frame))
            self._known[number] = node
        return node

    def place_method(self, method: tuple[int, str]) -> int:
        """Return the position of a method; secrets in its name are removed, as in a span's."""
        kind, name = method
        name = fit(name)
        return self.methods.place((kind, self.texts.place(self._rules.scrub(name) if self._rules else name)))


def encode(
    gathering: Gathering,
    first: int,
    end_ns: int,
    *,
    offset_ns: int = 0,
    answers: Sequence[Answer] = (),
    sums: bool = True,
    run_age_ns: int = 0,
    rules: Rules | None = None,
) -> bytes | None:
    """Return the body of a message.

    Args:
        gathering: the samples.
        first: number of the first sample.
        end_ns: end of the profile, by the monotonic clock.
        offset_ns: Unix time minus the monotonic clock.
        answers: answers to requests.
        sums: whether to include the sums by method.
        run_age_ns: age from which a span's own samples are included.
        rules: definition of secrets; None to keep everything.

    Returns:
        None if the body would be too large.
    """
    tables = _Tables(gathering.stacks, rules)
    summed: list[int] = []
    if sums:
        for (method, stack, state), ns in gathering.sums.items():
            summed += tables.place_method(method), tables.place_stack(stack), state, _round(ns)
    spans = _choose_spans(gathering, run_age_ns)
    positions = {seen.span_id: 1 + position for position, seen in enumerate(spans)}
    rows = [
        [seen.trace_id, seen.span_id, tables.place_method(seen.method), _flatten(seen, tables, positions)]
        if seen.age_ns >= run_age_ns
        else [seen.trace_id, seen.span_id, tables.place_method(seen.method), []]
        for seen in spans
    ]
    body: bytes = msgpack.packb(
        Profile(
            first=first,
            samples=gathering.samples,
            start_ns=gathering.start_ns + offset_ns,
            end_ns=end_ns + offset_ns,
            answers=answers,
            texts=list(tables.texts.positions),
            frames=tables.frames.flatten(),
            stacks=tables.nodes.flatten(),
            methods=tables.methods.flatten(),
            sums=summed,
            spans=rows,
        )
    )
    if len(body) > MAX_BODY_BYTES:
        diagnostics.count(TOO_LARGE)
        return None
    return body


def _choose_spans(gathering: Gathering, run_age_ns: int) -> list[SpanRuns]:
    """Return the spans that are old enough, and those that they waited for."""
    chosen = {
        seen.span_id: seen for seen in gathering.spans.values() if seen.runs and seen.age_ns >= run_age_ns
    }
    for seen in list(chosen.values()):
        for run in seen.runs:
            if run.behind is not None:
                chosen.setdefault(run.behind, gathering.spans[run.behind])
    return list(chosen.values())


def _flatten(seen: SpanRuns, tables: _Tables, positions: dict[bytes, int]) -> list[int]:
    """Return the numbers of a span's runs."""
    flat: list[int] = []
    for run in seen.runs:
        behind = 0 if run.behind is None else positions[run.behind]
        flat += tables.place_stack(run.stack), run.state, _round(run.ns), behind
    return flat


def _round(ns: int) -> int:
    return (ns + 500) // 1000
