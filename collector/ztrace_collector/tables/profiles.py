"""Sampled code of publishers' profiles: numbers of a message become ids of the file.

One idea: a message has its own tables, so it is stored without any other, whichever were lost before it.
"""

import sqlite3
from collections.abc import Iterator, Sequence

import msgpack

from ztrace.records import Profile
from ztrace_collector.checking.profiles import FRAME, METHOD, RUN, STACK, SUM
from ztrace_collector.checking.text import is_whole, mended
from ztrace_collector.layout import HOUR_NS, MINUTE_NS
from ztrace_collector.refusals import TOO_MANY_STACKS, Refusals
from ztrace_collector.tables.code import MAX_DEPTH, NO_STACK, Code
from ztrace_collector.tables.methods import Methods
from ztrace_collector.tables.stack_sums import SpanStacks, StackSums


class Profiles:
    """Tables of sampled code, with the changes of the transaction in progress."""

    def __init__(self, db: sqlite3.Connection, methods: Methods) -> None:
        self._db = db
        self._methods = methods
        self._code = Code(db)
        self._sums = StackSums(db)
        self._spans = SpanStacks(db)

    def forget(self) -> None:
        """Drop everything from memory after a rollback, or after rows were deleted."""
        self._code.forget()
        self._sums.forget()
        self._spans.forget()

    def trim(self) -> None:
        """Bound the memory, after a commit."""
        self._code.trim()

    def add(self, instance: int, service: str, profile: Profile, now_ns: int, refusals: Refusals) -> None:
        """Add a publisher's profile; `write` has to follow in the same transaction.

        Args:
            instance: the publisher.
            service: its service.
            profile: the profile, checked.
            now_ns: time of its arrival, Unix.
            refusals: counts stacks beyond the bounds.
        """
        self._code.begin(now_ns // HOUR_NS)
        stacks = self._number_stacks(service, profile, refusals)
        methods = [
            self._methods[service, _whole(profile.texts[name]), kind]
            for kind, name in _split(profile.methods, METHOD)
        ]
        minute = profile.end_ns // MINUTE_NS
        for method, stack, state, us in _split(profile.sums, SUM):
            self._sums.add(service, minute, methods[method], stacks[stack], state, us, refusals)
        for trace_id, span_id, _, runs in profile.spans:
            if runs:
                packed = _pack_runs(profile, runs, stacks, methods)
                self._spans.add(instance, trace_id, span_id, profile.start_ns, packed)
        for nonce, state in profile.answers:
            self._db.execute(
                "INSERT INTO profile_answers (nonce, instance, state, at_ns) SELECT nonce, ?, ?, ?"
                " FROM profile_requests WHERE nonce = ?"
                " ON CONFLICT DO UPDATE SET state = max(state, excluded.state), at_ns = excluded.at_ns",
                (instance, state, now_ns, nonce),
            )

    def write(self, now_ns: int) -> None:
        """Write the rows of everything added."""
        self._sums.write(now_ns)
        self._spans.write()

    def _number_stacks(self, service: str, profile: Profile, refusals: Refusals) -> list[int]:
        """Return the id of each stack of a message, by the number that it has there."""
        texts = profile.texts
        frames = [
            self._code.frame(texts[file], texts[function], line)
            for file, function, line in _split(profile.frames, FRAME)
        ]
        stacks, depths = [NO_STACK], [0]
        for parent, frame in _split(profile.stacks, STACK):
            depths.append(depths[parent] + 1)
            if depths[-1] > MAX_DEPTH:
                refusals.note(TOO_MANY_STACKS, f"of {service}, too deep")
                stacks.append(stacks[parent])
            else:
                stacks.append(self._code.stack(service, stacks[parent], frames[frame], refusals))
        return stacks


def _pack_runs(profile: Profile, runs: Sequence[int], stacks: list[int], methods: list[int]) -> bytes:
    """Return the runs of a span as they are stored, with the spans that ran meanwhile."""
    behind: dict[int, int] = {0: 0}
    flat: list[int] = []
    for stack, state, us, other in _split(runs, RUN):
        flat += (stacks[stack], state, us, behind.setdefault(other, len(behind)))
    spans = [profile.spans[other - 1] for other in behind if other]
    others = [[trace_id, span_id, methods[method]] for trace_id, span_id, method, _ in spans]
    packed: bytes = msgpack.packb([flat, others])
    return packed


def _split(values: Sequence[int], width: int) -> Iterator[tuple[int, ...]]:
    """Yield the items of a flat array, each of some integers."""
    return zip(*(values[place::width] for place in range(width)), strict=True)


def _whole(name: str) -> str:
    return name if is_whole(name) else mended(name)
